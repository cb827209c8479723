"""Our own networks, optimisers and augmentations in PyTorch, to compare times; needs `bench`.

Networks that other packages have too are in `torch_zoo`.
"""

import math

import torch
from torch import nn
from torch.nn import functional

from jaxcifar.devices.cpu_facts import bfloat16_is_quicker


def in_the_precision_of(config, device):
    """Return the context that gives PyTorch the precision that `config` gives jaxcifar with oneDNN."""
    narrow = device == "cuda" or bfloat16_is_quicker()
    enabled = config.precision == "bfloat16" or (config.precision == "auto" and narrow)
    return torch.autocast(device, torch.bfloat16, enabled=enabled)


class Scaled(nn.Module):
    """Divide by a constant."""

    def __init__(self, divisor):
        super().__init__()
        self.divisor = divisor

    def forward(self, x):
        return x / self.divisor


def conv(inward, outward, size, stride=1):
    return nn.Conv2d(inward, outward, size, stride, padding=size // 2, bias=False)


def conv_norm(inward, outward, size, stride=1):
    return conv(inward, outward, size, stride), nn.BatchNorm2d(outward, momentum=0.1)


ACTIVATIONS = {
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "leaky_relu": nn.LeakyReLU,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}


def cnn(*, widths, convs_per_block, kernel_size, activation, dropout_rate, dense_width):
    if dense_width:
        raise SystemExit("the PyTorch side of cnn knows no hidden dense layer")
    layers, inward, active = [], 3, ACTIVATIONS[activation]
    for width, convs in zip(widths, convs_per_block, strict=True):
        kernel, norm = conv_norm(inward, width, kernel_size)
        layers += [kernel, nn.MaxPool2d(2), norm, active()]
        for _ in range(convs - 1):
            layers += [*conv_norm(width, width, kernel_size), active()]
        inward = width
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout_rate), nn.Linear(inward, 10)]
    return nn.Sequential(*layers, *head)


def speednet(*, widths):
    whitening = nn.Conv2d(3, 24, 2)
    whitening.weight.requires_grad = False
    nn.init.zeros_(whitening.bias)
    layers, inward = [whitening, nn.GELU()], 24
    for width in widths:
        for pool in (nn.MaxPool2d(2), nn.Identity()):
            kernel, norm = conv(inward, width, 3), nn.BatchNorm2d(width, eps=1e-12, momentum=0.4)
            nn.init.dirac_(kernel.weight.data[:inward])
            norm.weight.requires_grad = False
            layers += [kernel, pool, norm, nn.GELU()]
            inward = width
    head = nn.Linear(inward, 10, bias=False)
    nn.init.normal_(head.weight)
    return nn.Sequential(*layers, nn.AdaptiveMaxPool2d(1), nn.Flatten(), head, Scaled(inward))


MODELS = {"cnn": cnn, "speednet": speednet}


@torch.no_grad()
def whiten(model, images):
    """Set the first kernel of a speednet from normalised `images`."""
    patches = functional.unfold(images, 2).transpose(1, 2).reshape(-1, 12)
    variances, directions = torch.linalg.eigh(patches.T @ patches / len(patches))
    kernel = (directions / (variances + 5e-4).sqrt()).T.reshape(12, 3, 2, 2)
    model[0].weight.copy_(torch.cat([kernel, -kernel]))


class Muon(torch.optim.Optimizer):
    """Muon for convolutions, as in `jaxcifar.optim.optimizers.muon`."""

    def __init__(self, kernels, *, lr, momentum, newton_schulz_steps):
        super().__init__(kernels, {"lr": lr, "momentum": momentum, "rounds": newton_schulz_steps})
        self.orthogonal = torch.compile(orthogonal) if kernels[0].is_cuda else orthogonal

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for kernel in group["params"]:
                state = self.state[kernel]
                if not state:
                    state["velocity"] = torch.zeros_like(kernel)
                velocity = state["velocity"].mul_(group["momentum"]).add_(kernel.grad)
                update = kernel.grad + group["momentum"] * velocity
                kernel.mul_(math.sqrt(len(kernel)) / kernel.norm())
                change = self.orthogonal(update.flatten(1), group["rounds"]).view_as(kernel)
                kernel.sub_(group["lr"] * change)


def orthogonal(matrix, rounds):
    """Return `matrix` with its singular values near one, by Newton-Schulz iterations."""
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x.bfloat16() if x.is_cuda else x
    x = x / (x.norm() + 1e-8)
    for _ in range(rounds):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return (x.T if tall else x).to(matrix.dtype)


def optimizers(model, options):
    """Return the optimisers that `config.optimizer` names: Adam, SGD, or Muon and Nesterov SGD."""
    embeddings = [getattr(model, name, None) for name in ("cls_token", "pos_embed")]
    embeddings = [p for p in embeddings if p is not None]
    learnt = [p for p in model.parameters() if p.requires_grad]
    decayed = [p for p in learnt if p.ndim > 1 and not any(p is other for other in embeddings)]
    others = [p for p in learnt if not any(p is other for other in decayed)]
    groups = [{"params": decayed, "weight_decay": options.l2_penalty}, {"params": others}]
    if options.name == "sgd" and not options.sgd.weight_decay:
        momentum, nesterov = options.sgd.momentum, options.sgd.nesterov
        rate = options.learning_rate
        return [torch.optim.SGD(groups, lr=rate, momentum=momentum, nesterov=nesterov, fused=True)]
    if options.name == "adam":
        betas = (options.adam.beta1, options.adam.beta2)
        adam = torch.optim.Adam(
            groups, lr=options.learning_rate, betas=betas, eps=options.adam.epsilon, fused=True
        )
        return [adam]
    if options.name != "muon" or embeddings:
        raise SystemExit(
            "the PyTorch side knows adam, sgd without weight_decay, and for convolutional networks muon"
        )
    muon, rate = options.muon, options.learning_rate
    # PyTorch's decay goes through the momentum, which makes it 1 / (1 - momentum) times as large.
    decay = muon.weight_decay * (1 - muon.sgd_momentum)
    groups = [
        {
            "params": [p for p in learnt if p.ndim == ndim],
            "lr": rate * multiplier,
            "weight_decay": decay / multiplier,
        }
        for ndim, multiplier in ((1, muon.bias_multiplier), (2, muon.head_multiplier))
    ]
    sgd = torch.optim.SGD(groups, momentum=muon.sgd_momentum, nesterov=True, fused=True)
    kernels = [p for p in learnt if p.ndim == 4]
    steps = muon.newton_schulz_steps
    return [sgd, Muon(kernels, lr=rate, momentum=muon.momentum, newton_schulz_steps=steps)]


def logits_of_views(model, images):
    """Return the logits under the test-time augmentation of airbench: `mirror_translate` here."""
    around = functional.pad(images, (1,) * 4, mode="reflect")
    shifted = [around[:, :, i : i + images.shape[2], i : i + images.shape[3]] for i in (0, 2)]
    both = lambda images: 0.5 * model(images) + 0.5 * model(images.flip(3))
    return 0.5 * both(images) + 0.25 * both(shifted[0]) + 0.25 * both(shifted[1])


def augmented(images, options, mirrored):
    """Return `images: [batch, 3, height, width]` in [0, 1] under `config.augmentation`.

    `mirrored: [batch] bool` says which images are flipped. Implemented are flips, crop, jitter of brightness,
    contrast and saturation in RGB, and cutout; jitter of the hue is not.
    """
    count, side = len(images), images.shape[-1]
    if options.flip.enabled or options.alternating_flip.enabled:
        images = torch.where(mirrored.view(-1, 1, 1, 1), images.flip(3), images)
    if options.crop.enabled:
        padding = options.crop.padding
        padded = functional.pad(images, (padding,) * 4, mode="reflect")
        shifts = torch.randint(0, 2 * padding + 1, (2, count), device=images.device)
        reach = torch.arange(side, device=images.device)
        rows, columns = shifts[:, :, None] + reach
        row = torch.arange(count, device=images.device)[:, None, None]
        images = padded.permute(0, 2, 3, 1)[row, rows[:, :, None], columns[:, None]]
        images = images.permute(0, 3, 1, 2)
    jitter = options.color_jitter
    if jitter.enabled:
        limits = (jitter.brightness, jitter.contrast, jitter.saturation)
        draws = (2 * torch.rand(3, count, 1, 1, device=images.device) - 1).unbind()
        bright, contrast, saturation = (1 + draw * x for draw, x in zip(draws, limits, strict=True))
        luma = torch.tensor([0.299, 0.587, 0.114], device=images.device)
        grey = luma.expand(3, 3)
        colour = saturation * torch.eye(3, device=images.device) + (1 - saturation) * grey
        mean = images.mean((2, 3)) @ grey.T
        offset = ((1 - contrast) * bright * mean[:, :, None]).squeeze(2)
        matrix = contrast * bright * colour
        images = torch.einsum("bij,bjhw->bihw", matrix, images) + offset[:, :, None, None]
        images = images.clamp(0, 1)
    if options.cutout.enabled:
        reach = torch.arange(side, device=images.device) + options.cutout.size // 2
        corners = torch.randint(0, side, (2, count, 1), device=images.device)
        rows, columns = (reach - corners >= 0) & (reach - corners < options.cutout.size)
        images = torch.where((rows[:, :, None] & columns[:, None])[:, None], 0.5, images)
    return images

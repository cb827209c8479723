"""The network families in PyTorch, which ours are compared with; most are torchvision's and timm's.

`MODELS[family](classes, **options)` takes all options of `jaxcifar.models.MODELS[family]`. It returns a
network for images of 32×32 pixels. `resnet`, `densenet`, `vgg`, `mobilenet_v2` and `shufflenet_v2` are built
from torchvision, `vit` from timm; `stem="cifar"` replaces the stem of the library. `cifar_resnet`,
`wide_resnet` and `mlperf_resnet` are in neither library. They are written here, and need PyTorch alone.
"""

import contextlib
import functools
import importlib
import re
import sys

import numpy as np
import torch
from torch import nn
from torch.nn import functional


@functools.cache
def _declared_operators():
    """Declare the operators that torchvision's import looks for in its compiled part."""
    declared = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        declared.define(f"{name}(Tensor a) -> Tensor")
    return declared


def imported(name):
    """Import a module of torchvision or timm.

    torchvision may be a wheel for another build of PyTorch. The compiled part of such a wheel does not load.
    It has operators for the detection of objects, which the networks here do not need.
    """
    with contextlib.redirect_stdout(sys.stderr):  # timm prints what it misses to stdout
        try:
            return importlib.import_module(name)
        except RuntimeError as error:
            if "operator torchvision::" not in str(error):
                raise
            _declared_operators()
            return importlib.import_module(name)


def small_stem(width):
    """Return the convolution with which networks for small images begin."""
    return nn.Conv2d(3, width, 3, padding=1, bias=False)


def resnet(classes=10, *, widths, blocks_per_stage, block, stem):
    module = imported("torchvision.models.resnet")
    kind = {"basic": module.BasicBlock, "bottleneck": module.Bottleneck}[block]
    if len(widths) != 4:
        raise SystemExit(f"the PyTorch side of resnet has four stages, not {len(widths)}")
    model = module.ResNet(kind, blocks_per_stage, classes)
    # The constructor has fixed widths: the layers are made again, by its own method.
    model.inplanes = widths[0]
    model.conv1 = nn.Conv2d(3, widths[0], 7, 2, padding=3, bias=False)
    model.bn1 = nn.BatchNorm2d(widths[0])
    for stage, (width, blocks) in enumerate(zip(widths, blocks_per_stage, strict=True)):
        layer = model._make_layer(kind, width, blocks, 2 if stage else 1)
        setattr(model, f"layer{stage + 1}", layer)
    model.fc = nn.Linear(model.inplanes, classes)
    if stem == "cifar":
        model.conv1, model.maxpool = small_stem(widths[0]), nn.Identity()
    return model


def densenet(classes=10, *, growth_rate, layers_per_block, compression, stem):
    if compression != 0.5:
        raise SystemExit(
            f"the PyTorch side of densenet has a compression of 0.5, not {compression}"
        )
    width = 2 * growth_rate
    build = imported("torchvision.models.densenet").DenseNet
    model = build(growth_rate, layers_per_block, width, num_classes=classes)
    if stem == "cifar":
        model.features.conv0 = small_stem(width)
        del model.features.norm0, model.features.relu0, model.features.pool0
    return model


def vgg(classes=10, *, widths, convs_per_block):
    layers = []
    for width, convs in zip(widths, convs_per_block, strict=True):
        layers += [width] * convs + ["M"]
    features = imported("torchvision.models.vgg").make_layers(layers, batch_norm=True)
    return nn.Sequential(features, *head(widths[-1], classes))


def mobilenet_v2(
    classes=10, *, stem_width, widths, blocks_per_stage, last_width, dropout_rate, stem
):
    scale = stem_width / 32  # by which torchvision multiplies all widths
    strides = (1, 2, 2, 2, 1, 2, 1) if stem == "imagenet" else (1, 1, 2, 2, 1, 2, 1)
    stages = [
        (6 if stage else 1, width / scale, blocks, stride)
        for stage, (width, blocks, stride) in enumerate(
            zip(widths, blocks_per_stage, strides, strict=True)
        )
    ]
    build = imported("torchvision.models.mobilenetv2").MobileNetV2
    model = build(classes, scale, stages, round_nearest=1, dropout=dropout_rate)
    if stem == "cifar":
        model.features[0][0].stride = (1, 1)
    model.features[-1][0] = nn.Conv2d(widths[-1], last_width, 1, bias=False)
    model.features[-1][1] = nn.BatchNorm2d(last_width)
    model.classifier[1] = nn.Linear(last_width, classes)
    return model


def shufflenet_v2(classes=10, *, stem_width, widths, blocks_per_stage, last_width, stem):
    build = imported("torchvision.models.shufflenetv2").ShuffleNetV2
    model = build(blocks_per_stage, (stem_width, *widths, last_width), classes)
    if stem == "cifar":
        model.conv1[0].stride, model.maxpool = (1, 1), nn.Identity()
    return model


def vit(classes=10, *, patch_size, width, depth, heads, mlp_ratio, stochastic_depth_rate):
    return imported("timm.models.vision_transformer").VisionTransformer(
        img_size=32,
        patch_size=patch_size,
        embed_dim=width,
        depth=depth,
        num_heads=heads,
        mlp_ratio=mlp_ratio,
        drop_path_rate=stochastic_depth_rate,
        num_classes=classes,
    )


def head(width, classes):
    return nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes)


class Sum(nn.Module):
    """Add a branch and a shortcut, and apply ReLU."""

    def __init__(self, branch, shortcut):
        super().__init__()
        self.branch, self.shortcut = branch, shortcut

    def forward(self, x):
        return functional.relu(self.branch(x) + self.shortcut(x))


class Subsampled(nn.Module):
    """Take every `stride`-th pixel, and add `missing` channels of zeros, half before and half after."""

    def __init__(self, stride, missing):
        super().__init__()
        self.stride, self.before, self.after = stride, missing // 2, missing - missing // 2

    def forward(self, x):
        few = x[:, :, :: self.stride, :: self.stride]
        return functional.pad(few, (0, 0, 0, 0, self.before, self.after))


def cifar_resnet(classes=10, *, widths, blocks_per_stage, shortcut):
    inward = widths[0]
    layers = [small_stem(inward), nn.BatchNorm2d(inward), nn.ReLU()]
    for stage, (width, blocks) in enumerate(zip(widths, blocks_per_stage, strict=True)):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            branch = nn.Sequential(
                nn.Conv2d(inward, width, 3, stride, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
                nn.Conv2d(width, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
            )
            if stride == 1 and inward == width:
                other = nn.Identity()
            elif shortcut == "A":
                other = Subsampled(stride, width - inward)
            else:
                projection = nn.Conv2d(inward, width, 1, stride, bias=False)
                other = nn.Sequential(projection, nn.BatchNorm2d(width))
            layers.append(Sum(branch, other))
            inward = width
    return nn.Sequential(*layers, *head(inward, classes))


class PreActivation(nn.Module):
    """A block of a wide network; its shortcut is a projection of the activated images, or the images."""

    def __init__(self, inward, outward, stride, dropout_rate):
        super().__init__()
        self.activate = nn.Sequential(nn.BatchNorm2d(inward), nn.ReLU())
        self.branch = nn.Sequential(
            nn.Conv2d(inward, outward, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(outward),
            nn.ReLU(),
            nn.Dropout(dropout_rate),
            nn.Conv2d(outward, outward, 3, padding=1, bias=False),
        )
        same_shape = stride == 1 and inward == outward
        self.project = None if same_shape else nn.Conv2d(inward, outward, 1, stride, bias=False)

    def forward(self, x):
        active = self.activate(x)
        shortcut = x if self.project is None else self.project(active)
        return shortcut + self.branch(active)


def wide_resnet(classes=10, *, depth, widening_factor, dropout_rate):
    layers, inward = [small_stem(16)], 16
    for stage in range(3):
        width = 16 * 2**stage * widening_factor
        for block in range((depth - 4) // 6):
            stride = 2 if stage and not block else 1
            layers.append(PreActivation(inward, width, stride, dropout_rate))
            inward = width
    return nn.Sequential(*layers, nn.BatchNorm2d(inward), nn.ReLU(), *head(inward, classes))


class KerasConv(nn.Conv2d):
    """A 3×3 convolution with the padding of Keras: an odd line of zeros is below, or on the right."""

    def __init__(self, inward, outward, stride):
        super().__init__(inward, outward, 3, stride)

    def forward(self, x):
        total = (2 - (size - 1) % self.stride[0] for size in x.shape[2:])
        rows, columns = ((zeros // 2, zeros - zeros // 2) for zeros in total)
        return super().forward(functional.pad(x, (*columns, *rows)))


def mlperf_resnet(classes=10, *, widths):
    norm = functools.partial(nn.BatchNorm2d, eps=1e-3, momentum=0.01)
    inward = widths[0]
    layers = [KerasConv(3, inward, 1), norm(inward), nn.ReLU()]
    for stage, width in enumerate(widths):
        stride = 2 if stage else 1
        branch = nn.Sequential(
            *(KerasConv(inward, width, stride), norm(width), nn.ReLU()),
            *(KerasConv(width, width, 1), norm(width)),
        )
        shortcut = nn.Conv2d(inward, width, 1, stride) if stage else nn.Identity()
        layers.append(Sum(branch, shortcut))
        inward = width
    return nn.Sequential(*layers, *head(inward, classes))


MODELS = {
    "resnet": resnet,
    "cifar_resnet": cifar_resnet,
    "mlperf_resnet": mlperf_resnet,
    "wide_resnet": wide_resnet,
    "densenet": densenet,
    "vgg": vgg,
    "mobilenet_v2": mobilenet_v2,
    "shufflenet_v2": shufflenet_v2,
    "vit": vit,
}


LAYERS = {
    "Conv": nn.Conv2d,
    "BatchNorm": nn.BatchNorm2d,
    "LayerNorm": nn.LayerNorm,
    "Dense": nn.Linear,
}
TENSORS = {
    "kernel": "weight",
    "scale": "weight",
    "mean": "running_mean",
    "var": "running_var",
    "class_token": "cls_token",
    "position_embedding": "pos_embed",
}
"""PyTorch's names of tensors, where they differ from ours."""

AXES = {4: (2, 3, 1, 0), 2: (1, 0)}
"""The order in which our kernels have PyTorch's axes, for convolutions (4 axes) and dense layers (2)."""


def counterparts(model, names):
    """Return PyTorch's tensors by our names; the layers of each kind are matched in order of definition."""
    modules = {}
    for kind, layer in LAYERS.items():
        ours = {name.rpartition("/")[0] for name in names if f"{kind}_" in name}
        theirs = (module for module in model.modules() if isinstance(module, layer))
        modules |= zip(sorted(ours, key=_place), theirs, strict=True)
    return {name: _tensor(model, modules, name) for name in names}


def _tensor(model, modules, name):
    path, _, leaf = name.rpartition("/")
    return getattr(modules.get(path, model), TENSORS.get(leaf, leaf))


def _place(path):
    """Return the key that sorts layers in order of definition: blocks before later layers, 2 before 10."""
    return -path.count("/"), [int(number) for number in re.findall(r"\d+", path)]


def as_ours(tensor):
    """Return a view of one of PyTorch's tensors with the axes in our order."""
    return tensor.permute(AXES[tensor.ndim]) if tensor.ndim in AXES else tensor


@torch.no_grad()
def load(model, arrays):
    """Copy our variables, by name, into a model."""
    for name, tensor in counterparts(model, arrays).items():
        as_ours(tensor).copy_(torch.from_numpy(np.array(arrays[name])))

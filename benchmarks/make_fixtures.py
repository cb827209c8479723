"""Writes what PyTorch computes for `tests/test_zoo.py`; needs torchvision and timm.

python -m benchmarks.make_fixtures

For each of `tests.zoo.CASES` it writes `tests/fixtures/NAME.npz`, all in float64:

- `logits`, in evaluation, and `training_logits`, both [example, class];
- `statistics`, the running means and variances after the training pass, concatenated. A batch's variance is
  biased, as in our networks; PyTorch itself takes the unbiased variance for the running one;
- `gradients`: [tensor, 4], of `tests.zoo.loss` in training, with respect to each parameter and to the images.

Tensors come in the order of `tests.zoo.named`, the images last. To keep the files small, a row of `gradients`
is not the gradient of a tensor but its norm and its products with three fixed random vectors. If our gradient
differs from PyTorch's by e times the norm, in whatever direction, each product differs by about as much.
"""

import numpy as np
import torch
from torch import nn

from benchmarks import torch_zoo
from tests import zoo


def make_biased(norm, inputs, _):
    """Correct a BatchNorm's running variance after a training pass, as if the batch's were biased."""
    (x,) = inputs
    unbiased, biased = (x.detach().var((0, 2, 3), correction=count) for count in (1, 0))
    norm.running_var.data -= norm.momentum * (unbiased - biased)


def reference(name):
    """Return the arrays of a case's fixture, by name."""
    case, (variables, images) = zoo.CASES[name], zoo.drawn(name)
    arrays = zoo.named(variables)
    model = torch_zoo.MODELS[case.family](zoo.CLASSES, **case.options).double()
    tensors = torch_zoo.counterparts(model, arrays)
    torch_zoo.load(model, arrays)

    images = torch.from_numpy(images.transpose(0, 3, 1, 2)).requires_grad_()
    logits = model.eval()(images).detach()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(make_biased)
    training_logits = model.train()(images)
    weights = torch.from_numpy(zoo.draw("weights", logits.shape))
    zoo.loss(training_logits, weights).backward()

    learnt = {ours: tensor for ours, tensor in tensors.items() if tensor.requires_grad}
    if {*map(id, learnt.values())} != {*map(id, model.parameters())}:
        raise SystemExit(f"{name}: PyTorch's network has parameters that ours has not")
    gradients = {ours: torch_zoo.as_ours(tensor.grad) for ours, tensor in learnt.items()}
    gradients["images"] = images.grad.permute(0, 2, 3, 1)
    statistics = [tensor.numpy() for tensor in tensors.values() if not tensor.requires_grad]
    return {
        "logits": logits.numpy(),
        "training_logits": training_logits.detach().numpy(),
        "statistics": np.concatenate(statistics or [[]]),
        "gradients": np.stack([zoo.products(ours, g.numpy()) for ours, g in gradients.items()]),
    }


def main():
    zoo.FIXTURES.mkdir(exist_ok=True)
    for name in zoo.CASES:
        np.savez(zoo.FIXTURES / f"{name}.npz", **reference(name))


if __name__ == "__main__":
    main()

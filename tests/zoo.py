"""A narrow network or two of each family, and the weights and images on which it is compared with PyTorch.

`benchmarks/make_fixtures.py` writes what PyTorch computes, and `test_zoo.py` compares it with what our networks
compute. Both draw the same weights and images, from here.
"""

import dataclasses
import functools
import math
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxcifar import options
from jaxcifar.models import MODELS
from jaxcifar.models.compute import Compute

FIXTURES = Path(__file__).parent / "fixtures"
CLASSES = 10


@dataclasses.dataclass(frozen=True)
class Case:
    """A network and the shape of its images."""

    family: str
    given: Mapping[str, Any]
    """Options; the others have their defaults."""
    shape: tuple[int, int, int, int] = (6, 17, 15, 3)

    @property
    def options(self) -> dict[str, Any]:
        """All options, checked."""
        return options.read(MODELS[self.family], self.given, self.family)

    def model(self, compute: Compute):
        return MODELS[self.family](classes=CLASSES, compute=compute, **self.options)


_DENSENET = {"growth_rate": 3, "layers_per_block": (3, 2)}
_MOBILENET_V2 = {
    "stem_width": 4,
    "widths": (3, 4, 4, 5, 5, 6, 7),  # a residual where the fifth stage keeps the shape
    "blocks_per_stage": (1,) * 7,
    "last_width": 12,
    "dropout_rate": 0.0,
}
_SHUFFLENET_V2 = {
    "stem_width": 5,
    "widths": (6, 8, 10),
    "blocks_per_stage": (1, 2, 1),
    "last_width": 12,
}
_RESNET_WIDTHS, _CIFAR_WIDTHS = {"widths": (4, 5, 6, 7)}, {"widths": (4, 7, 10)}
_IMAGENET, _LARGE = {"stem": "imagenet"}, (6, 33, 38, 3)

CASES = {
    "resnet_basic": Case("resnet", _RESNET_WIDTHS | {"blocks_per_stage": (2, 1, 1, 1)}),
    "resnet_bottleneck_imagenet": Case(
        "resnet",
        _RESNET_WIDTHS | _IMAGENET | {"blocks_per_stage": (1, 2, 1, 1), "block": "bottleneck"},
        _LARGE,
    ),
    "cifar_resnet_a": Case("cifar_resnet", _CIFAR_WIDTHS | {"blocks_per_stage": (2, 1, 1)}),
    "cifar_resnet_b": Case(
        "cifar_resnet", _CIFAR_WIDTHS | {"blocks_per_stage": (1, 1, 2), "shortcut": "B"}
    ),
    "mlperf_resnet": Case("mlperf_resnet", {"widths": (4, 6, 8)}, (6, 16, 15, 3)),
    "wide_resnet": Case("wide_resnet", {"depth": 16, "widening_factor": 2}),
    "densenet": Case("densenet", _DENSENET),
    "densenet_imagenet": Case("densenet", _DENSENET | _IMAGENET, _LARGE),
    "vgg": Case("vgg", {"widths": (4, 6, 8), "convs_per_block": (1, 2, 1)}),
    "mobilenet_v2": Case("mobilenet_v2", _MOBILENET_V2),
    "mobilenet_v2_imagenet": Case("mobilenet_v2", _MOBILENET_V2 | _IMAGENET, _LARGE),
    "shufflenet_v2": Case("shufflenet_v2", _SHUFFLENET_V2),
    "shufflenet_v2_imagenet": Case("shufflenet_v2", _SHUFFLENET_V2 | _IMAGENET, _LARGE),
    "vit": Case("vit", {"patch_size": 8, "width": 12, "depth": 2, "heads": 3}, (6, 32, 32, 3)),
}
VARIANTS = {name for name in CASES if name.endswith("_imagenet") or name == "cifar_resnet_b"}
"""Cases of families that have another case."""

NARROW = {
    "resnet": {"widths": (16, 32), "blocks_per_stage": (1, 1)},
    "cifar_resnet": {"widths": (16, 32), "blocks_per_stage": (1, 1)},
    "mlperf_resnet": {"widths": (16, 32)},
    "wide_resnet": {"depth": 10, "widening_factor": 1},
    "densenet": {"growth_rate": 8, "layers_per_block": (2, 2)},
    "vgg": {"widths": (16, 32), "convs_per_block": (1, 1)},
    "mobilenet_v2": {
        "stem_width": 8,
        "widths": (8, 8, 16, 16, 24, 24, 32),
        "blocks_per_stage": (1,) * 7,
        "last_width": 64,
        "dropout_rate": 0.0,
    },
    "shufflenet_v2": {
        "stem_width": 8,
        "widths": (16, 32),
        "blocks_per_stage": (2, 2),
        "last_width": 64,
    },
    "vit": {"width": 32, "depth": 2, "heads": 2},
}
"""For each family, options of a network that compiles quickly and can still be fitted to some images."""


def narrow_model(family: str) -> dict[str, Any]:
    """Return the fields of a config that choose a family's narrow network."""
    options = {f"model.{family}.{name}": value for name, value in NARROW[family].items()}
    return {"model.name": family} | options


@functools.cache
def drawn(name: str) -> tuple[dict[str, Any], np.ndarray]:
    """Return a case's variables, as its model's `init` does, and its images, in float64."""
    images = draw("images", CASES[name].shape)
    model = CASES[name].model(Compute())
    shapes = jax.eval_shape(
        lambda key: model.init(key, images, train=False), jax.eval_shape(jax.random.key, 0)
    )
    draw_one = lambda path, like: draw(name_of(path), like.shape)
    return jax.tree.map_with_path(draw_one, shapes), images


def draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Draw a tensor; its name is the seed, and gives the size of its numbers."""
    uniform = np.random.default_rng(zlib.crc32(name.encode())).uniform(-1, 1, shape)
    leaf = name.rsplit("/", maxsplit=1)[-1]
    if leaf == "kernel":
        return uniform * math.sqrt(6 / math.prod(shape[:-1]))
    return 1 + uniform / 2 if leaf in ("scale", "var") else uniform / 2


def name_of(path) -> str:
    """Return the name of a variable, without its collection's name."""
    return jax.tree_util.keystr(path[1:], simple=True, separator="/")


def named(variables) -> dict[str, Any]:
    """Return variables by name."""
    return {name_of(path): leaf for path, leaf in jax.tree.leaves_with_path(variables)}


def loss(logits, weights):
    """Return a smooth function of logits; `weights` are `draw("weights", logits.shape)`."""
    return (weights * logits + logits * logits / 2).sum()


def products(name: str, tensor: np.ndarray) -> np.ndarray:
    """Return a tensor's norm, and its products with three random vectors whose seed is the name.

    A change of the tensor by a vector of norm e changes each product by a random number of about e.
    """
    rng = np.random.default_rng(zlib.crc32(f"products with {name}".encode()))
    vectors = rng.standard_normal((3, tensor.size))
    return np.array([np.linalg.norm(tensor), *(vectors @ tensor.ravel())])

"""Densely connected networks with bottlenecks and compression (Huang et al. 2016, arXiv:1608.06993)."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcifar.data.facts import DataFacts
from jaxcifar.models.blocks import STEMS, average_and_classify, conv_and_norm, resnet_stem
from jaxcifar.models.compute import Compute
from jaxcifar.models.layers import relu
from jaxcifar.models.pooling import average_pool_2x2, check_halvings
from jaxcifar.models.sequential import sequential
from jaxcifar.options import WIDTHS, Limit, between

_COMPRESSIONS = Limit(lambda share: 0 < share <= 1, "above 0 and at most 1")


class DenseNet(nn.Module):
    """Stack blocks in which each layer takes the channels of all layers before it.

    A layer is a 1×1 convolution to `4 growth_rate` channels and a 3×3 one to `growth_rate`, each after
    BatchNorm and ReLU. Between two blocks a 1×1 convolution reduces the channels to the share `compression`,
    and 2×2 average pooling halves the image. The stem has `2 growth_rate` channels; the stem `cifar` is a 3×3
    convolution alone.
    """

    classes: int
    compute: Compute
    growth_rate: Annotated[int, between(1, 4096), "channels that a layer adds"] = 12
    layers_per_block: Annotated[tuple[int, ...], WIDTHS, "of two convolutions each"] = (16, 16, 16)
    compression: Annotated[float, _COMPRESSIONS, "of the channels, between two blocks"] = 0.5
    stem: Annotated[str, STEMS] = "cifar"

    presets: ClassVar[Mapping[str, Mapping]] = {
        "densenet_bc_100_12": {},
        "densenet121": {"growth_rate": 32, "layers_per_block": (6, 12, 24, 16)},
    }

    @staticmethod
    def check_data(
        facts: DataFacts, *, layers_per_block: tuple[int, ...], stem: str, **_: Any
    ) -> None:
        """Check that a pixel is left after the last block."""
        pixels = min(facts.image_shape[:2])
        pixels = pixels if stem == "cifar" else -(-pixels // 4)
        check_halvings(len(layers_per_block) - 1, pixels, "layers_per_block")

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Return `logits: [batch, class]` of `images: [batch, height, width, channel]`."""
        conv, norm = conv_and_norm(self.compute, train=train)
        growth = self.growth_rate
        if self.stem == "cifar":
            x = conv(2 * growth, (3, 3))(images)
        else:
            x = resnet_stem(self.stem, 2 * growth, conv, norm)(images)
        for block, layers in enumerate(self.layers_per_block):
            if block > 0:
                width = max(int(x.shape[-1] * self.compression), 1)
                x = sequential(norm(), relu, conv(width, (1, 1)), average_pool_2x2)(x)
            for _ in range(layers):
                change = sequential(
                    *(norm(), relu, conv(4 * growth, (1, 1))),
                    *(norm(), relu, conv(growth, (3, 3))),
                )(x)
                x = jnp.concatenate([x, change], -1)
        x = sequential(norm(), relu)(x)
        return average_and_classify(x, self.classes, self.compute)

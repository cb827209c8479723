"""Wide residual networks (Zagoruyko and Komodakis 2016, arXiv:1605.07146)."""

from collections.abc import Mapping
from typing import Annotated, ClassVar

import flax.linen as nn
import jax

from jaxcifar.models.blocks import average_and_classify, conv_and_norm, in_stages
from jaxcifar.models.compute import Compute
from jaxcifar.models.layers import relu
from jaxcifar.models.sequential import sequential
from jaxcifar.options import SHARE_BELOW_ONE, Limit, between

_DEPTHS = Limit(lambda depth: depth >= 10 and depth % 6 == 4, "10, 16, 22 … (6 n + 4)")


class WideResNet(nn.Module):
    """Stack three stages of pre-activation residual blocks on a 3×3 convolution of 16 channels.

    A stage has (depth - 4) / 6 blocks of two 3×3 convolutions, each after BatchNorm and ReLU; stages have 16,
    32 and 64 times `widening_factor` channels, and all but the first halve the image.
    """

    classes: int
    compute: Compute
    depth: Annotated[
        int, _DEPTHS, "layers as the paper counts them, one projection a stage included"
    ] = 28
    widening_factor: Annotated[int, between(1, 64), "times 16, 32 and 64 channels"] = 10
    dropout_rate: Annotated[float, SHARE_BELOW_ONE, "between the convolutions of a block"] = 0.0

    presets: ClassVar[Mapping[str, Mapping]] = {
        "wrn_16_4": {"depth": 16, "widening_factor": 4},
        "wrn_28_10": {"depth": 28, "widening_factor": 10},
    }

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Return `logits: [batch, class]` of `images: [batch, height, width, channel]`."""
        conv, norm = conv_and_norm(self.compute, train=train)
        dropout = nn.Dropout(self.dropout_rate, deterministic=not train)

        def residual(x, width, strides):
            active = sequential(norm(), relu)(x)
            first = conv(width, (3, 3), strides=strides)
            change = sequential(first, norm(), relu, dropout, conv(width, (3, 3)))(active)
            if strides > 1 or x.shape[-1] != width:
                x = conv(width, (1, 1), strides=strides)(active)
            return x + change

        widths = tuple(width * self.widening_factor for width in (16, 32, 64))
        x = conv(16, (3, 3))(images)
        x = in_stages(x, widths, ((self.depth - 4) // 6,) * 3, residual)
        x = sequential(norm(), relu)(x)
        return average_and_classify(x, self.classes, self.compute)

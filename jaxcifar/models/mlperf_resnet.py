"""The residual network of the benchmark MLPerf Tiny (Banbury et al. 2021, arXiv:2106.07597)."""

import functools
from collections.abc import Mapping
from typing import Annotated, ClassVar

import flax.linen as nn
import jax

from jaxcifar.models.blocks import average_and_classify, conv_and_norm, in_stages
from jaxcifar.models.compute import Compute
from jaxcifar.models.layers import relu
from jaxcifar.models.sequential import sequential
from jaxcifar.options import WIDTHS


class MLPerfResNet(nn.Module):
    """Stack residual blocks, one a stage, on a 3×3 convolution; convolutions have biases.

    Each stage but the first halves the image, with a 1×1 convolution without BatchNorm as shortcut. The
    reference is in Keras: BatchNorm has Keras's defaults, and a convolution with strides of 2 pads images
    of even size below and on the right alone. The network takes pixels from 0 to 255
    (`data.normalisation=pixels`).
    """

    classes: int
    compute: Compute
    widths: Annotated[tuple[int, ...], WIDTHS, "channels of each stage"] = (16, 32, 64)

    presets: ClassVar[Mapping[str, Mapping]] = {"resnet8": {}}

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Return `logits: [batch, class]` of `images: [batch, height, width, channel]`."""
        conv, norm = conv_and_norm(self.compute, train=train)
        conv = functools.partial(conv, use_bias=True)
        norm = functools.partial(norm, momentum=0.99, epsilon=1e-3)

        def residual(x, width, strides):
            pads = [_keras_pads(size, strides) for size in x.shape[1:3]]
            first = conv(width, (3, 3), strides=strides, pads=pads)
            change = sequential(first, norm(), relu, conv(width, (3, 3)), norm())(x)
            if strides > 1 or x.shape[-1] != width:
                x = conv(width, (1, 1), strides=strides)(x)
            return relu(x + change)

        x = sequential(conv(self.widths[0], (3, 3)), norm(), relu)(images)
        x = in_stages(x, self.widths, (1,) * len(self.widths), residual)
        return average_and_classify(x, self.classes, self.compute)


def _keras_pads(size, strides):
    total = max((-(-size // strides) - 1) * strides + 3 - size, 0)
    return total // 2, total - total // 2

"""Vision transformers (Dosovitskiy et al. 2020, arXiv:2010.11929)."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcifar.data.facts import DataFacts
from jaxcifar.models.blocks import classify
from jaxcifar.models.compute import Compute
from jaxcifar.models.convolution import Conv
from jaxcifar.models.dense import Dense
from jaxcifar.models.layers import LayerNorm, gelu
from jaxcifar.options import SHARE_BELOW_ONE, OptionError, between

_INIT = nn.initializers.truncated_normal(0.02)


class ViT(nn.Module):
    """Cut images into patches, and apply transformer blocks with attention from each patch to all.

    The logits are computed from a class token, as in timm. In the last block each of the two residual
    branches is left out for the share `stochastic_depth_rate` of the examples. The share grows linearly with
    depth, from 0 in the first block (Huang et al. 2016).
    """

    classes: int
    compute: Compute
    patch_size: Annotated[int, between(1, 1024), "pixels; divides the image's sides"] = 4
    width: Annotated[int, between(1, 65536), "features of a patch; a multiple of heads"] = 192
    depth: Annotated[int, between(1, 1000), "blocks"] = 12
    heads: Annotated[int, between(1, 1024), "of attention, in each block"] = 3
    mlp_ratio: Annotated[int, between(1, 64), "hidden units of a block's MLP, times width"] = 4
    stochastic_depth_rate: Annotated[
        float, SHARE_BELOW_ONE, "of the examples, in the last block"
    ] = 0.0

    presets: ClassVar[Mapping[str, Mapping]] = {"vit_tiny": {}}

    @staticmethod
    def check(*, width: int, heads: int, **_: Any) -> None:
        """Check that heads share the features evenly."""
        if width % heads:
            raise OptionError("{width} cannot be shared evenly by {heads}")

    @staticmethod
    def check_data(facts: DataFacts, *, patch_size: int, **_: Any) -> None:
        """Check that patches cover the images."""
        if any(side % patch_size for side in facts.image_shape[:2]):
            raise OptionError(
                f"{{patch_size}} does not divide the images' sides: {facts.image_shape}"
            )

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Return `logits: [batch, class]` of `images: [batch, height, width, channel]`."""
        wide, size = self.compute.wide, self.patch_size
        embed = Conv(
            *(self.width, (size, size), self.compute),
            strides=size,
            pads=((0, 0), (0, 0)),
            use_bias=True,
        )
        patches = embed(images).reshape(len(images), -1, self.width)
        token = self.param("class_token", _INIT, (1, 1, self.width), wide)
        places = (1, patches.shape[1] + 1, self.width)
        embedding = self.param("position_embedding", _INIT, places, wide)
        tokens = jnp.broadcast_to(token, (len(images), 1, self.width)).astype(patches.dtype)
        x = jnp.concatenate([tokens, patches], 1) + embedding.astype(patches.dtype)
        for i in range(self.depth):
            rate = self.stochastic_depth_rate * i / max(self.depth - 1, 1)
            options = (self.compute, self.heads, self.mlp_ratio * self.width, rate)
            x = TransformerBlock(*options)(x, train=train)
        return classify(LayerNorm(self.compute)(x[:, 0]), self.classes, self.compute)


class TransformerBlock(nn.Module):
    """Apply attention and then an MLP, each after LayerNorm and added to its input: a pre-norm block."""

    compute: Compute
    heads: int
    hidden: int
    """Units of the MLP."""
    drop_rate: float
    """Share of the examples for which a branch is left out in training."""

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Return `[batch, token, feature]` of `x` of this shape."""
        drop = nn.Dropout(self.drop_rate, broadcast_dims=(1, 2), deterministic=not train)
        width = x.shape[-1]
        x = x + drop(self._attend(LayerNorm(self.compute)(x)))
        hidden = gelu(self._dense(self.hidden)(LayerNorm(self.compute)(x)))
        return x + drop(self._dense(width)(hidden))

    def _attend(self, x):
        batch, tokens, width = x.shape
        parts = self._dense(3 * width)(x).reshape(batch, tokens, 3, self.heads, width // self.heads)
        # One transposition of all three takes a CPU less time than the one that XLA would make per product.
        query, key, value = jnp.unstack(parts.transpose(2, 0, 3, 1, 4))
        scores = jnp.einsum("bhqd,bhkd->bhqk", query * query.shape[-1] ** -0.5, key)
        weights = nn.softmax(scores.astype(self.compute.wide)).astype(scores.dtype)
        mixed = jnp.einsum("bhqk,bhkd->bhqd", weights, value).transpose(0, 2, 1, 3)
        return self._dense(width)(mixed.reshape(batch, tokens, width))

    def _dense(self, features):
        return Dense(features, self.compute, _INIT)

"""The small network of the CIFAR-10 speedruns: most accuracy for a given time."""

import functools
from typing import Annotated, Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcifar.data.facts import DataFacts
from jaxcifar.models.compute import Compute
from jaxcifar.models.convolution import Conv, convolve
from jaxcifar.models.layers import BatchNorm, add_bias, check_halvings, gelu, max_pool_2x2
from jaxcifar.models.sequential import sequential
from jaxcifar.options import WIDTHS


class SpeedNet(nn.Module):
    """Whiten 2×2 patches, then stack blocks of two convolutions; each block halves the image.

    It has the topology of cifar10-airbench's `airbench94_muon` (Jordan 2024, arXiv:2404.00498). The first
    kernel is not learnt but computed from the data (`initialise_from`). BatchNorm learns a shift and no
    scale. Convolutions are initialised as the identity on their first channels. The head has no bias, and
    divides its logits by the number of features.
    """

    classes: int
    compute: Compute
    widths: Annotated[tuple[int, ...], WIDTHS, "channels of each block, which halves the image"]

    @staticmethod
    def check_data(facts: DataFacts, *, widths: tuple) -> None:
        """Check that something is left of the whitened images after the last block."""
        check_halvings(len(widths), min(facts.image_shape[:2]) - 1)

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Return `logits: [batch, class]` of `images: [batch, height, width, channel]`."""
        dtype, wide = self.compute.dtype, self.compute.wide
        channels = images.shape[-1]
        patch = 4 * channels
        whitening = self.variable(
            "batch_stats", "whitening", jnp.zeros, (2, 2, channels, 2 * patch), wide
        )
        bias = self.param("whitening_bias", nn.initializers.zeros, (2 * patch,), wide)

        conv = functools.partial(
            Conv, kernel_size=(3, 3), compute=self.compute, kernel_init=_partial_identity
        )
        norm = functools.partial(
            BatchNorm,
            self.compute,
            use_running_average=not train,
            momentum=0.6,
            epsilon=1e-12,
            use_scale=False,
        )
        images, kernel = images.astype(dtype), whitening.value.astype(dtype)
        white = convolve(images, kernel, library=self.compute.convolutions)
        x: Any = add_bias(white, bias, gelu)
        for width in self.widths:
            x = sequential(conv(width), max_pool_2x2, norm(), gelu)(x)
            x = sequential(conv(width), norm(), gelu)(x)
        x = x.max((1, 2))
        types = {"dtype": dtype, "param_dtype": wide}
        kernel_init = nn.initializers.normal(1)
        head = nn.Dense(self.classes, use_bias=False, kernel_init=kernel_init, **types)
        return head(x).astype(wide) / x.shape[-1]

    def initialise_from(self, variables: dict, images: jax.Array) -> dict:
        """Return `variables` with the kernel that whitens the 2×2 patches of `images`.

        It holds the patches' principal directions, each scaled to unit variance, and their negatives.

        Args:
          variables: what `init` returned.
          images: [n, height, width, channel], normalised.
        """
        channels = images.shape[-1]
        corners = [images[:, i : i - 1 or None, j : j - 1 or None] for i in (0, 1) for j in (0, 1)]
        patches = jnp.concatenate(corners, -1).reshape(-1, 4 * channels)
        variances, directions = jnp.linalg.eigh(patches.T @ patches / len(patches))
        kernel = (directions / jnp.sqrt(variances + 5e-4)).reshape(2, 2, channels, -1)
        kernel = jnp.concatenate([kernel, -kernel], -1)
        statistics = variables["batch_stats"] | {"whitening": kernel}
        return variables | {"batch_stats": statistics}


def _partial_identity(key, shape, dtype):
    height, width, inward, outward = shape
    kernel = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")(key, shape, dtype)
    same = min(inward, outward)
    identity = jnp.zeros((height, width, inward, same), dtype)
    identity = identity.at[height // 2, width // 2].set(jnp.eye(inward, same, dtype=dtype))
    return kernel.at[..., :same].set(identity)

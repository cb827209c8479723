"""Test-time augmentations: several views of each image, whose logits are averaged."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

Views = Callable[[jax.Array], Sequence[tuple[float, jax.Array]]]
"""`images -> [(weight, images), ...]`: the ways to look at an image, with weights that sum to 1."""


def plain(images: jax.Array) -> Sequence[tuple[float, jax.Array]]:
    """Look at each image as it is."""
    return [(1.0, images)]


def mirror(images: jax.Array) -> Sequence[tuple[float, jax.Array]]:
    """Look at each image and its mirror image."""
    return [(0.5, images), (0.5, images[:, :, ::-1])]


def mirror_translate(images: jax.Array) -> Sequence[tuple[float, jax.Array]]:
    """Look at each image and its mirror image, and at both shifted a pixel up-left and down-right.

    The shifted views together weigh as much as the others (Jordan 2024, arXiv:2404.00498).
    """
    height, width = images.shape[1:3]
    around = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    shifted = [around[:, i : i + height, i : i + width] for i in (0, 2)]
    weighted = zip((0.5, 0.25, 0.25), (images, *shifted), strict=True)
    return [(share * weight, view) for share, seen in weighted for weight, view in mirror(seen)]

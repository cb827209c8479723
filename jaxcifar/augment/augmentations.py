"""Pure augmentations: each a function of one key per example.

An augmentation is `(keys, examples, **options) -> examples` with `keys: [batch]`. The keys depend on
the seed, the step and the example's place in the global batch, so that the outcome does not depend
on how many devices share the batch. An augmentation that mixes two examples must mix those at
the places 2i and 2i+1, and needs an even number of examples on each device.
"""

import dataclasses
import functools
import zlib
from collections.abc import Callable, Mapping
from typing import Annotated

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxcifar.data.facts import DataFacts
from jaxcifar.options import SHARE, OptionError, at_least, between, with_checks


@flax.struct.dataclass
class Examples:
    """Hold what an augmentation may read and change."""

    images: jax.Array
    """[batch, height, width, channel] float, in [0, 1]."""
    targets: jax.Array
    """[batch, class] float; an example's targets sum to 1."""
    index: jax.Array
    """[batch] int32, which example of the split each is."""
    epoch: jax.Array
    """[] int32, from 0."""


Augmentation = Callable[[jax.Array, Examples], Examples]


def flip(keys: jax.Array, examples: Examples) -> Examples:
    """Mirror each image left to right with probability one half."""
    mirrored = jax.vmap(jax.random.bernoulli)(keys)[:, None, None, None]
    images = examples.images
    return dataclasses.replace(examples, images=jnp.where(mirrored, images[:, :, ::-1], images))


@with_checks(excludes=("flip",))
def alternating_flip(keys: jax.Array, examples: Examples) -> Examples:
    """Mirror a fixed half of the dataset in even epochs and the other half in odd ones.

    Two successive epochs thus show every image both ways (Jordan 2024, arXiv:2404.00498). An example's
    half depends on its index alone.
    """
    del keys
    own = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(0), examples.index)
    mirrored = jax.vmap(jax.random.bernoulli)(own) ^ (examples.epoch % 2 == 1)
    images = examples.images
    flipped = jnp.where(mirrored[:, None, None, None], images[:, :, ::-1], images)
    return dataclasses.replace(examples, images=flipped)


def _check_crop(facts: DataFacts, *, padding: int) -> None:
    side = min(facts.image_shape[:2])
    if padding >= side:
        raise OptionError(
            f"{{padding}} reflects more than there is of images {side} pixels wide: at most {side - 1}"
        )


@with_checks(check_data=_check_crop)
def crop(
    keys: jax.Array,
    examples: Examples,
    *,
    padding: Annotated[int, at_least(0), "pixels of shift each way, below the image's size"],
) -> Examples:
    """Shift each image by up to `padding` pixels each way; the border is reflected.

    This is reflection padding and a random crop to the original size (He et al. 2015, section 4.2, where
    the padding is zeros).
    """
    height, width = examples.images.shape[1:3]
    padded = jnp.pad(
        examples.images, ((0, 0), (padding, padding), (padding, padding), (0, 0)), mode="reflect"
    )

    def crop_one(key, image):
        top, left = jax.random.randint(key, (2,), 0, 2 * padding + 1)
        return lax.dynamic_slice(image, (top, left, 0), (height, width, image.shape[-1]))

    return dataclasses.replace(examples, images=jax.vmap(crop_one)(keys, padded))


_LUMA = np.array([0.299, 0.587, 0.114])
_RGB_TO_YIQ = np.array([_LUMA, [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
_YIQ_TO_RGB = np.linalg.inv(_RGB_TO_YIQ)


def color_jitter(
    keys: jax.Array,
    examples: Examples,
    *,
    brightness: Annotated[float, SHARE, "factor from [1 - x, 1 + x]"],
    contrast: Annotated[float, SHARE, "factor from [1 - x, 1 + x]"],
    saturation: Annotated[float, SHARE, "factor from [1 - x, 1 + x]"],
    hue: Annotated[float, between(0, 0.5), "share of the colour circle, either way"],
) -> Examples:
    """Change each image's brightness, contrast, saturation and hue, in this order.

    Brightness, contrast and saturation are multiplied by a factor from [1 - x, 1 + x]; contrast is
    scaled about the image's mean grey. The hue is turned by up to `hue` of the full circle, as a
    rotation in YIQ. All four are linear in the pixels, so they are one matrix and one offset per image,
    clipped to [0, 1] once, at the end. Images that are not RGB keep saturation and hue.
    """
    images = examples.images
    draws = jax.vmap(lambda key: jax.random.uniform(key, (4,), images.dtype, -1, 1))(keys)
    brighten, stretch, saturate = (
        1 + draws[:, i, None, None] * limit
        for i, limit in enumerate((brightness, contrast, saturation))
    )
    mean = images.mean((1, 2))[:, None]
    if images.shape[-1] == 3:
        eye, luma = jnp.eye(3, dtype=images.dtype), jnp.asarray(_LUMA, images.dtype)
        grey = jnp.tile(luma[:, None], (1, 3))
        mean = _product(mean, grey)
        turn = 2 * jnp.pi * hue * draws[:, 3]
        cos, sin = jnp.cos(turn), jnp.sin(turn)
        zero, one = jnp.zeros_like(turn), jnp.ones_like(turn)
        rotation = jnp.stack([one, zero, zero, zero, cos, sin, zero, -sin, cos], -1)
        color = saturate * eye + (1 - saturate) * grey
        to_yiq, to_rgb = (jnp.asarray(x.T, images.dtype) for x in (_RGB_TO_YIQ, _YIQ_TO_RGB))
        turned = _product(_product(to_yiq, rotation.reshape(-1, 3, 3)), to_rgb)
        color = _product(color, turned)
    else:
        color = jnp.eye(images.shape[-1], dtype=images.dtype)[None]
    # Contrast times brightness times pixels, plus (1 - contrast) times brightness times mean; then colour.
    offset = _product((1 - stretch) * brighten * mean, color)
    matrix = stretch * brighten * color
    images = _product(images, matrix[:, None]) + offset[:, None]
    return dataclasses.replace(examples, images=images.clip(0, 1))


def _product(a: jax.Array, b: jax.Array) -> jax.Array:
    """Return `a @ b` for few channels, as sums, for which XLA makes no separate kernels."""
    terms = (a[..., i, None] * b[..., i, None, :] for i in range(a.shape[-1]))
    return functools.reduce(jnp.add, terms)


def _check_cutout(facts: DataFacts, *, size: int) -> None:
    side = min(facts.image_shape[:2])
    if size > side:
        raise OptionError(f"{{size}} is larger than the images: at most {side} pixels")


@with_checks(check_data=_check_cutout)
def cutout(
    keys: jax.Array,
    examples: Examples,
    *,
    size: Annotated[int, at_least(1), "pixels, the side of the square, at most the image's size"],
) -> Examples:
    """Grey out a square of side `size`, in pixels (DeVries and Taylor 2017).

    Its centre is anywhere in the image, so the border may cut it off.
    """
    height, width = examples.images.shape[1:3]

    def inside(key):
        y_key, x_key = jax.random.split(key)
        y = jnp.arange(height) - jax.random.randint(y_key, (), 0, height) + size // 2
        x = jnp.arange(width) - jax.random.randint(x_key, (), 0, width) + size // 2
        return ((y >= 0) & (y < size))[:, None] & ((x >= 0) & (x < size))

    hidden = jax.vmap(inside)(keys)[..., None]
    return dataclasses.replace(examples, images=jnp.where(hidden, 0.5, examples.images))


Augment = Callable[[jax.Array, jax.Array, Examples], Examples]
"""`(key, places, examples) -> examples`, with `places: [batch]` in the global batch."""


def chain(augmentations: Mapping[str, Augmentation]) -> Augment:
    """Return `augment(key, places, examples)`, which applies `augmentations` one after the other.

    Each draws from a key made from its name, so switching one off leaves the others' draws unchanged.
    `places: [batch] int32` are the examples' places in the global batch.
    """

    def augment(key, places, examples):
        for name, augmentation in augmentations.items():
            own = jax.random.fold_in(key, np.uint32(zlib.crc32(name.encode())))
            examples = augmentation(jax.vmap(jax.random.fold_in, (None, 0))(own, places), examples)
        return examples

    return augment

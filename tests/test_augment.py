"""Augmentations: properties over shapes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcifar.augment import AUGMENTATIONS, TEST_TIME_AUGMENTATIONS, augmentations as augment
from jaxcifar.augment.augmentations import Examples
from jaxcifar.augment.test_time import mirror_translate
from jaxcifar.devices import backend

BATCH, SIZE = 64, 12


@pytest.fixture
def examples():
    images = np.random.default_rng(0).uniform(0.2, 0.8, (BATCH, SIZE, SIZE, 3)).astype(np.float32)
    return Examples(
        jnp.asarray(images),
        jax.nn.one_hot(np.arange(BATCH) % 10, 10),
        jnp.arange(BATCH),
        jnp.int32(0),
    )


def keys(seed=0, count=BATCH):
    return jax.random.split(jax.random.key(seed), count)


ALL = {
    "flip": augment.flip,
    "alternating_flip": augment.alternating_flip,
    "crop": functools.partial(augment.crop, padding=3),
    "color_jitter": functools.partial(
        augment.color_jitter, brightness=0.3, contrast=0.3, saturation=0.3, hue=0.1
    ),
    "cutout": functools.partial(augment.cutout, size=5),
}


def test_every_augmentation_is_tested():
    assert ALL.keys() == AUGMENTATIONS.keys()


@pytest.mark.parametrize("name", sorted(ALL.keys() - {"alternating_flip"}))
def test_same_keys_same_images_and_other_keys_others(name, examples):
    once, again, other = (ALL[name](keys(seed), examples).images for seed in (0, 0, 1))
    np.testing.assert_array_equal(once, again)
    assert np.abs(once - other).max() > 0.01


@pytest.mark.parametrize("name", ALL)
def test_an_augmentation_compiled_as_a_run_compiles_it_gives_the_same_images(name, examples):
    options = backend.compiler_options(deterministic=False)
    program = jax.jit(ALL[name]).lower(keys(), examples).compile(compiler_options=options)
    after = [augmentation(keys(), examples).images for augmentation in (program, ALL[name])]
    np.testing.assert_allclose(*after, atol=2e-6)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("channels", [1, 3])
def test_shape_dtype_and_range_stay(name, channels, examples):
    before = examples.replace(images=examples.images[..., :channels])
    after = ALL[name](keys(), before)
    assert (after.images.shape, after.images.dtype) == (before.images.shape, before.images.dtype)
    assert after.images.min() >= 0 and after.images.max() <= 1


@pytest.mark.parametrize("name", ALL)
def test_each_example_depends_on_its_own_key_alone(name, examples):
    together = ALL[name](keys(), examples).images
    half = jax.tree.map(lambda leaf: leaf[32:] if leaf.ndim else leaf, examples)
    np.testing.assert_allclose(together[32:], ALL[name](keys()[32:], half).images, atol=1e-6)


def test_flip_mirrors_half_of_the_images_and_leaves_the_others(examples):
    many = jax.tree.map(lambda leaf: jnp.tile(leaf, (16, *[1] * (leaf.ndim - 1))), examples)
    after = augment.flip(keys(count=16 * BATCH), many).images
    same = (after == many.images).all((1, 2, 3))
    mirrored = (after == many.images[:, :, ::-1]).all((1, 2, 3))
    assert (same ^ mirrored).all()
    # Five standard deviations of 1024 fair coins.
    assert abs(mirrored.mean() - 0.5) < 5 * 0.5 / np.sqrt(len(mirrored))


def test_alternating_flip_shows_each_image_both_ways_in_two_epochs(examples):
    first, second, third = (
        augment.alternating_flip(keys(epoch), examples.replace(epoch=jnp.int32(epoch))).images
        for epoch in range(3)
    )
    np.testing.assert_array_equal(first, second[:, :, ::-1])
    np.testing.assert_array_equal(first, third)
    mirrored = (first == examples.images[:, :, ::-1]).all((1, 2, 3))
    assert 10 < mirrored.sum() < 54 and ((first == examples.images).all((1, 2, 3)) ^ mirrored).all()


def test_crop_is_a_window_of_the_reflected_image(examples):
    after = np.asarray(augment.crop(keys(), examples, padding=2).images)
    padded = np.pad(examples.images, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="reflect")
    shifts = set()
    for image, around in zip(after, padded):
        found = [
            (top, left)
            for top in range(5)
            for left in range(5)
            if (around[top : top + SIZE, left : left + SIZE] == image).all()
        ]
        assert len(found) == 1
        shifts.update(found)
    assert len(shifts) > 15  # of 25, in 64 draws


def test_crop_without_padding_changes_nothing(examples):
    np.testing.assert_array_equal(augment.crop(keys(), examples, padding=0).images, examples.images)


def jitter(examples, **strengths):
    whole = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0} | strengths
    return np.asarray(augment.color_jitter(keys(), examples, **whole).images)


def test_jitter_of_no_strength_changes_nothing(examples):
    np.testing.assert_allclose(jitter(examples), examples.images, atol=1e-5)


def test_brightness_multiplies(examples):
    ratio = jitter(examples, brightness=0.2) / examples.images
    assert ratio.std((1, 2, 3)).max() < 1e-4
    factors = ratio.mean((1, 2, 3))
    assert 0.8 <= factors.min() < 0.85 and 1.15 < factors.max() <= 1.2


def test_contrast_keeps_the_mean_grey_and_scales_about_it(examples):
    luma = np.array([0.299, 0.587, 0.114])
    before, after = (
        images @ luma for images in (np.asarray(examples.images), jitter(examples, contrast=0.2))
    )
    np.testing.assert_allclose(after.mean((1, 2)), before.mean((1, 2)), atol=1e-5)
    factors = after.std((1, 2)) / before.std((1, 2))
    assert 0.8 <= factors.min() < 0.85 and 1.15 < factors.max() <= 1.2


def test_saturation_and_hue_keep_the_grey_of_every_pixel(examples):
    luma = np.array([0.299, 0.587, 0.114])
    pale = examples.replace(images=0.35 + examples.images * 0.3)  # so that nothing is clipped
    after = jitter(pale, saturation=0.3, hue=0.05)
    np.testing.assert_allclose(after @ luma, np.asarray(pale.images) @ luma, atol=1e-4)
    assert np.abs(after - pale.images).max() > 0.02


def test_hue_turns_red_towards_green_and_blue_alike():
    red = Examples(
        jnp.tile(jnp.array([0.6, 0.4, 0.4]), (BATCH, SIZE, SIZE, 1)),
        jnp.zeros((BATCH, 10)),
        jnp.arange(BATCH),
        jnp.int32(0),
    )
    after = jitter(red, hue=0.1)[:, 0, 0]
    lead = after[:, 1] - after[:, 2]
    assert lead.min() < -0.05 and lead.max() > 0.05
    assert (after[:, 0] >= after[:, 1:].max(1) - 1e-3).all()  # a tenth of a turn leaves red ahead


def test_cutout_greys_one_square_and_no_more(examples):
    after = np.asarray(augment.cutout(keys(), examples, size=5).images)
    changed = (after != np.asarray(examples.images)).any(-1)
    assert (after[changed] == 0.5).all()
    for hidden in changed:
        rows, columns = hidden.any(1), hidden.any(0)
        np.testing.assert_array_equal(hidden, rows[:, None] & columns)
        assert 3 <= rows.sum() <= 5 and 3 <= columns.sum() <= 5
    assert (changed.sum((1, 2)) == 25).any()


def test_chain_depends_on_places_and_not_on_who_holds_the_rows(examples):
    apply = augment.chain(ALL)
    key, places = jax.random.key(3), jnp.arange(BATCH)
    whole = apply(key, places, examples).images
    parts = [
        apply(key, places[part], jax.tree.map(lambda x: x[part] if x.ndim else x, examples)).images
        for part in (slice(0, 16), slice(16, BATCH))
    ]
    np.testing.assert_allclose(whole, np.concatenate(parts), atol=1e-6)


def test_switching_one_off_leaves_the_others_draws_alone(examples):
    key, places = jax.random.key(3), jnp.arange(BATCH)
    alone = augment.chain({"crop": ALL["crop"]})(key, places, examples).images
    after_flip = augment.chain({"flip": ALL["flip"], "crop": ALL["crop"]})(
        key, places, examples
    ).images
    unmirrored = (
        augment.chain({"flip": ALL["flip"]})(key, places, examples).images == examples.images
    )
    rows = np.asarray(unmirrored.all((1, 2, 3)))
    assert 10 < rows.sum() < 54
    np.testing.assert_array_equal(alone[rows], after_flip[rows])


def test_views_weigh_one_and_hold_each_image_as_it_is(examples):
    for views in TEST_TIME_AUGMENTATIONS.values():
        weights, images = zip(*views(examples.images), strict=True)
        assert sum(weights) == 1
        np.testing.assert_array_equal(images[0], examples.images)
        assert {view.shape for view in images} == {examples.images.shape}


def test_mirror_translate_holds_six_different_views_and_their_mirror_images(examples):
    views = [np.asarray(view) for _, view in mirror_translate(examples.images)]
    assert len({view.tobytes() for view in views}) == 6
    for view, mirrored in zip(views[::2], views[1::2], strict=True):
        np.testing.assert_array_equal(view, mirrored[:, :, ::-1])
    np.testing.assert_array_equal(views[2][:, 1:, 1:], examples.images[:, :-1, :-1])
    np.testing.assert_array_equal(views[4][:, :-1, :-1], examples.images[:, 1:, 1:])

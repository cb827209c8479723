"""Augmentations of training and of test time, by name."""

from jaxcifar.augment.augmentations import alternating_flip, color_jitter, crop, cutout, flip
from jaxcifar.augment.test_time import mirror, mirror_translate, plain

_IN_ORDER = (flip, alternating_flip, crop, color_jitter, cutout)
AUGMENTATIONS = {augmentation.__name__: augmentation for augmentation in _IN_ORDER}
"""By name, in the order in which they are applied."""

TEST_TIME_AUGMENTATIONS = {"none": plain, "mirror": mirror, "mirror_translate": mirror_translate}
"""By name; an image's logits are the weighted mean of its views' logits."""

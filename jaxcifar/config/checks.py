"""Whether a config makes sense: every field by itself, then with the data and the devices."""

import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from jaxcifar.augment import TEST_TIME_AUGMENTATIONS
from jaxcifar.data.datasets import DATASETS, Part
from jaxcifar.errors import UserError, unknown
from jaxcifar.models import MODELS
from jaxcifar.models.layers import ACTIVATIONS
from jaxcifar.optim import OPTIMIZERS, SCHEDULES

Rule = tuple[Callable[[Any], bool], str]


def _from(low: float) -> Rule:
    return lambda value: low <= value < float("inf"), f"at least {low}"


def _between(low: float, high: float) -> Rule:
    return lambda value: low <= value <= high, f"from {low} to {high}"


_SHARE_BELOW_ONE: Rule = (lambda value: 0 <= value < 1, "at least 0 and below 1")
_POSITIVE: Rule = (lambda value: 0 < value < float("inf"), "above 0 and finite")
_WIDTHS: Rule = (
    lambda value: len(value) > 0 and all(type(n) is int and 0 < n <= 65536 for n in value),
    "one or more whole numbers from 1 to 65536",
)

_ODD: Rule = (lambda value: 0 < value < 100 and value % 2, "odd, from 1 to 99")
_RISING_SHARES: Rule = (
    lambda value: (
        isinstance(value, list | tuple)
        and all(isinstance(share, float) and 0 < share < 1 for share in value)
        and list(value) == sorted(set(value))
    ),
    "shares between 0 and 1, each larger than the one before",
)
_SWITCH: Rule = (lambda value: isinstance(value, bool), "true or false")
_TEXT: Rule = (lambda value: isinstance(value, str), "text")
_NAMED: Rule = (lambda value: isinstance(value, str) and value != "", "a name")
_SPLIT: Rule = (_NAMED[0], "a split, such as train or test")

_FIELDS: tuple[tuple[Rule, str], ...] = (
    (_between(0, 2**32 - 1), "seed data.shapes.seed"),
    (_between(1, 100_000), "num_epochs"),
    (_from(1), "batch_size augmentation.cutout.size logging.every_steps checkpoint.keep"),
    (_from(1), "evaluation.every_epochs evaluation.batch_size checkpoint.every_epochs"),
    (_TEXT, "data.data_dir data.cache_dir data.validation_split"),
    (_NAMED, "data.name"),
    (_SPLIT, "data.train_split data.test_split"),
    (_SWITCH, "deterministic optimizer.sgd.nesterov"),
    (_SWITCH, "augmentation.flip.enabled augmentation.alternating_flip.enabled"),
    (_SWITCH, "augmentation.crop.enabled augmentation.cutout.enabled"),
    (_SWITCH, "augmentation.color_jitter.enabled"),
    (_between(0, 4096), "data.image_size"),
    (_between(1, 1_000_000), "data.shapes.train_examples data.shapes.test_examples"),
    (_from(0), "augmentation.crop.padding schedule.warmup_epochs"),
    (_from(0), "optimizer.l2_penalty optimizer.clip_norm optimizer.adamw.weight_decay"),
    (_from(0), "optimizer.sgd.weight_decay optimizer.muon.weight_decay"),
    (_between(0, 1), "augmentation.color_jitter.brightness augmentation.color_jitter.contrast"),
    (_between(0, 1), "augmentation.color_jitter.saturation"),
    (_between(0, 0.5), "augmentation.color_jitter.hue"),
    (_WIDTHS, "model.cnn.widths model.cnn.convs_per_block model.speednet.widths"),
    (_WIDTHS, "model.resnet.widths model.resnet.blocks_per_stage"),
    (_ODD, "model.cnn.kernel_size"),
    (_SHARE_BELOW_ONE, "label_smoothing model.cnn.dropout_rate"),
    (_between(0, 65536), "model.cnn.dense_width"),
    (_POSITIVE, "optimizer.learning_rate optimizer.adam.epsilon optimizer.adamw.epsilon"),
    (_SHARE_BELOW_ONE, "optimizer.adam.beta1 optimizer.adam.beta2 optimizer.sgd.momentum"),
    (_SHARE_BELOW_ONE, "optimizer.adamw.beta1 optimizer.adamw.beta2"),
    (_SHARE_BELOW_ONE, "optimizer.muon.momentum optimizer.muon.sgd_momentum"),
    (_POSITIVE, "optimizer.muon.bias_multiplier optimizer.muon.head_multiplier"),
    (_between(1, 20), "optimizer.muon.newton_schulz_steps"),
    (_between(0, 1), "schedule.cosine.final_fraction schedule.linear.final_fraction"),
    (_RISING_SHARES, "schedule.step.boundaries"),
    (_POSITIVE, "schedule.step.factor"),
)
_RULES = {name: rule for rule, names in _FIELDS for name in names.split()}


_MOST_STEPS = 100_000_000


_NAMES: dict[str, Collection[str]] = {
    "precision": ("auto", "bfloat16", "float32", "float64"),
    "data.normalisation": ("statistics", "symmetric", "unit"),
    "model.name": MODELS,
    "model.cnn.activation": ACTIVATIONS,
    "optimizer.name": OPTIMIZERS,
    "schedule.name": SCHEDULES,
    "evaluation.test_time_augmentation": TEST_TIME_AUGMENTATIONS,
}
"""For each field that names something, the names that are known."""


def check_config(config: Mapping) -> None:
    """Check every field by itself, and with the others.

    Args:
      config: whole, as `configs/default.py` gives it.

    Raises:
      UserError: for the first field that is wrong.
    """
    for path, known in _NAMES.items():
        value = _field(config, path)
        if not isinstance(value, str) or value not in known:
            raise unknown(f"--config.{path}:", str(value), known)
    for path, (fits, limit) in _RULES.items():
        value = _field(config, path)
        try:
            right = fits(value) and isinstance(value, bool) == (fits is _SWITCH[0])
        except TypeError:  # such as None
            right = False
        if not right:
            raise UserError(f"--config.{path}={value}: it must be {limit}")
    data = config["data"]
    if data["image_size"] and data["name"] in DATASETS:
        raise UserError(
            f"--config.data.image_size={data['image_size']} scales the images of TFDS, and "
            f"--config.data.name={data['name']} is none of its datasets: leave it at 0"
        )
    if config["schedule"]["warmup_epochs"] > config["num_epochs"]:
        raise UserError(
            f"--config.schedule.warmup_epochs={config['schedule']['warmup_epochs']} is longer than "
            f"the run: at most --config.num_epochs={config['num_epochs']}"
        )
    augmentation = config["augmentation"]
    if augmentation["flip"]["enabled"] and augmentation["alternating_flip"]["enabled"]:
        raise UserError(
            "--config.augmentation.alternating_flip.enabled=True would be undone by "
            "--config.augmentation.flip.enabled=True: enable one of them"
        )
    for name, depths in (("cnn", "convs_per_block"), ("resnet", "blocks_per_stage")):
        model = config["model"][name]
        if len(model["widths"]) != len(model[depths]):
            raise UserError(
                f"--config.model.{name}.{depths}={model[depths]} must hold one number for each of "
                f"--config.model.{name}.widths={model['widths']}"
            )


def count_shared(some: Sequence[Part], others: Sequence[Part]) -> int:
    """Return how many examples are in parts of both."""
    return sum(
        max(0, min(a_stop, b_stop) - max(a_start, b_start))
        for a_split, a_start, a_stop in some
        for b_split, b_start, b_stop in others
        if a_split == b_split
    )


def check_disjoint(config: Mapping, parts: Mapping[str, Sequence[Part]]) -> None:
    """Check that no example is in two of the splits that a run uses.

    Args:
      config: whole.
      parts: for each field of `config.data` that names a split, what of the dataset it takes.

    Raises:
      UserError: two of them share examples.
    """
    for one, other in itertools.combinations(parts, 2):
        if shared := count_shared(parts[one], parts[other]):
            raise UserError(
                f"--config.data.{other}={config['data'][other]} holds {shared} examples that are in "
                f"--config.data.{one}={config['data'][one]} too: name splits that share none"
            )


def check_devices(config: Mapping, devices: int) -> None:
    """Check the config against the number of devices that are to train.

    Raises:
      UserError: they cannot share a batch evenly.
    """
    batch_size = config["batch_size"]
    if batch_size % devices:
        near = max(batch_size // devices, 1) * devices
        raise UserError(
            f"--config.batch_size={batch_size} cannot be shared evenly by {devices} devices: it "
            f"must be a multiple of {devices}, e.g. --config.batch_size={near}"
        )


def check_data(config: Mapping, *, image_shape: tuple, train_examples: int) -> None:
    """Check the config against the training split.

    Raises:
      UserError: for the first thing that does not fit.
    """
    if config["batch_size"] > train_examples:
        raise UserError(
            f"--config.batch_size={config['batch_size']} is more than the {train_examples} examples "
            "of the training split: at most that many"
        )
    steps = config["num_epochs"] * (train_examples // config["batch_size"])
    if steps > _MOST_STEPS:
        raise UserError(
            f"--config.num_epochs={config['num_epochs']} at --config.batch_size="
            f"{config['batch_size']} makes {steps:,} steps of {train_examples:,} examples: at most "
            f"{_MOST_STEPS:,}"
        )
    side = min(image_shape[:2])
    crop, cutout = config["augmentation"]["crop"], config["augmentation"]["cutout"]
    if crop["enabled"] and crop["padding"] >= side:
        raise UserError(
            f"--config.augmentation.crop.padding={crop['padding']} reflects more than there is of "
            f"images {side} pixels wide: at most {side - 1}"
        )
    if cutout["enabled"] and cutout["size"] > side:
        raise UserError(
            f"--config.augmentation.cutout.size={cutout['size']} is larger than the images: at most "
            f"{side} pixels"
        )
    name = config["model"]["name"]
    if name in ("cnn", "speednet"):
        widths = config["model"][name]["widths"]
        halved = side if name == "cnn" else side - 1
        if halved < 2 ** len(widths):
            raise UserError(
                f"--config.model.{name}.widths={widths} halves the image {len(widths)} times, which "
                f"leaves nothing of {side} pixels: at most {halved.bit_length() - 1} blocks"
            )


def _field(config: Mapping, path: str) -> Any:
    for name in path.split("."):
        if not hasattr(config, "keys") or name not in config:
            raise UserError(f"--config.{path} is missing: a config starts from configs/default.py")
        config = config[name]
    return config

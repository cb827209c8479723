"""Wrong inputs: each is one line that says what to do, before any work begins."""

import re
import shlex

import jax
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from configs import default
from jaxcifar.config import checks, command_line, fields, reader
from jaxcifar.errors import UserError
from jaxcifar.experiment.setup import load_split, set_up
from jaxcifar.step.batch import map_step
from jaxcifar.step.order import epoch_order
from tests.conftest import TINY
from tests.test_step import layout

QUICK = "--config=configs/quick.py"
FEW = ["--config.data.shapes.train_examples=1000", "--config.data.shapes.test_examples=200"]
"""Few images, which are drawn faster."""

ALONE = {
    # The config's file, and unknown names.
    "--config=configs/defualt.py": "--config=configs/defualt.py is no Python file: did you mean configs/default.py?",
    "--config=elsewhere/x.py": "--config=elsewhere/x.py is no Python file",
    "--config=pyproject.toml": "--config=pyproject.toml is no Python file",
    "": "--config is missing",
    f"{QUICK} --config.optimizer.lerning_rate=1": "did you mean --config.optimizer.learning_rate?",
    f"{QUICK} --config.optimizer.clip_nrom=1": "did you mean --config.optimizer.clip_norm?",
    f"{QUICK} --noconfig.deterministc": "did you mean --config.deterministic?",
    f"{QUICK} --config.optimiser.name=sgd": "did you mean --config.optimizer.name?",
    # Values of the wrong type.
    f"{QUICK} --config.augmentation.flip=false": "set one of them, as --config.augmentation.flip.enabled",
    f"{QUICK} --config.model=3": "--config.model=3: it is a group of fields",
    f"{QUICK} --config.num_epochs=many": "--config.num_epochs=many: it must be a whole number",
    f"{QUICK} --config.num_epochs=1.5": "--config.num_epochs=1.5: it must be a whole number",
    f"{QUICK} --config.label_smoothing=some": "it must be a number, as 0.0 is",
    f"{QUICK} --config.deterministic=perhaps": "--config.deterministic=perhaps: it must be true or false",
    f"{QUICK} --config.augmentation.flip.enabled=maybe": "it must be true or false, as False is",
    f"{QUICK} --config.augmentation.alternating_flip.enabled=2": "it must be true or false, as True is",
    f"{QUICK} --config.augmentation.crop.enabled=x": "--config.augmentation.crop.enabled=x: it must be true",
    f"{QUICK} --config.augmentation.color_jitter.enabled=x": "it must be true or false",
    f"{QUICK} --config.augmentation.cutout.enabled=x": "it must be true or false",
    f"{QUICK} --config.optimizer.sgd.nesterov=x": "--config.optimizer.sgd.nesterov=x: it must be true or false",
    # Values out of range.
    f"{QUICK} --config.seed=-1": "--config.seed=-1: it must be from 0 to 4294967295",
    f"{QUICK} --config.num_epochs=0": "--config.num_epochs=0: it must be from 1 to 100000",
    f"{QUICK} --config.batch_size=0": "--config.batch_size=0: it must be at least 1",
    f"{QUICK} --config.label_smoothing=1": "it must be at least 0 and below 1",
    f"{QUICK} --config.data.train_split=": "--config.data.train_split=: it must be a split",
    f"{QUICK} --config.data.test_split=": "--config.data.test_split=: it must be a split",
    f"{QUICK} --config.data.image_size=-1": "--config.data.image_size=-1: it must be 0, or from 1 to 4096",
    f"{QUICK} --config.data.image_size=5000,64": "=(5000, 64): it must be 0, or from 1 to 4096",
    f"{QUICK} --config.data.image_size=64,": "=(64,): it must be a whole number or 2 whole numbers separated by",
    f"{QUICK} --config.data.image_size=large": "=large: it must be a whole number or 2 whole numbers",
    f"{QUICK} --config.data.channels=2": "--config.data.channels=2: it must be 0, 1 or 3",
    f"{QUICK} --config.data.label_feature=coarse_label": "is for datasets of TFDS, and --config.data.name=shapes",
    f"{QUICK} --config.data.shapes.seed=-1": "--config.data.shapes.seed=-1: it must be from 0",
    f"{QUICK} --config.data.shapes.train_examples=0": "train_examples=0: it must be from 1 to 1000000",
    f"{QUICK} --config.data.shapes.test_examples=0": "test_examples=0: it must be from 1 to 1000000",
    f"{QUICK} --config.augmentation.crop.padding=-1": "padding=-1: it must be at least 0",
    f"{QUICK} --config.augmentation.color_jitter.brightness=2": "brightness=2.0: it must be from 0 to 1",
    f"{QUICK} --config.augmentation.color_jitter.contrast=-1": "contrast=-1.0: it must be from 0 to 1",
    f"{QUICK} --config.augmentation.color_jitter.saturation=nan": "saturation=nan: it must be from 0 to 1",
    f"{QUICK} --config.augmentation.color_jitter.hue=0.6": "hue=0.6: it must be from 0 to 0.5",
    f"{QUICK} --config.augmentation.cutout.size=0": "cutout.size=0: it must be at least 1",
    f"{QUICK} --config.model.cnn.widths=8,,8": "--config.model.cnn.widths=8,,8: it must be values separated by commas",
    f"{QUICK} --config.model.cnn.convs_per_block=0,1,1": "one or more, each from 1 to 65536",
    f"{QUICK} --config.model.cnn.kernel_size=4": "--config.model.cnn.kernel_size=4: it must be odd",
    f"{QUICK} --config.model.cnn.dropout_rate=1": "--config.model.cnn.dropout_rate=1.0: it must be",
    f"{QUICK} --config.model.cnn.dense_width=-1": "--config.model.cnn.dense_width=-1: it must be",
    f"{QUICK} --config.model.resnet.widths=8,0,8,8": "--config.model.resnet.widths=(8, 0, 8, 8): it must be",
    f"{QUICK} --config.model.speednet.widths=8,-8,8": "--config.model.speednet.widths=(8, -8, 8): it must be",
    f"{QUICK} --config.optimizer.learning_rate=nan": "above 0 and finite",
    f"{QUICK} --config.optimizer.l2_penalty=-1": "l2_penalty=-1.0: it must be at least 0",
    f"{QUICK} --config.optimizer.clip_norm=inf": "clip_norm=inf: it must be at least 0",
    f"{QUICK} --config.optimizer.adam.beta1=1": "adam.beta1=1.0: it must be at least 0 and below 1",
    f"{QUICK} --config.optimizer.adam.beta2=-0.1": "adam.beta2=-0.1: it must be",
    f"{QUICK} --config.optimizer.adam.epsilon=0": "adam.epsilon=0.0: it must be above 0",
    f"{QUICK} --config.optimizer.adamw.beta1=1": "adamw.beta1=1.0: it must be",
    f"{QUICK} --config.optimizer.adamw.beta2=1": "adamw.beta2=1.0: it must be",
    f"{QUICK} --config.optimizer.adamw.epsilon=-1": "adamw.epsilon=-1.0: it must be",
    f"{QUICK} --config.optimizer.adamw.weight_decay=-1": "adamw.weight_decay=-1.0: it must be",
    f"{QUICK} --config.optimizer.sgd.momentum=1": "sgd.momentum=1.0: it must be",
    f"{QUICK} --config.optimizer.sgd.weight_decay=nan": "sgd.weight_decay=nan: it must be",
    f"{QUICK} --config.optimizer.muon.momentum=1": "--config.optimizer.muon.momentum=1.0: it must be",
    f"{QUICK} --config.optimizer.muon.newton_schulz_steps=0": "it must be from 1 to 20",
    f"{QUICK} --config.optimizer.muon.sgd_momentum=1": "muon.sgd_momentum=1.0: it must be",
    f"{QUICK} --config.optimizer.muon.bias_multiplier=0": "muon.bias_multiplier=0.0: it must be",
    f"{QUICK} --config.optimizer.muon.head_multiplier=0": "above 0 and finite",
    f"{QUICK} --config.optimizer.muon.weight_decay=-1": "muon.weight_decay=-1.0: it must be",
    f"{QUICK} --config.schedule.warmup_epochs=-1": "warmup_epochs=-1.0: it must be at least 0",
    f"{QUICK} --config.schedule.cosine.final_fraction=-1": "--config.schedule.cosine.final_fraction=-1.0",
    f"{QUICK} --config.schedule.linear.final_fraction=2": "--config.schedule.linear.final_fraction=2.0",
    f"{QUICK} --config.schedule.step.boundaries=50%": "shares between 0 and 1",
    f"{QUICK} --config.schedule.step.boundaries=0.7,0.5": "each larger than the one before",
    f"{QUICK} --config.schedule.step.factor=0": "step.factor=0.0: it must be above 0",
    f"{QUICK} --config.logging.every_steps=0": "logging.every_steps=0: it must be at least 1",
    f"{QUICK} --config.evaluation.every_epochs=0": "evaluation.every_epochs=0: it must be at least 1",
    f"{QUICK} --config.evaluation.batch_size=0": "evaluation.batch_size=0: it must be at least 1",
    f"{QUICK} --config.checkpoint.every_epochs=0": "checkpoint.every_epochs=0: it must be at least 1",
    f"{QUICK} --config.checkpoint.keep=0": "checkpoint.keep=0: it must be at least 1",
    # Names.
    f"{QUICK} --config.precision=float16": "known are auto, bfloat16, float32, float64",
    f"{QUICK} --config.convolutions=cudnn": "known are auto, onednn, xla",
    f"{QUICK} --config.data.name=cifar11": "did you mean cifar10",
    f"{QUICK} --config.data.normalisation=none": "known are pixels, statistics, symmetric, unit",
    f"{QUICK} --config.data.train_split=trian": "--config.data.train_split=trian: split 'trian'",
    f"{QUICK} --config.data.validation_split=tran": "--config.data.validation_split=tran: split",
    f"{QUICK} --config.data.train_split=train[0shard]": "parts by shard are not known here. Known are",
    f"{QUICK} --config.data.test_split=test[5:5]": "is empty: a split must hold at least one example",
    f"{QUICK} --config.model.name=cn": "did you mean 'cnn'?",
    f"{QUICK} --config.model.name=resnet_20": "did you mean 'resnet20'?",
    f"{QUICK} --config.model.name=resnet20 --config.model.cifar_resnet.widths=8,16,32": "contradicts the preset",
    f"{QUICK} --config.model.name=resnet19": "did you mean 'resnet18'? known are cifar_resnet, cnn, densenet",
    f"{QUICK} --config.model.wrn_16_4.depth=10": "wrn_16_4 is a preset, which sets all numbers of its family: name the family, --config.model.name=wide_resnet, and set --config.model.wide_resnet.depth",
    f"{QUICK} --config.model=resnet8": "it is a group of fields: set one of them, as --config.model.name",
    f"{QUICK} --epochs=5": "there is no flag --epochs: did you mean --config.num_epochs? --help",
    f"{QUICK} --model=resnet18": "there is no flag --model: did you mean --config.model.name? --help",
    f"{QUICK} --path=photos": "there is no flag --path: did you mean --config.data.folder.path? ",
    f"{QUICK} --wokdir=runs": "there is no flag --wokdir: did you mean --workdir? --help lists",
    f"{QUICK} --zzz": "there is no flag --zzz: --help lists the flags",
    f"{QUICK} --config.model.resnet.deep=2": "no such field; --config.model.resnet has block, blocks_per_stage, stem, widths; ",
    f"{QUICK} --config.model.resnet.blok=2": "did you mean --config.model.resnet.block?",
    "--config=resnet34": "--config=resnet34 is no Python file: resnet34 is a preset, --config=default --config.model.name=resnet34; ours are default, fast, ",
    f"{QUICK} --config.model.name=wrn_16_4 --config.model.wide_resnet.depth=28": "wide_resnet.depth=28 contradicts the preset --config.model.name=wrn_16_4: ",
    f"{QUICK} --config.model.name=densenet121 --config.model.densenet.growth_rate=8": "growth_rate=8 contradicts the preset",
    f"{QUICK} --config.model.name=densenet --config.model.densenet.layers_per_block=1,1,1,1,1,1,1": "layers_per_block=(1, 1, 1, 1, 1, 1, 1) halves the image 6 times, which leaves nothing of 32 pixels: at most 5 times",
    f"{QUICK} --config.model.name=densenet --config.model.densenet.layers_per_block=1,1,1,1,1 --config.model.densenet.stem=imagenet": "halves the image 4 times, which leaves nothing of 8 pixels",
    f"{QUICK} --config.model.name=wide_resnet --config.model.wide_resnet.depth=12": "must be 10, 16, 22",
    f"{QUICK} --config.model.cnn.activation=rleu": "did you mean 'relu'?",
    f"{QUICK} --config.optimizer.name=adan": "did you mean 'adam'?",
    f"{QUICK} --config.schedule.name=cosin": "did you mean 'cosine'?",
    f"{QUICK} --config.evaluation.test_time_augmentation=miror": "did you mean 'mirror'?",
    # Flags.
    f"{QUICK} --confg.num_epochs=1": "confg.num_epochs",
    f"{QUICK} --mode=trian": "train|evaluate",
    "--config=a:b/quick.py": "whose path holds none",
    f"{QUICK} evaluate": "'evaluate' is a mode: write --mode=evaluate",
    f"{QUICK} --config.data.test_split train stray": "'stray' belongs to no flag",
    f"{QUICK} stray": "'stray' belongs to no flag",
    f"{QUICK} --log_format=yaml": "flag --log_format=yaml: value should be one of <text|json>",
    f"{QUICK} trian": "'trian' belongs to no flag: did you mean 'train'? flags are written",
    f"{QUICK} --extend=perhaps": "--extend=perhaps: --extend is a switch, and takes no value",
    f"{QUICK} --step=last": "flag --step=last: ",
    f"{QUICK} --profile=some": "flag --profile=some: ",
    f"{QUICK} --profile=0": "flag --profile=0: ",
    f"{QUICK} --help=x": "--help=x: --help is a switch, and takes no value",
    f"{QUICK} --distributed=2": "--distributed=2: --distributed is a switch, and takes no value",
    f"{QUICK} --workdir=pyproject.toml": "--workdir=pyproject.toml: ",
}
"""Inputs wrong by themselves: the command line, and words of the line that it must give."""

TOGETHER = {
    f"{QUICK} --config.batch_size=16000": "--config.batch_size=16000 is more than the 1000 examples",
    f"{QUICK} --config.batch_size=64 --config.data.train_split=train[:10]": "more than the 10 examples",
    f"{QUICK} --config.num_epochs=100000 --config.batch_size=8 --config.data.shapes.train_examples=9000": "112,500,000 steps of 9,000 examples: at most 100,000,000",
    f"{QUICK} --config.model.cnn.widths=8,8": "one number for each of --config.model.cnn.widths",
    f"{QUICK} --config.model.cnn.convs_per_block=1": "one number for each of --config.model.cnn.widths",
    f"{QUICK} --config.model.resnet.blocks_per_stage=2,2": "one number for each of --config.model.resnet.widths",
    f"{QUICK} --config.model.resnet.widths=8,8": "one number for each of --config.model.resnet.widths=(8, 8)",
    f"{QUICK} --config.model.name=vgg --config.model.vgg.widths=8,8,8,8,8,8 --config.model.vgg.convs_per_block=1,1,1,1,1,1": "at most 5 times",
    f"{QUICK} --config.model.name=vit --config.model.vit.patch_size=5": "patch_size=5 does not divide",
    f"{QUICK} --config.model.name=vit --config.model.vit.heads=5": "vit.width=192 cannot be shared evenly by",
    f"{QUICK} --config.model.name=cifar_resnet --config.model.cifar_resnet.widths=8,4,2": "or take B",
    f"{QUICK} --config.model.cnn.widths=1,1,1,1,1,1 --config.model.cnn.convs_per_block=1,1,1,1,1,1": "at most 5 times",
    f"{QUICK} --config.model.name=speednet --config.model.speednet.widths=8,8,8,8,8": "at most 4 times",
    f"{QUICK} --config.augmentation.flip.enabled": "enable one of them",
    f"{QUICK} --config.schedule.warmup_epochs=9": "at most --config.num_epochs=8",
    f"{QUICK} --config.num_epochs=1 --config.schedule.warmup_epochs=2": "at most --config.num_epochs=1",
    f"{QUICK} --config.data.image_size=64": "--config.data.name=shapes reads none: leave it at 0",
    f"{QUICK} --config.data.test_split=train[:100]": "holds 100 examples that are in --config.data.train_split=train too",
    f"{QUICK} --config.data.train_split=train[:600] --config.data.validation_split=train[500:]": "--config.data.validation_split=train[500:] holds 100 examples",
    f"{QUICK} --config.data.validation_split=test[:10]": "--config.data.test_split=test holds 10 examples that are in --config.data.validation_split",
    # The image is 32 pixels wide, the devices are eight, JAX_ENABLE_X64 is not set.
    f"{QUICK} --config.augmentation.crop.padding=32": "at most 31",
    f"{QUICK} --config.augmentation.cutout.enabled --config.augmentation.cutout.size=33": "at most 32 pixels",
    f"{QUICK} --config.batch_size=100": "a multiple of 8, e.g. --config.batch_size=96",
    f"{QUICK} --config.precision=float64": "set JAX_ENABLE_X64=1",
    f"{QUICK} --config.data.name=cifar10 --config.data.data_dir=pyproject.toml": "pyproject.toml",
    f"{QUICK} --config.data.name=cifar10 --config.data.cache_dir=pyproject.toml": "is a file",
    # Flags that need or forbid others.
    "--mode=evaluate": "--workdir=DIR is missing, the directory of a run to evaluate",
    "--mode=report": "--workdir=DIR is missing, the directory of a run to report",
    f"{QUICK} --step=3": "--step=3 names a checkpoint to evaluate: add --mode=evaluate",
    f"{QUICK} --mode=evaluate --extend": "--extend goes on with a run",
    f"{QUICK} --mode=evaluate --profile=2": "--profile=2 is for training: leave --mode=evaluate out, or --profile",
    f"{QUICK} --mode=report --profile=2": "--profile=2 is for training: leave --mode=report out, or --profile",
    f"{QUICK} --mode=report --distributed": "--mode=report needs no other process",
    f"{QUICK} --coordinator_address=a:1": "--coordinator_address=a:1 is for one of several processes: add --distributed",
    f"{QUICK} --process_id=0": "--process_id=0 is for one of several processes",
    f"{QUICK} --distributed --num_processes=2": "--coordinator_address and --process_id must be given too",
    f"{QUICK} --distributed --coordinator_address=a --num_processes=2 --process_id=0": "--coordinator_address=a: it must be a host and a port",
    f"{QUICK} --distributed --coordinator_address=a:1 --num_processes=2 --process_id=2": "--process_id=2: it must be below --num_processes=2",
    f"{QUICK} --distributed --coordinator_address=a:1 --num_processes=0 --process_id=0": "flag --num_processes=0: ",
}
"""Inputs wrong only in combination, likewise."""


@pytest.mark.parametrize("arguments, words", (ALONE | TOGETHER).items())
def test_a_mistake_is_one_line_with_the_remedy_and_exit_code_2(fails, tmp_path, arguments, words):
    workdir = tmp_path / "run"
    where = [f"--workdir={workdir}"]
    if "--workdir" in arguments or arguments.startswith("--mode="):
        where = []
    if arguments.startswith(QUICK) and "data.shapes" not in arguments:
        where += FEW
    assert words in fails(*shlex.split(arguments), *where)
    assert not workdir.exists()


def test_every_flag_is_wrong_at_least_once():
    wrong = set(re.findall(r"--(?:no)?([\w.]+)", " ".join(ALONE | TOGETHER)))
    flags = set(command_line.define_flags()) - {"config", "help", "h"}
    assert {"mode", "extend", "process_id"} <= flags and flags - wrong == set()
    assert len(TOGETHER) >= 20 and len(ALONE) >= 40


def test_every_field_of_the_wrong_type_in_a_config_file_is_one_line():
    known = {
        name for name, value in fields.fields(default.get_config()) if not hasattr(value, "items")
    }
    assert len(known) > 60
    for name in known:
        for wrong in (None, {"a": 1}, [[]]):
            config = default.get_config()
            with config.ignore_type():
                config.update_from_flattened_dict({name: wrong})
            with pytest.raises(
                UserError,
                match=f"^--config.{re.escape(name)}=.*: it must be |^--config.{re.escape(name)} is missing",
            ):
                reader.check_what_is_not_chosen(config)
                reader.read_config(config)


FIELDS = {
    name: value
    for name, value in fields.fields(default.get_config())
    if not hasattr(value, "items") and name not in ("data.name", "data.data_dir", "data.cache_dir")
}
NAMES = [
    "cnn",
    "resnet",
    "speednet",
    "adam",
    "muon",
    "sgd",
    "linear",
    "step",
    "tanh",
    "unit",
    "mirror",
]
TEXTS = st.one_of(
    st.sampled_from([*NAMES, "train[:50%]", "test", "train+test"]), st.text(max_size=8)
)
NUMBERS = st.one_of(st.integers(-2, 40), st.integers(), st.just(2**31))
REALS = st.one_of(st.floats(0, 1), st.floats())


def values_for(value):
    """Return a strategy of values of the type of `value`, many of them wrong."""
    if isinstance(value, tuple):
        return st.lists(REALS if isinstance(value[0], float) else NUMBERS, max_size=5).map(tuple)
    return {bool: st.booleans(), int: NUMBERS, float: REALS, str: TEXTS}[type(value)]


CHANGES = st.lists(st.sampled_from(sorted(FIELDS)), max_size=4, unique=True).flatmap(
    lambda names: st.fixed_dictionaries({name: values_for(FIELDS[name]) for name in names})
)


def build(config, devices=8):
    """Run all checks that precede a run."""
    config = reader.read_config(config)
    one = layout(devices)
    checks.check_devices(config, devices)
    if max(config.data.component.options[f"{name}_examples"] for name in ("train", "test")) > 5000:
        raise UserError("not drawn here, for it takes long")
    load_split(config, "test_split")
    return set_up(config, one)


QUIETLY = {"deadline": None, "derandomize": True, "database": None}


@settings(max_examples=100, **QUIETLY)
@given(changes=CHANGES)
def test_a_config_drawn_at_random_is_refused_in_words_or_has_a_state(changes):
    config = default.get_config()
    config.update_from_flattened_dict(TINY | changes)
    try:
        setup, dataset = build(config)
    except UserError as error:
        assert len(str(error).splitlines()) == 1
        return
    jax.eval_shape(setup.experiment.init_state, jax.random.key(0), dataset.images[:1])
    assert setup.experiment.total_steps > 0


SOUND = st.fixed_dictionaries(
    {
        "model.name": st.sampled_from(["cnn", "resnet", "speednet"]),
        "model.cnn.activation": st.sampled_from(
            ["elu", "gelu", "leaky_relu", "relu", "silu", "tanh"]
        ),
        "model.cnn.kernel_size": st.sampled_from([1, 3, 5]),
        "model.cnn.dense_width": st.integers(0, 9),
        "optimizer.name": st.sampled_from(["adam", "adamw", "muon", "sgd"]),
        "optimizer.clip_norm": st.floats(0, 10),
        "schedule.name": st.sampled_from(["cosine", "linear", "step", "constant"]),
        "schedule.warmup_epochs": st.floats(0, 3),
        "label_smoothing": st.floats(0, 1, exclude_max=True),
        "batch_size": st.integers(1, 8).map(lambda share: 8 * share),
        "augmentation.crop.padding": st.integers(0, 31),
        "augmentation.cutout.size": st.integers(1, 32),
        "data.normalisation": st.sampled_from(["statistics", "symmetric", "unit"]),
        "data.train_split": st.sampled_from(["train", "train[100:]", "train[:30%]+train[70%:]"]),
    }
)


@pytest.mark.slow
@settings(max_examples=10, **QUIETLY, suppress_health_check=[HealthCheck.too_slow])
@given(changes=SOUND)
def test_a_sound_config_drawn_at_random_takes_a_step(changes):
    narrow = {"model.resnet.widths": (2, 2, 2, 2), "model.speednet.widths": (2, 2, 2)}
    config = default.get_config()
    config.update_from_flattened_dict(TINY | narrow | changes)
    setup, dataset = build(config, devices=2)
    state = setup.new_state(dataset, jax.random.key(0))
    run = map_step(setup.experiment.train_step, setup.layout, updates_state=True)
    order = epoch_order(0, 0, len(dataset), config.batch_size)
    data = (dataset.images, dataset.labels)
    state, counts = run(state, *setup.layout.put((data, order)), 0, 1, jax.random.key(1))
    assert state.step == 1 and counts.seen == config.batch_size
    assert jax.numpy.isfinite(counts.loss_sum)


WORDS = st.one_of(
    st.sampled_from(
        ["=", "--", "config", ".", "mode=", "evaluate", "step=", "1", "no", " ", "[", "%"]
    ),
    st.sampled_from(sorted(FIELDS)),
    st.text(max_size=5),
)


@settings(max_examples=200, **QUIETLY, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(line=st.lists(st.lists(WORDS, max_size=5).map("".join), max_size=3))
def test_a_command_line_drawn_at_random_is_refused_in_words_or_parsed(line, monkeypatch):
    monkeypatch.setattr("sys.argv", ["main"])
    try:
        command_line.parse(["main", QUICK, *line])
    except UserError as error:
        assert str(error)

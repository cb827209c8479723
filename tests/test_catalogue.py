"""The output of `jaxcifar list` and `jaxcifar --help`."""

import pytest

from configs import default
from jaxcifar.augment import AUGMENTATIONS, TEST_TIME_AUGMENTATIONS
from jaxcifar.config import catalogue, commands, config_file
from jaxcifar.config.fields import fields
from jaxcifar.config.schema import FIELDS
from jaxcifar.data import DATASETS
from jaxcifar.models import MODELS, PRESETS
from jaxcifar.optim import OPTIMIZERS, SCHEDULES
from jaxcifar.options import options_of

COMPONENTS = {
    "model": MODELS,
    "augmentation": AUGMENTATIONS,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "data": DATASETS,
    "": TEST_TIME_AUGMENTATIONS,
}


def test_everything_that_a_config_can_choose_is_listed_with_what_it_does():
    lines = list(catalogue.lines())
    configs = [path.stem for path in config_file.shipped()]
    for name in [*configs, *(name for group in COMPONENTS.values() for name in group)]:
        found = [line for line in lines if line.startswith(f"  {name} ")]
        assert found and all(len(line.split()) > 2 for line in found)
    assert any(line == f"  presets: {', '.join(PRESETS)}" for line in lines)


@pytest.mark.parametrize(
    ("section", "name"),
    [(section, name) for section, group in COMPONENTS.items() for name in group],
)
def test_a_component_is_listed_with_each_option_its_default_and_its_range(section, name):
    defaults = dict(fields(default.get_config()))
    listed = list(catalogue.lines(name))
    assert listed == list(catalogue.lines(f"{section}.{name}" if section else name))
    start = next(i for i, line in enumerate(listed) if line.startswith(f"{name}, of the "))
    lines = listed[start + 1 :]  # one of our configs of this name is listed first
    options = options_of(COMPONENTS[section][name]) if section else {}
    assert len(lines) == len(options)
    for line, (option, known) in zip(lines, options.items()):
        path = f"{section}.{name}.{option}"
        value = defaults[path]
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        assert line.startswith(f"  --config.{path}={text} ")
        assert all(limit.words in line for limit in known.limits) and known.unit in line


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_listed_with_all_its_numbers(name):
    family, changes = PRESETS[name]
    head, *lines = catalogue.lines(name)
    assert head == f"{name}: --config.model.name={name}, {family} with"
    found = dict(line.split(maxsplit=1) for line in lines)
    assert found.keys() == options_of(MODELS[family]).keys()
    for option, value in changes.items():
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        assert found[option] == text


def test_fields_are_listed_all_or_those_of_a_section():
    of = lambda name: [line.split("=")[0].strip() for line in catalogue.lines(name)]
    assert of("fields") == [f"--config.{path}" for path in FIELDS]
    assert of("schedule") == ["--config.schedule.name", "--config.schedule.warmup_epochs"]
    assert of("seed") == ["--config.seed"]
    assert of("model.cnn.activation") == ["--config.model.cnn.activation"]


def test_a_config_of_ours_is_listed_with_what_it_changes():
    assert list(catalogue.lines("quick")) == list(catalogue.lines("configs/quick.py"))
    head, *lines = catalogue.lines("quick")
    assert head.startswith("--config=quick: A small pyramid on the built-in images")
    assert "  --config.data.name=shapes" in lines and "  --config.num_epochs=8" in lines
    assert not any("seed" in line for line in lines)


def test_a_name_of_nothing_is_one_line(capsys):
    assert catalogue.main(["list", "resnet21"]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith("error: there is nothing to list of 'resnet21': did you mean 'resnet")
    assert len(err.splitlines()) == 1


def test_help_is_one_screen_and_names_our_configs():
    lines = commands.HELP.splitlines()
    assert len(lines) <= 24 and max(map(len, lines)) <= 100
    configs = ", ".join(path.stem for path in config_file.shipped())
    assert f"--config  a file, or one of {configs}" in lines

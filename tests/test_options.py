"""Options: how they are read from a component's signature, and how values are checked."""

import dataclasses
import json
import math
import re
import types
import typing
from typing import Annotated, Any

import flax.linen as nn
import pytest

from configs import default
from jaxcifar.config import components, fields
from jaxcifar.config.reader import read_config
from jaxcifar.config.schema import FIELDS
from jaxcifar.config.unused_flags import without_effect
from jaxcifar.errors import UserError
from jaxcifar.options import (
    NOT_EMPTY,
    ODD,
    POSITIVE,
    REQUIRED,
    SHARE,
    SHARE_BELOW_ONE,
    WIDTHS,
    OptionError,
    at_least,
    between,
    one_of,
    options_of,
    read,
    with_checks,
)


def function(
    keys,
    *,
    odd: Annotated[int, ODD, "pixels"],
    share: Annotated[float, SHARE_BELOW_ONE] = 0.5,
    size: int = 3,
):
    """Take two options, and `size`, which is none."""


class Module(nn.Module):
    classes: int
    odd: Annotated[int, ODD, "pixels"]
    share: Annotated[float, SHARE_BELOW_ONE] = 0.5


@dataclasses.dataclass(frozen=True)
class Frozen:
    keys: Any
    odd: Annotated[int, ODD, "pixels"]
    share: Annotated[float, SHARE_BELOW_ONE] = 0.5


class Plain:
    def __init__(
        self,
        keys,
        *,
        odd: Annotated[int, ODD, "pixels"],
        share: "Annotated[float, SHARE_BELOW_ONE]" = 0.5,
    ):
        pass


@pytest.mark.parametrize("component", [function, Module, Frozen, Plain])
def test_what_is_annotated_in_a_signature_is_an_option_with_type_range_unit_and_default(component):
    options = options_of(component)
    assert list(options) == ["odd", "share"]
    odd, share = options.values()
    assert (odd.type, odd.limits, odd.unit, odd.default) == (int, (ODD,), "pixels", REQUIRED)
    assert (share.type, share.limits, share.default) == (float, (SHARE_BELOW_ONE,), 0.5)
    assert read(component, {"odd": 3}, "a") == {"odd": 3, "share": 0.5}


def value_of(annotation, value):
    def component(*, option: annotation): ...

    return read(component, {"option": value}, "group")["option"]


WHOLE, WHOLES, PAIR = (
    Annotated[int, "n"],
    Annotated[tuple[int, ...], "n"],
    Annotated[tuple[int, int], "n"],
)
REAL, SWITCH, TEXT = Annotated[float, "x"], Annotated[bool, "on"], Annotated[str, "words"]


@pytest.mark.parametrize(
    "annotation, value, words",
    [
        (WHOLE, True, "it must be a whole number"),
        (WHOLE, 1.0, "it must be a whole number"),
        (WHOLE, None, "it must be a whole number"),
        (WHOLE, "1", "it must be a whole number"),
        (REAL, True, "it must be a number"),
        (REAL, None, "it must be a number"),
        (REAL, "0.1", "it must be a number"),
        (REAL, 10**400, "it must be a number"),
        (SWITCH, 1, "it must be true or false"),
        (SWITCH, None, "it must be true or false"),
        (TEXT, 3, "it must be text"),
        (TEXT, None, "it must be text"),
        (WHOLES, (1.5, "a"), "it must be whole numbers separated by commas"),
        (WHOLES, (1, True), "it must be whole numbers separated by commas"),
        (WHOLES, 8, "it must be whole numbers separated by commas"),
        (WHOLES, "8", "it must be whole numbers separated by commas"),
        (WHOLES, None, "it must be whole numbers separated by commas"),
        (PAIR, (1,), "it must be 2 whole numbers separated by commas"),
        (Annotated[tuple[float, ...], "x"], ("a",), "it must be numbers separated by commas"),
        (Annotated[int, ODD], 4, "it must be odd, from 1 to 99"),
        (Annotated[int, ODD], -1, "it must be odd, from 1 to 99"),
        (Annotated[int, between(2, 5)], 6, "it must be from 2 to 5"),
        (Annotated[int, between(2, 5)], "6", "it must be a whole number: from 2 to 5"),
        (Annotated[float, at_least(0)], math.inf, "it must be at least 0"),
        (Annotated[float, at_least(0)], math.nan, "it must be at least 0"),
        (Annotated[float, POSITIVE], 0, "it must be above 0 and finite"),
        (Annotated[float, POSITIVE], math.nan, "it must be above 0 and finite"),
        (Annotated[float, SHARE], 1.1, "it must be from 0 to 1"),
        (Annotated[float, SHARE_BELOW_ONE], 1, "it must be at least 0 and below 1"),
        (Annotated[str, NOT_EMPTY], "", "it must be a name"),
        (Annotated[tuple[int, ...], WIDTHS], (), "one or more, each from 1 to 65536"),
        (Annotated[tuple[int, ...], WIDTHS], (8, 0), "one or more, each from 1 to 65536"),
    ],
)
def test_a_value_of_another_type_or_beyond_the_range_is_one_line_that_says_so(
    annotation, value, words
):
    with pytest.raises(UserError) as caught:
        value_of(annotation, value)
    line = str(caught.value)
    assert line.startswith(f"--config.group.option={value}: ") and line.endswith(words)


def test_a_name_that_is_not_known_is_answered_with_the_nearest():
    with pytest.raises(UserError, match="did you mean 'relu'. known are gelu, relu"):
        value_of(Annotated[str, one_of(["relu", "gelu"])], "rleu")


@pytest.mark.parametrize(
    "annotation, value, as_read",
    [
        (REAL, 3, 3.0),
        (WHOLES, [1, 2], (1, 2)),
        (WHOLES, (), ()),
        (PAIR, [1, 2], (1, 2)),
        (Annotated[int, ODD], 3, 3),
        (Annotated[float, SHARE_BELOW_ONE], 0, 0.0),
        (SWITCH, False, False),
        (Annotated[str, one_of(["relu"])], "relu", "relu"),
    ],
)
def test_a_value_within_range_is_read_as_its_type(annotation, value, as_read):
    read = value_of(annotation, value)
    assert read == as_read and type(read) is type(as_read)


def test_an_option_that_is_unknown_or_missing_is_named():
    with pytest.raises(
        UserError, match=r"--config\.a\.od: .*did you mean 'odd'\? known are: odd, share"
    ):
        read(function, {"od": 3}, "a")
    with pytest.raises(UserError, match=r"--config\.a\.odd is missing"):
        read(function, {}, "a")
    with pytest.raises(UserError, match=r"--config\.odd is missing"):
        read(function, {}, "")


def test_checks_stand_beside_a_component_and_name_options_as_the_user_writes_them():
    def fails(*, odd, share):
        raise OptionError("{odd} is more than {share}, {else}")

    def fails_with_data(facts, **options):
        raise OptionError(f"{{odd}} is more than {facts}")

    checked = with_checks(check=fails)(lambda keys, *, odd, share: None)
    checked.__wrapped__ = function  # has its signature
    checked.__annotations__ = function.__annotations__
    with pytest.raises(UserError) as caught:
        read(checked, {"odd": 3, "share": 0.25}, "a.b")
    assert str(caught.value) == "--config.a.b.odd=3 is more than --config.a.b.share=0.25, {else}"
    with_data = components.Component(
        "x", "--config.x", with_checks(check_data=fails_with_data)(lambda: None), {"odd": 3}, "a"
    )
    with pytest.raises(UserError, match=r"--config\.a\.odd=3 is more than 7"):
        with_data.check_data(7)


def all_options():
    """Return every option there is, by its dotted path, with the fields that belong to no component."""
    found = dict(FIELDS)
    for section, kind in components.CHOSEN_BY_NAME.items():
        for name, component in kind.ours.items():
            found |= {f"{section}.{name}.{key}": o for key, o in options_of(component).items()}
    for name, component in components.AUGMENTATIONS.items():
        options = {**options_of(component), **options_of(components._Switch)}
        found |= {f"augmentation.{name}.{key}": option for key, option in options.items()}
    return found


def test_default_py_holds_every_option_there_is_with_its_type_within_its_range():
    options = all_options()
    given = {
        path: value
        for path, value in fields.fields(default.get_config())
        if not hasattr(value, "items")
    }
    assert given.keys() == options.keys() and len(given) > 60
    for path, option in options.items():
        value = given[path]
        kinds = (option.type,)
        if isinstance(option.type, types.UnionType):
            kinds = typing.get_args(option.type)
        assert type(value) in [typing.get_origin(kind) or kind for kind in kinds], path
        assert option.read(value, path) == value


def test_every_option_says_more_than_its_type():
    assert not [
        path for path, option in all_options().items() if not (option.unit or option.limits)
    ]


def test_what_is_not_chosen_need_not_be_there_and_what_is_chosen_must():
    values = default.get_config().to_dict()
    for section, kept in (("model", "cnn"), ("optimizer", "adam"), ("schedule", "cosine")):
        for name in components.CHOSEN_BY_NAME[section].ours:
            if name != kept:
                values[section].pop(name, None)
    del values["augmentation"]["flip"], values["data"]["shapes"]
    whole, cut = read_config(default.get_config()), read_config(values)
    assert cut.effective() == whole.effective()
    del values["model"]["cnn"]["widths"]
    with pytest.raises(UserError, match=r"--config\.model\.cnn\.widths is missing"):
        read_config(values)
    values["model"]["resnet"] = {"widths": "wrong"}  # is ignored
    values["model"]["cnn"]["widths"] = (64, 128, 256, 256)
    assert read_config(values).effective() == whole.effective()


def test_the_same_config_is_read_from_a_config_dict_and_from_its_json():
    given = read_config(default.get_config())
    saved = read_config(json.loads(json.dumps(given.whole)))
    assert saved.effective() == given.effective()
    assert all(
        type(a) is type(b) for a, b in zip(saved.effective().values(), given.effective().values())
    )


def test_a_field_that_an_earlier_version_did_not_have_means_what_it_did():
    values = default.get_config().to_dict()
    del values["convolutions"], values["data"]["cache_dir"]
    assert read_config(values).effective() == read_config(default.get_config()).effective()


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"seeds": 3}, "did you mean 'seed'"),
        ({"loging": {"every_steps": 3}}, "did you mean 'logging'"),
        (
            {"logging": {"every_steps": 3, "every": 3}},
            "--config.logging.every: there is no such field",
        ),
        ({"logging": {"every_steps": 3, "more": {}}}, "'more' is unknown: known are every_steps"),
        ({"model": 3}, "--config.model.name is missing"),
        (
            {"augmentation": {"flip": True}},
            "--config.augmentation.flip=True: it is a group of fields",
        ),
        ({"augmentation": {"zebra": {"enabled": True}}}, "'zebra' is unknown"),
    ],
)
def test_a_field_that_belongs_to_nothing_is_an_error(changes, words):
    with pytest.raises(UserError, match=re.escape(words)):
        read_config(default.get_config().to_dict() | changes)


def test_a_flag_without_effect_is_told_with_the_reason_and_no_other():
    config = default.get_config()
    config.model.name, config.augmentation.cutout.enabled = "resnet18", False
    with_effect = [
        "num_epochs",
        "data.name",
        "data.cifar10",
        "model.resnet.widths",
        "loss.focal_gamma",
    ]
    with_effect += ["augmentation.cutout.enabled", "augmentation.crop.padding"]
    assert without_effect(with_effect, config) == []
    assert without_effect(
        ["data.folder.path", "model.cnn.widths", "augmentation.cutout.size"], config
    ) == [
        "--config.data.folder.path has no effect: --config.data.name is cifar10",
        "--config.model.cnn.widths has no effect: --config.model.name is resnet18",
        "--config.augmentation.cutout.size has no effect: --config.augmentation.cutout.enabled is False",
    ]

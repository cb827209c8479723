"""Components of the user's own, as docs/extending.md shows them: named by import path, without a fork."""

import json
import re
import sys

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from configs import default
from jaxcifar import Classifier, predict
from jaxcifar.augment.augmentations import Examples
from jaxcifar.config import command_line
from jaxcifar.config.presets import preset_of
from jaxcifar.config.reader import read_config
from jaxcifar.errors import UserError
from jaxcifar.evaluation.run_evaluation import _name_if_not_own
from jaxcifar.models import MODELS, PRESETS
from jaxcifar.options import options_of
from tests.conftest import ROOT, SHORT


def test_own_components_train_go_on_evaluate_and_predict(own, run_here, capsys):
    assert run_here("--config=my_config.py", *SHORT).returncode == 0
    run = own / "runs/my_config"
    effective = json.loads((run / "run.json").read_text())["config"]
    assert effective["model.options.width"] == 16 and effective["model.options.size"] == 3
    assert effective["augmentation.grey.function"] == "my_parts:grey"
    assert effective["optimizer.options.beta1"] == 0.9
    assert not [path for path in effective if path.startswith(("model.cnn", "data.shapes"))]
    went_on = run_here(f"--workdir={run}", "--extend", "--config.num_epochs=4")
    assert went_on.returncode == 0 and "going on from step 4 of 8" in went_on.stdout
    assert run_here(f"--workdir={run}", "--mode=evaluate").returncode == 0
    evaluation = json.loads((run / "evaluation.json").read_text())
    assert evaluation["examples"] == 128 and evaluation["dataset"] == "my_parts:stripes"
    assert list(evaluation["test_time_augmentation"]) == ["my_parts:upside_down"]
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(own / "black.png")
    assert predict.main(["predict", f"--workdir={run}", "black.png"]) == 0
    assert "lying" in capsys.readouterr().out
    page = (run / "report/index.html").read_text()
    assert "my_parts:Net" in page and "model.cnn.widths" not in page


@pytest.mark.parametrize(
    "flags, words",
    [
        ("model.options.width=0", "--config.model.options.width=0: it must be from 1 to 512"),
        ("augmentation.grey.probability=2", "probability=2.0: it must be from 0 to 1"),
        (
            "schedule.options.power=0",
            "--config.schedule.options.power=0.0: it must be from 0.1 to 10",
        ),
        ("data.options.examples=3", "--config.data.options.examples=3: it must be at least 10"),
        (
            "schedule.options.power=1",
            "power=1.0 and --config.schedule.options.final_fraction=0.0 are",
        ),
        (
            "model.name=my_parts:Nett",
            "my_parts.py holds no function or class Nett: did you mean 'Net'?",
        ),
        ("model.name=my_prats:Net", "there is no module my_prats in the current directory"),
        ("model.name=my_parts:lion", "cannot be called as lion(classes=, compute=, **options)"),
        ("optimizer.name=my_parts:np", "holds no function or class np"),
        ("model.name=cnn", "--config.model.options are for a component of your own"),
        ("data.name=shapes", "--config.data.name=shapes is none: leave them out"),
        ("data.name=cifar10", "--config.data.name=cifar10 is none: leave them out"),
        ("schedule.name=cosine", "is none: leave them out"),
        ("augmentation.grey.function=my_parts", "it must be an import path, as my_module:name"),
        (
            "evaluation.test_time_augmentation=my_parts:grey",
            "cannot be called as grey(images): ",
        ),
        ("data.image_size=32", "is for images in files"),
        (
            "model.options.size=5",
            "my_config.py does not set this option: set it there, in config.model",
        ),
        (
            "augmentation.grey.share=1",
            "does not set this option: set it there, in config.augmentation.grey",
        ),
    ],
)
def test_a_mistake_with_own_components_is_one_line(own, fails, flags, words):
    assert words in fails("--config=my_config.py", f"--config.{flags}")
    assert not (own / "runs").exists()


@pytest.mark.parametrize(
    "change, words",
    [
        (("np.uint8", "np.uint16"), "returned images [32, 16, 16, 3] uint16, not [n, height"),
        (("dtype=np.int32", "dtype=np.int64"), "returned labels [32] int64, not [32] int32"),
        (('("lying", "standing")', '("lying",)'), "labels beyond the 1 names of classes"),
        (("return select(", "return [split] or select("), "returned a list"),
        (("probability=2", ""), "known are: probability"),
        (
            ('width: Annotated[int, between(1, 512), "channels"]', "width: int = 8"),
            "--config.model.options.width: width is a parameter whose type is not Annotated",
        ),
    ],
)
def test_a_component_that_is_wrong_itself_is_one_line(own, fails, change, words):
    parts = own / "my_parts.py"
    if change[1]:
        parts.write_text(parts.read_text().replace(*change))
    flags = ["--config.data.options.examples=32", "--config.batch_size=8"]
    if not change[1]:
        config = own / "my_config.py"
        config.write_text(config.read_text().replace('"probability"', '"probabilty"'))
    assert words in fails("--config=my_config.py", *flags)


@pytest.mark.parametrize(
    "kind, words",
    [
        ("list[int]", "width must be bool, int, float, str or a tuple of these, not list[int]"),
        ("int | None", "width must be bool, int, float, str or a tuple of these, not int | None"),
        ("tuple[tuple[int, int], ...]", "or a tuple of these, not tuple[tuple[int, int], ...]"),
        ("int | str", "width must be bool, int, float, str or a tuple of these, not int | str"),
        ("dict", "width must be bool, int, float, str or a tuple of these"),
        ("Elsewhere", "name 'Elsewhere' is not defined"),
    ],
)
def test_an_option_of_a_type_that_none_may_have_is_one_line(own, fails, kind, words):
    parts = own / "my_parts.py"
    text = parts.read_text().replace("width: Annotated[int,", f"width: Annotated[{kind},")
    parts.write_text("from __future__ import annotations\n" + text)
    assert words in fails("--config=my_config.py")


def test_a_partial_has_the_options_that_are_left_and_subclasses_are_called_as_they_are(own):
    (own / "my_parts.py").open("a").write(
        "import functools\n"
        "class Child(Net):\n    depth: Annotated[int, between(1, 3)] = 1\n"
        "Partial = functools.partial(Child, depth=2)\n"
    )
    config = default.get_config()
    with config.unlocked():
        config.model.name = "my_parts:Partial"
        config.model.options = ConfigDict({"width": 3})
    assert read_config(config).model.component.options == {"width": 3, "size": 3, "depth": 2}


def test_names_of_classes_may_be_a_list_and_a_run_goes_on(own, run_here):
    parts = own / "my_parts.py"
    parts.write_text(parts.read_text().replace('("lying", "standing")', '["lying", "standing"]'))
    assert run_here("--config=my_config.py", *SHORT).returncode == 0
    result = run_here("--workdir=runs/my_config")
    assert result.returncode == 0 and "is finished" in result.stdout


def test_flags_evaluate_a_run_on_own_data_on_another_dataset(own, run_here, fails):
    parts = own / "my_parts.py"
    parts.write_text(
        parts.read_text() + "def others(split):\n    return stripes(split, examples=64)\n"
    )
    assert run_here("--config=my_config.py", *SHORT).returncode == 0
    run = "--workdir=runs/my_config"
    flags = ["--config.data.name=my_parts:others", "--config.data.test_split=train"]
    result = run_here(run, "--mode=evaluate", *flags)
    assert result.returncode == 0 and "among those that the run was trained on" not in result.stderr
    assert (own / "runs/my_config/evaluations/my_parts:others-train").exists()
    line = fails(run, "--mode=evaluate", "--config.data.name=shapes")
    assert "images of (16, 16, 3) and the dataset has images of (32, 32, 3)" in line


NETWORK = "--config.model.name=my_parts:Net returns "
GREY = "--config.augmentation.grey.function=my_parts:grey returns Examples("
LION = "--config.optimizer.name=my_parts:lion returns "
BY_ROOT = "--config.schedule.name=my_parts:root returns "
VIEWS = "--config.evaluation.test_time_augmentation=my_parts:upside_down returns "
HEAD = "nn.Dense(self.classes)"


@pytest.mark.parametrize(
    "before, after, words",
    [
        (HEAD, "nn.Dense(1)", NETWORK + "ShapeDtypeStruct(shape=(2, 1), dtype=float32) for two"),
        (".mean((1, 2))\n", "\n", NETWORK + "ShapeDtypeStruct(shape=(2, 8, 8, 2)"),
        (HEAD, "nn.Dense(self.classes, dtype=jnp.bfloat16)", "dtype=bfloat16) for two images, not"),
        (f"return {HEAD}(", f"return x, {HEAD}(", NETWORK + "(Shape"),
        (
            "images=images)",
            "images=images[..., :1])",
            GREY + "images=ShapeDtypeStruct(shape=(2, 16, 16, 1)",
        ),
        ("images=images)", "images=images.astype(int))", "dtype=int32), targets="),
        (
            "return dataclasses.replace(examples, images=images)",
            "return images",
            "grey returns Shape",
        ),
        ("optax.lion(schedule, beta1, beta2)", "None", LION + "a NoneType, not an optax.Grad"),
        (
            "optax.lion(schedule, beta1, beta2)",
            "optax.stateless(lambda updates, params: jax.tree.map(lambda x: x.sum(), updates))",
            LION + "an optax.GradientTransformation that returns updates {",
        ),
        (
            "return optax.polynomial_schedule(",
            "return jnp.multiply(1, 2) or (",
            BY_ROOT + "a ArrayImpl",
        ),
        (
            "return optax.polynomial_schedule(",
            "return lambda step: (",
            BY_ROOT + "a function to (",
        ),
        ("(0.5, images[:, ::-1])", "(1.0, images)", VIEWS + "[(Shape"),
        ("[(0.5, images), (0.5, images[:, ::-1])]", "images", VIEWS + "ShapeDtypeStruct("),
        ("(0.5, images[:, ::-1])", "(0.5, images[:1])", VIEWS + "[(Shape"),
    ],
)
def test_what_a_component_returns_wrongly_is_one_line(own, fails, before, after, words):
    parts = own / "my_parts.py"
    text = parts.read_text()
    assert before in text
    parts.write_text(text.replace(before, after))
    assert words in fails("--config=my_config.py", "--config.precision=float32")


def test_size_is_checked_against_the_data(own, fails):
    small = (own / "my_parts.py").read_text().replace("16, 16, 3", "8, 8, 3")
    (own / "my_parts.py").write_text(small)
    config = (own / "my_config.py").read_text()
    (own / "my_config.py").write_text(config.replace('{"width": 16}', '{"width": 16, "size": 9}'))
    line = fails("--config=my_config.py", "--config.batch_size=8")
    assert "--config.model.options.size=9 is more than the images have: (8, 8, 3)" in line


def test_a_module_that_has_changed_is_named_when_a_run_goes_on_is_evaluated_or_predicts(
    own, run_here, capsys
):
    assert run_here("--config=my_config.py", *SHORT).returncode == 0
    run, parts = "runs/my_config", own / "my_parts.py"
    warning = "warning: my_parts has changed since the checkpoint of step 4 was saved"
    for arguments in (["--mode=evaluate"], []):
        assert warning not in run_here(f"--workdir={run}", *arguments).stderr
    parts.write_text(parts.read_text() + "# another\n")
    for arguments in (["--mode=evaluate"], []):
        result = run_here(f"--workdir={run}", *arguments)
        assert result.returncode == 0 and result.stderr.count(warning) == 1
    Classifier(run)
    assert warning in capsys.readouterr().err
    parts.write_text(parts.read_text().replace("Conv(self.width,", "Conv(self.width + 1,"))
    sys.modules.pop("my_parts")
    with pytest.raises(
        UserError, match=r"does not fit the config: .* is .*16\] there and .*17\] here"
    ):
        Classifier(run)
    capsys.readouterr()
    parts.unlink()
    sys.modules.pop("my_parts")
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(own / "black.png")
    assert predict.main(["predict", f"--workdir={run}", "black.png"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "no module my_parts" in error and error.count("\n") == 1


@pytest.mark.parametrize("text", ["1 / 0", "import my_prats_helper"])
def test_an_import_that_fails_in_the_user_s_module_shows_the_user_s_own_traceback(
    own, run_program, text
):
    parts = own / "my_parts.py"
    parts.write_text(f"{text}\n{parts.read_text()}")
    result = run_program(f"--config={own / 'my_config.py'}", PYTHONPATH=f"{ROOT}:{own}")
    assert result.returncode == 1
    assert f'{parts}", line 1' in result.stderr and text in result.stderr


def test_own_augmentations_come_after_ours_in_the_order_of_their_names(own):
    config = default.get_config()
    with config.unlocked():
        for name in ("zebra", "grey", "also"):
            config.augmentation[name] = ConfigDict(
                {"enabled": name != "also", "function": "my_parts:grey", "probability": 0.1}
            )
    names = list(read_config(config).augmentation)
    assert names == ["alternating_flip", "crop", "color_jitter", "cutout", "grey", "zebra"]


def test_a_component_excludes_another_of_the_user_s_own_by_name(own):
    parts = own / "my_parts.py"
    text = parts.read_text().replace("def grey(", '@with_checks(excludes=["cutout"])\ndef grey(')
    parts.write_text(text)
    config = default.get_config()
    with config.unlocked():
        config.augmentation.grey = ConfigDict(
            {"enabled": True, "function": "my_parts:grey", "probability": 0.1}
        )
    with pytest.raises(UserError, match=r"grey\.enabled=True excludes .*cutout\.enabled=True"):
        read_config(config)


def test_an_evaluation_on_own_data_is_named_by_its_options(own):
    def config(examples):
        values = default.get_config()
        with values.unlocked():
            values.data.name = "my_parts:stripes"
            values.data.options = ConfigDict({"examples": examples})
        return read_config(values)

    assert _name_if_not_own(config(10), config(10)) == ""
    assert _name_if_not_own(config(10), config(20)) == "my_parts:stripes-test-examples=20"


@pytest.mark.parametrize(
    "name", ["cifar10:3.0.2", "cifar10", "huggingface:mnist", "robotics:x", "a/b:1.0.0"]
)
def test_a_name_of_tfds_is_not_taken_for_an_import_path(name):
    config = default.get_config()
    config.data.name = name
    assert read_config(config).data.component is None


def with_model(name, **options):
    config = default.get_config()
    config.model.name = name
    for key, value in options.items():
        family, option = key.split("__")
        config.model[family][option] = value
    return read_config(config)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_the_run_of_its_family_with_the_same_numbers(preset):
    family, options = PRESETS[preset]
    chosen = with_model(preset)
    spelled = with_model(family, **{f"{family}__{key}": value for key, value in options.items()})
    assert chosen == spelled and chosen.whole == spelled.whole
    assert chosen.model.name == family and chosen.effective()["model.name"] == family
    repeated = with_model(preset, **{f"{family}__{key}": value for key, value in options.items()})
    assert repeated == chosen


@pytest.mark.parametrize("family", sorted({family for family, _ in PRESETS.values()}))
def test_the_default_config_holds_the_defaults_of_a_family_that_has_presets(family):
    options = {name: option.default for name, option in options_of(MODELS[family]).items()}
    assert default.get_config().model[family].to_dict() == options


def test_a_preset_beside_a_changed_option_of_its_family_is_one_line():
    with pytest.raises(UserError) as caught:
        with_model("resnet32", cifar_resnet__shortcut="B")
    assert str(caught.value) == (
        "--config.model.cifar_resnet.shortcut=B contradicts the preset --config.model.name=resnet32: leave "
        "one of the two out, or name the family, --config.model.name=cifar_resnet, and set what else "
        "resnet32 sets: --config.model.cifar_resnet.blocks_per_stage=5,5,5"
    )
    config = default.get_config()
    config.model.name = "resnet18"
    with config.unlocked():
        config.model.resnet.width = 3
    with pytest.raises(UserError, match=r"--config\.model\.resnet\.width: there is no such field"):
        read_config(config)
    assert with_model("resnet18", cifar_resnet__shortcut="B").model.name == "resnet"


def test_a_misspelt_preset_is_answered_with_the_nearest():
    with pytest.raises(UserError, match="did you mean 'wrn_28_10'"):
        with_model("wrn_28_1")


def test_a_preset_named_for_a_workdir_sets_all_numbers_of_its_family(monkeypatch, tmp_path):
    monkeypatch.setattr("sys.argv", ["main"])
    config = default.get_config().to_dict()
    config["model"] |= {"name": "vit", "vit": config["model"]["vit"] | {"depth": 2, "width": 96}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    parse = lambda *flags: command_line.parse(["main", f"--workdir={tmp_path}", *flags]).config
    assert read_config(parse("--config.model.name=vit_tiny")).model == with_model("vit_tiny").model
    assert read_config(parse()).model.component.options["depth"] == 2
    with pytest.raises(UserError, match="contradicts the preset"):
        parse("--config.model.name=vit_tiny", "--config.model.vit.depth=2")


def test_a_family_with_the_numbers_of_a_preset_is_known_by_its_name():
    for preset in ("resnet8", "resnet56", "vit_tiny"):
        component = with_model(preset).model.component
        assert preset_of(component.name, component.options) == preset
    changed = with_model("cifar_resnet", cifar_resnet__shortcut="B").model.component
    assert preset_of(changed.name, changed.options) is None
    assert preset_of("my_parts:Net", {"width": 3}) is None


@pytest.mark.slow
def test_a_run_of_a_preset_keeps_family_and_numbers_and_goes_on_under_both_names(
    run_here, tiny_flags, tmp_path
):
    flags = [f"--workdir={tmp_path}", "--config.data.shapes.train_examples=64"]
    train = [*tiny_flags, *flags, "--config.num_epochs=1"]
    assert run_here(*train, "--config.model.name=resnet8").returncode == 0
    assert "mlperf_resnet (resnet8) on shapes" in (tmp_path / "report/index.html").read_text()
    saved = json.loads((tmp_path / "config.json").read_text())["model"]
    assert saved["name"] == "mlperf_resnet" and saved["mlperf_resnet"] == {"widths": [16, 32, 64]}
    assert run_here(*train, "--config.model.name=mlperf_resnet").returncode == 0
    longer = ["--extend", "--config.num_epochs=2", "--config.model.name=resnet8"]
    went_on = run_here(f"--workdir={tmp_path}", *longer)
    assert "going on from step 1 of 2" in went_on.stdout, went_on.stderr


def test_the_short_example_is_a_run_with_one_augmentation_more(tmp_path, monkeypatch):
    blocks = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs/extending.md").read_text(), flags=re.DOTALL
    )
    for name, block in zip(("my_augmentation.py", "grey.py"), blocks):
        (tmp_path / name).write_text(block)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("sys.argv", ["main"])
    flag = "--config.augmentation.grey.probability=0.5"
    given = command_line.parse(["main", "--config=grey.py", flag]).config
    chosen = read_config(given).augmentation["grey"]
    sys.modules.pop("my_augmentation")
    images = np.random.default_rng(0).random((200, 4, 4, 3), np.float32)
    examples = Examples(images, np.zeros((200, 2)), np.arange(200), 0)
    made = chosen(jax.random.split(jax.random.key(0), 200), examples).images
    is_grey = np.ptp(np.asarray(made), axis=-1).max((1, 2)) < 1e-6
    assert 60 < is_grey.sum() < 140
    np.testing.assert_array_equal(made[~is_grey], images[~is_grey])

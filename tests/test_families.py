"""Each family of networks in the whole program: on several devices, saved, resumed, lowered, in bfloat16."""

import json
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from PIL import Image

from jaxcifar import predict
from jaxcifar.models import MODELS
from jaxcifar.step.batch import map_step
from jaxcifar.step.order import epoch_order
from tests.conftest import ROOT
from tests.test_lowering import STEPS, lowered
from tests.test_rehearsal import no_answer, rehearse  # noqa: F401, a fixture
from tests.test_step import NO_AUGMENTATION, begin, layout, relative
from tests.zoo import NARROW, narrow_model

each_family = pytest.mark.parametrize("family", NARROW)


def test_every_family_with_presets_is_here():
    assert NARROW.keys() == {name for name, model in MODELS.items() if hasattr(model, "presets")}


@pytest.mark.parametrize(
    "family",
    [
        pytest.param(family, marks=[pytest.mark.slow] if family == "mobilenet_v2" else [])
        for family in NARROW
    ],
)
def test_a_training_step_is_the_same_whichever_of_two_devices_holds_which_rows(tiny_config, family):
    """The state of SGD holds the gradients, some of which are zero except for rounding."""
    changes = narrow_model(family) | NO_AUGMENTATION
    config = tiny_config(changes | {"batch_size": 16, "optimizer.name": "sgd"})
    dataset, experiment, state = begin(config, layout())
    state = jax.device_get(state)
    run = map_step(experiment.train_step, layout(2), updates_state=True)

    def step(row):
        on_devices, data = layout(2).put(state), (dataset.images, dataset.labels)
        return jax.device_get(run(on_devices, data, row[None], 0, 1, jax.random.key(0)))

    row = epoch_order(0, 0, len(dataset), 16)[0]
    shared_out = [step(row), step(np.random.default_rng(0).permutation(row))]
    (one, counts), (other, counts_of_other) = shared_out
    for part in ("params", "batch_stats", "opt_state"):
        vectors = (ravel_pytree(getattr(after, part))[0] for after in (other, one))
        assert relative(*vectors) < 1e-3, part
    assert counts_of_other.seen.sum() == counts.seen.sum() == 16
    assert abs(counts_of_other.loss_sum.sum() / counts.loss_sum.sum() - 1) < 1e-5
    assert relative(*(ravel_pytree(after.params)[0] for after in (one, state))) > 1e-6


OVERFITTED = NO_AUGMENTATION | {
    "num_epochs": 100,
    "batch_size": 64,
    "data.shapes.train_examples": 64,
    "label_smoothing": 0.0,
    "optimizer.learning_rate": 1e-2,
    "evaluation.every_epochs": 100,
    "checkpoint.every_epochs": 50,
    "logging.every_steps": 1,
}
"""One step of 64 images an epoch."""


@pytest.mark.slow
@each_family
def test_a_run_fits_64_images_in_100_steps_and_goes_on_bit_for_bit(
    run_here, tiny_flags, tmp_path, family
):
    changes = OVERFITTED | narrow_model(family)
    flags = [*tiny_flags, *(f"--config.{path}={value}" for path, value in changes.items())]
    flags.append(f"--workdir={tmp_path / 'run'}")
    assert run_here(*flags).returncode == 0
    records = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").open()]
    assert records[-1]["step"] == 100 and records[-1]["train/accuracy"] == 1
    predictions = dict(np.load(tmp_path / "run/predictions.npz"))
    evaluation = json.loads((tmp_path / "run/evaluation.json").read_text())

    shutil.rmtree(tmp_path / "run/checkpoints/100")
    went_on = run_here(*flags)
    assert "going on from step 50 of 100" in went_on.stdout
    assert json.loads((tmp_path / "run/evaluation.json").read_text()) == evaluation
    again = np.load(tmp_path / "run/predictions.npz")
    for name, array in predictions.items():
        np.testing.assert_array_equal(again[name], array)
    losses = [json.loads(line)["train/loss"] for line in (tmp_path / "run/metrics.jsonl").open()]
    assert losses == [record["train/loss"] for record in records]


@pytest.mark.slow
@each_family
def test_eight_devices_equal_one_after_twenty_steps_in_float64(family):
    command = [sys.executable, "-m", "tests.float64_devices", family]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert float(result.stdout) < 1e-9


@pytest.mark.slow
@pytest.mark.parametrize("platform", ["tpu", "cuda"])
@each_family
def test_training_and_evaluation_are_lowered_for_accelerators_in_bfloat16(
    tiny_config, platform, family
):
    config = tiny_config(narrow_model(family) | {"precision": "bfloat16"})
    for name in ("training", "evaluation and prediction"):
        make, updates_state = STEPS[name]
        text = lowered(config, make, updates_state=updates_state, platform=platform)
        products = [
            line
            for line in text.splitlines()
            if "stablehlo.convolution" in line or "stablehlo.dot_general" in line
        ]
        assert len(products) >= 3 and all("bf16" in line for line in products)
        assert "jaxcifar_onednn_" not in text and "stablehlo.while" in text


@pytest.mark.slow
@each_family
def test_on_an_accelerator_s_paths_a_run_is_trained_evaluated_and_asked(
    rehearse,  # noqa: F811
    run_here,
    capsys,
    tiny_flags,
    tmp_path,
    family,
):
    rehearse(2, no_answer)
    changes = narrow_model(family) | {"num_epochs": 1, "precision": "auto"}
    flags = [*tiny_flags, *(f"--config.{path}={value}" for path, value in changes.items())]
    assert run_here(*flags, f"--workdir={tmp_path / 'run'}").returncode == 0
    summary = json.loads((tmp_path / "run/run.json").read_text())
    assert (summary["convolutions"], summary["precision"]) == ("xla", "bfloat16")
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(tmp_path / "0.png")
    arguments = [f"--workdir={tmp_path / 'run'}", "--json", str(tmp_path / "0.png")]
    assert predict.main(["predict", *arguments]) == 0
    assert len(json.loads(capsys.readouterr().out)["predictions"]) == 3

"""Workdirs that version 0.1.0 made: each evaluates, predicts, restores and goes on.

`workdirs/interrupted` is `configs/default.py`, narrowed, stopped in its second epoch; `workdirs/finished`
is `configs/fast.py`, narrowed. `expected.json` holds what that version computed from them.
"""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image

from jaxcifar import predict
from jaxcifar.data import shapes
from jaxcifar.experiment.setup import set_up_from_workdir
from jaxcifar.host.checkpoints import Checkpoints
from jaxcifar.host.files import read_records
from tests.conftest import ROOT
from tests.test_faults import assert_same_end

WORKDIRS = ROOT / "tests/workdirs"
EXPECTED = json.loads((WORKDIRS / "expected.json").read_text())


@pytest.fixture
def workdir(request, tmp_path):
    """Return a copy of the workdir that the parameter names."""
    return shutil.copytree(WORKDIRS / request.param, tmp_path / request.param)


both = pytest.mark.parametrize("workdir", EXPECTED, indirect=True)
interrupted = pytest.mark.parametrize("workdir", ["interrupted"], indirect=True)


@both
def test_an_earlier_run_evaluates_to_the_same_number_and_has_a_report(run_here, workdir):
    result = run_here("--mode=evaluate", f"--workdir={workdir}")
    assert result.returncode == 0, result.stderr
    found = json.loads((workdir / "evaluation.json").read_text())
    expected = EXPECTED[workdir.name]
    assert found["step"] == expected["step"] and found["examples"] == 100
    # Another processor rounds differently, which may tip one example.
    assert abs(found["correct"] - expected["correct"]) <= 1
    assert found["loss"] == pytest.approx(expected["loss"], abs=1e-3)
    augmented = {name: v["correct"] for name, v in found["test_time_augmentation"].items()}
    assert augmented.keys() == expected["test_time_augmentation"].keys()
    for name, correct in expected["test_time_augmentation"].items():
        assert abs(augmented[name] - correct) <= 1
    assert "Accuracy by epoch" in (workdir / "report/index.html").read_text()


@both
def test_an_earlier_run_predicts_what_it_evaluates_to(run_here, workdir, tmp_path, capsys):
    assert run_here("--mode=evaluate", f"--workdir={workdir}").returncode == 0
    evaluated = np.load(workdir / "predictions.npz")["probabilities"]
    images, _ = shapes.draw_shapes(100, (0, 1))
    for i in range(5):
        Image.fromarray(images[i]).save(tmp_path / f"{i}.png")
    files = [str(tmp_path / f"{i}.png") for i in range(5)]
    assert predict.main(["predict", f"--workdir={workdir}", "--json", "--top_k=10", *files]) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for answer, expected in zip(answers, evaluated[:5], strict=True):
        found = {each["class"]: each["probability"] for each in answer["predictions"]}
        np.testing.assert_allclose(
            [found[name] for name in shapes.CLASS_NAMES], expected, atol=1e-5
        )


@both
def test_an_earlier_checkpoint_restores_to_the_same_arrays_bit_for_bit(workdir):
    expected = EXPECTED[workdir.name]
    setup, state = set_up_from_workdir(workdir)
    assert state.step == expected["step"]
    checkpoints = Checkpoints(workdir / "checkpoints")
    state = setup.restored_state(checkpoints, expected["step"])
    checkpoints.close()
    found = {
        jax.tree_util.keystr(path, simple=True, separator="/"): hashlib.sha256(
            np.asarray(leaf).tobytes()
        ).hexdigest()[:16]
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
    }
    assert found == expected["sha256"]


KILLED = """
import os, signal, sys
from jaxcifar import main
from jaxcifar.host import signals
left = 8

def asked(self):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return False

signals.Stopping.asked = asked
main.main(sys.argv)
"""
"""Runs the program, and kills it before its ninth dispatch: three steps after a checkpoint."""


@interrupted
def test_an_earlier_run_goes_on_and_ends_the_same_bit_for_bit_if_it_is_killed_in_between(
    run_program, workdir, tmp_path
):
    killed = shutil.copytree(workdir, tmp_path / "killed")
    environment = os.environ | {"XLA_FLAGS": "", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", KILLED, f"--workdir={killed}"]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert result.returncode == -signal.SIGKILL, result.stderr
    assert "going on from step 11 of 24" in result.stdout
    for folder, step in ((workdir, 11), (killed, 16)):
        result = run_program(f"--workdir={folder}")
        assert result.returncode == 0, result.stderr
        assert f"going on from step {step} of 24" in result.stdout
    assert [record["step"] for record in read_records(workdir / "metrics.jsonl")] == [
        *(3, 6, 8, 11, 14, 16, 19, 22, 24)
    ]
    assert_same_end(workdir, killed)

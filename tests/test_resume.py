"""Runs that are cut off and started again."""

import json
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from jaxcifar import experiment as experiments
from jaxcifar import restore
from jaxcifar.checkpoint import Checkpoints
from jaxcifar.experiment import DataFacts
from jaxcifar.paths import read_records

ROOT = Path(__file__).parent.parent
# 64 steps an epoch, so that there is time to kill it between two checkpoints.
LONGER = ("--config.data.shapes.train_examples=4096", "--config.checkpoint.every_epochs=2")


def final_state(config, workdir):
    checkpoints = Checkpoints(workdir / "checkpoints")
    step = restore.chosen_step(checkpoints, workdir, None)
    layout = experiments.start_layout(config)
    facts = DataFacts.from_json(checkpoints.description(step)["facts"])
    experiment = experiments.build(config, facts, layout)
    return jax.device_get(restore.restore_state(checkpoints, step, experiment, layout))


def steps_in_tensorboard(workdir):
    """Return the steps at which each tag stands in TensorBoard's files."""
    steps = {}
    for path in (workdir / "tensorboard").glob("events.*"):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            event, data = Event.FromString(data[12 : 12 + length]), data[16 + length :]
            for value in event.summary.value:
                steps.setdefault(value.tag, []).append(event.step)
    return steps


def test_a_killed_run_ends_as_one_never_interrupted_bit_for_bit(
    run_program, tiny_flags, tiny_config, tmp_path
):
    flags = [*tiny_flags, *LONGER, "--config.num_epochs=4"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert run_program(*flags, f"--workdir={whole}").returncode == 0

    process = subprocess.Popen(
        [sys.executable, "-m", "jaxcifar.main", *flags, f"--workdir={killed}"],
        cwd=ROOT,
        env=os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not any(2.1 < r["epoch"] < 4 for r in read_records(killed / "metrics.jsonl")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert Checkpoints(killed / "checkpoints").steps()[-1] == 128
    assert read_records(killed / "metrics.jsonl")[-1]["step"] > 128

    resumed = run_program(*flags, f"--workdir={killed}")
    assert resumed.returncode == 0, resumed.stderr
    assert "going on from step 128 of 256" in resumed.stdout
    config = tiny_config({"data.shapes.train_examples": 4096, "num_epochs": 4})
    states = [final_state(config, workdir) for workdir in (whole, killed)]
    assert states[0].step == 256
    jax.tree.map(np.testing.assert_array_equal, *states)

    def without_times(workdir):
        times = ("time", "images_per_second")
        records = read_records(workdir / "metrics.jsonl")
        return [{k: v for k, v in record.items() if k not in times} for record in records]

    assert without_times(whole) == without_times(killed)
    evaluations = [json.loads((d / "evaluation.json").read_text()) for d in (whole, killed)]
    assert evaluations[0] == evaluations[1]
    for workdir in (whole, killed):
        steps = [record["step"] for record in read_records(workdir / "metrics.jsonl")]
        assert steps == sorted(set(steps)) and steps[-1] == 256
        assert steps_in_tensorboard(workdir)["train/loss"] == steps


def test_records_after_the_checkpoint_and_half_a_line_are_dropped(tmp_path):
    from jaxcifar.progress import MetricsLog

    lines = [json.dumps({"step": step, "time": 0.0, "train/loss": 1.0}) for step in (5, 10, 15)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + '\n{"step": 20, "ti')
    log = MetricsLog(tmp_path, last_step=10)
    log.write(15, {"train/loss": 2.0})
    log.close()
    records = read_records(tmp_path / "metrics.jsonl")
    assert [(r["step"], r["train/loss"]) for r in records] == [(5, 1), (10, 1), (15, 2)]
    assert steps_in_tensorboard(tmp_path) == {"train/loss": [5, 10, 15]}


def test_a_finished_run_prints_its_result_and_is_not_extended_unasked(
    run_program, tiny_flags, tmp_path
):
    flags = [*tiny_flags, f"--workdir={tmp_path / 'run'}"]
    first = run_program(*flags)
    files = lambda: (tmp_path / "run/metrics.jsonl").read_text()
    records = files()
    again = run_program(*flags)
    assert again.returncode == 0, again.stderr
    assert again.stdout.splitlines()[-1] == first.stdout.splitlines()[-1]
    assert "train loss" not in again.stdout and files() == records

    longer = run_program(*flags, "--config.num_epochs=4")
    assert longer.returncode == 2 and "num_epochs: 3 -> 4" in longer.stderr
    assert "--extend" in longer.stderr and files() == records

    fewer = run_program(*flags, "--config.num_epochs=2")
    assert fewer.returncode == 2 and "another --workdir" in fewer.stderr
    assert "--extend" not in fewer.stderr

    extended = run_program(*flags, "--config.num_epochs=4", "--extend")
    assert extended.returncode == 0, extended.stderr
    assert [r["step"] for r in read_records(tmp_path / "run/metrics.jsonl")][-1] == 32

    shorter = run_program(*flags, "--config.num_epochs=2", "--extend")
    assert (
        shorter.returncode == 2 and "--extend goes on to more epochs than the 4" in shorter.stderr
    )

    changes = ["--config.num_epochs=4", "--config.seed=1", "--config.model.cnn.kernel_size=5"]
    other = run_program(*flags, *changes, "--extend")
    assert other.returncode == 2
    assert "model.cnn.kernel_size: 3 -> 5" in other.stderr and "seed: 0 -> 1" in other.stderr


def test_a_validation_split_is_a_config_line_and_evaluated_beside_the_test_split(
    run_program, tiny_flags, tmp_path
):
    splits = [
        "--config.data.train_split=train[:448]",
        "--config.data.validation_split=train[448:]",
    ]
    result = run_program(*tiny_flags, *splits, f"--workdir={tmp_path / 'run'}")
    assert result.returncode == 0, result.stderr
    last = read_records(tmp_path / "run/metrics.jsonl")[-1]
    assert {"train/accuracy", "validation/accuracy", "test/accuracy"} <= last.keys()
    assert last["validation/accuracy"] * 64 == round(last["validation/accuracy"] * 64)


def test_other_data_under_the_same_config_is_an_error(run_program, tiny_flags, tmp_path):
    workdir = tmp_path / "run"
    assert run_program(*tiny_flags, f"--workdir={workdir}").returncode == 0
    code = (
        "import sys; from jaxcifar import main, shapes; draw = shapes.draw_shapes;"
        "shapes.draw_shapes = lambda count, seed: draw(count, (*seed, 1));"
        "sys.exit(main.main(sys.argv))"
    )
    arguments = [sys.executable, "-c", code, *tiny_flags, f"--workdir={workdir}"]
    changed = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True)
    assert changed.returncode == 2
    assert "holds a run on other data" in changed.stderr


def test_how_a_run_is_logged_may_differ_when_it_goes_on(run_program, tiny_flags, tmp_path):
    flags = [*tiny_flags, f"--workdir={tmp_path / 'run'}"]
    assert run_program(*flags).returncode == 0
    changes = ["--config.logging.every_steps=1", "--config.evaluation.batch_size=10"]
    assert run_program(*flags, *changes).returncode == 0


def test_a_run_saved_on_eight_devices_goes_on_on_one(run_program, tiny_flags, tmp_path):
    flags = [*tiny_flags, f"--workdir={tmp_path / 'run'}"]
    assert run_program(*flags, devices=8).returncode == 0
    extended = run_program(*flags, "--config.num_epochs=4", "--extend", devices=1)
    assert extended.returncode == 0, extended.stderr
    assert "going on from step 24 of 32" in extended.stdout


@pytest.mark.parametrize("keep", [1, 3])
def test_the_newest_checkpoints_are_kept(tmp_path, keep):
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=keep)
    for step in range(1, 6):
        checkpoints.save(step, {"a": np.full(3, step)}, {"step": step})
    checkpoints.close()
    kept = sorted(int(path.name) for path in (tmp_path / "checkpoints").iterdir())
    assert kept == list(range(6 - keep, 6))
    assert checkpoints.description(5) == {"step": 5, "arrays": {"a": "int64[3]"}}


def test_a_state_is_saved_as_it_was_though_it_is_donated_at_once(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    bump = jax.jit(lambda state: jax.tree.map(lambda leaf: leaf + 1, state), donate_argnums=0)
    state = {"a": jax.numpy.zeros((500, 1000))}
    checkpoints.save(1, state, {})
    for _ in range(20):
        state = bump(state)
    jax.block_until_ready(state)
    checkpoints.close()
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    restored = checkpoints.restore(
        1, jax.eval_shape(lambda: {"a": jax.numpy.zeros((500, 1000))}), sharding
    )
    np.testing.assert_array_equal(restored["a"], 0)

"""Runs that are cut off and started again."""

import dataclasses
import json
import shutil
import struct

import jax
import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from jaxcifar.data import facts, shapes
from jaxcifar.data.datasets import Dataset
from jaxcifar.errors import UserError
from jaxcifar.experiment import agreement
from jaxcifar.experiment.saved_run import SavedRun
from jaxcifar.host.checkpoints import Checkpoints
from jaxcifar.host.files import read_records
from tests.test_step import layout


def steps_in_tensorboard(workdir):
    """Return the steps of each tag in TensorBoard's files."""
    steps = {}
    for path in (workdir / "tensorboard").glob("events.*"):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            event, data = Event.FromString(data[12 : 12 + length]), data[16 + length :]
            for value in event.summary.value:
                steps.setdefault(value.tag, []).append(event.step)
    return steps


def test_records_after_the_checkpoint_and_half_a_line_are_dropped(tmp_path):
    from jaxcifar.host.metrics_log import MetricsLog

    lines = [json.dumps({"step": step, "time": 0.0, "train/loss": 1.0}) for step in (5, 10, 15)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + '\n{"step": 20, "ti')
    log = MetricsLog(tmp_path, last_step=10)
    log.write(15, {"train/loss": 2.0})
    log.close()
    records = read_records(tmp_path / "metrics.jsonl")
    assert [(r["step"], r["train/loss"]) for r in records] == [(5, 1), (10, 1), (15, 2)]
    assert steps_in_tensorboard(tmp_path) == {"train/loss": [5, 10, 15]}


def test_a_finished_run_prints_its_result_and_is_not_extended_unasked(
    run_here, fails, tiny_flags, tmp_path
):
    workdir = tmp_path / "[a]* b/lr[0.1]"  # which looks like a pattern
    flags = [*tiny_flags, f"--workdir={workdir}"]
    first = run_here(*flags)
    files = lambda: (workdir / "metrics.jsonl").read_text()
    records, checkpoints = files(), workdir / "checkpoints"
    shutil.copytree(checkpoints / "16", checkpoints / "8")  # as if killed before this was removed
    strays = {"²", "007", "5", "mine"}
    for stray in strays:
        (checkpoints / stray).touch()
    again = run_here(*flags, "--config.checkpoint.keep=1")
    assert again.returncode == 0, again.stderr
    assert {path.name for path in checkpoints.iterdir()} == {"16", "24"} | strays
    assert again.stdout.splitlines()[-1] == first.stdout.splitlines()[-1]
    assert "train loss" not in again.stdout and files() == records

    longer = fails(*flags, "--config.num_epochs=4")
    assert "num_epochs: 3 -> 4" in longer and "--extend" in longer and files() == records
    fewer = fails(*flags, "--config.num_epochs=2")
    assert "another --workdir" in fewer and "--extend" not in fewer

    starts = lambda: json.loads((workdir / "run.json").read_text())["starts"]
    assert [start["step"] for start in starts()] == [0]  # a start that trains nothing is none
    extended = run_here(*flags, "--config.num_epochs=4", "--extend")
    assert extended.returncode == 0, extended.stderr
    assert [start["step"] for start in starts()] == [0, 24]
    assert [r["step"] for r in read_records(workdir / "metrics.jsonl")][-1] == 32

    shorter = fails(*flags, "--config.num_epochs=2", "--extend")
    assert "--extend goes on to more epochs than the 4" in shorter
    changes = ["--config.num_epochs=4", "--config.seed=1", "--config.model.cnn.kernel_size=5"]
    other = fails(*flags, *changes, "--extend")
    assert "model.cnn.kernel_size: 3 -> 5" in other and "seed: 0 -> 1" in other


def test_a_run_is_what_its_config_chooses(run_here, fails, trained_run, tiny_flags, tmp_path):
    workdir = shutil.copytree(trained_run, tmp_path / "run")
    flags = [*tiny_flags, f"--workdir={workdir}"]
    not_chosen = ["--config.model.resnet.widths=8,8,8,8", "--config.optimizer.sgd.momentum=0.5"]
    not_chosen += ["--config.augmentation.flip.enabled=false", "--config.schedule.step.factor=0.5"]
    assert "is finished" in run_here(*flags, *not_chosen, "--config.convolutions=xla").stdout
    for change, (words, name) in {
        "augmentation.cutout.enabled=false": ("cutout.enabled: True -> False", "no-cutout"),
        "model.name=resnet": ("(model.name: cnn -> resnet)", "resnet"),
        "schedule.cosine.final_fraction=0.1": ("final_fraction: 0.0 -> 0.1", "final_fraction=0.1"),
        "data.shapes.seed=1": ("data.shapes.seed: 0 -> 1", "seed=1"),
        "optimizer.name=sgd": ("optimizer.name: adam -> sgd", "sgd"),
    }.items():
        line = fails(*flags, f"--config.{change}")
        assert words in line and line.endswith(f"such as --workdir={workdir}-{name}")
    (tmp_path / "run-seed=1").mkdir()
    line = fails(*flags, "--config.seed=1")
    assert line.endswith(f"--workdir={workdir}-seed=1-2")
    # A version with fewer or other components knows the run by those that it chose.
    saved = json.loads((workdir / "config.json").read_text())
    del saved["model"]["speednet"], saved["augmentation"]["flip"], saved["optimizer"]["muon"]
    saved["model"]["vit"] = {"depth": 12}
    (workdir / "config.json").write_text(json.dumps(saved))
    again = run_here(f"--workdir={workdir}", "--extend", "--config.num_epochs=4")
    assert "going on from step 24 of 32" in again.stdout, again.stderr
    assert run_here(f"--workdir={workdir}", "--mode=evaluate").returncode == 0
    assert "--config is missing" in fails(f"--workdir={tmp_path}")
    model = "--config.model.cnn.activation=relu"
    line = fails(f"--workdir={workdir}", "--mode=evaluate", model)
    assert "holds a run with another model (model.cnn.activation: gelu -> relu)" in line


def test_a_validation_split_is_a_config_line_and_evaluated_beside_the_test_split(
    run_here, tiny_flags, tmp_path
):
    splits = [
        "--config.data.train_split=train[:448]",
        "--config.data.validation_split=train[448:]",
    ]
    result = run_here(*tiny_flags, *splits, f"--workdir={tmp_path / 'run'}")
    assert result.returncode == 0, result.stderr
    last = read_records(tmp_path / "run/metrics.jsonl")[-1]
    assert {"train/accuracy", "validation/accuracy", "test/accuracy"} <= last.keys()
    assert last["validation/accuracy"] * 64 == round(last["validation/accuracy"] * 64)


def test_other_data_under_the_same_config_is_an_error(
    fails, trained_run, tiny_flags, tmp_path, monkeypatch
):
    workdir = shutil.copytree(trained_run, tmp_path / "run")
    draw = shapes.draw_shapes
    monkeypatch.setattr(shapes, "draw_shapes", lambda count, seed: draw(count, (*seed, 1)))
    assert "holds a run on other data" in fails(*tiny_flags, f"--workdir={workdir}")


def facts_of(normalisation, change=lambda images, labels: None):
    """Return the facts of drawn images, after `change` was called on the arrays."""
    images, labels = (array.copy() for array in shapes.draw_shapes(300, (0, 0)))
    change(images, labels)
    dataset = Dataset(images, labels, shapes.CLASS_NAMES)
    return facts.measure(dataset, normalisation)


def exchange_two(images, labels):
    one, other = np.flatnonzero(labels == labels[5])[:2]
    images[[one, other]] = images[[other, one]]


def mirror_one(images, labels):
    images[7] = images[7, :, ::-1].copy()


def darken_one(images, labels):
    images[7] //= 2


def relabel_one(images, labels):
    labels[7] = (labels[7] + 1) % 10


@pytest.mark.parametrize("normalisation", ["unit", "symmetric", "statistics"])
@pytest.mark.parametrize("change", [exchange_two, mirror_one, darken_one, relabel_one])
def test_changed_pixels_labels_or_order_are_noticed_under_every_normalisation(
    normalisation, change
):
    before = dataclasses.asdict(facts_of(normalisation))
    run = SavedRun(1, [], {"facts": json.loads(json.dumps(before))}, [])
    agreement.check_same_data(facts_of(normalisation), run, "runs/a", pytest.fail)
    with pytest.raises(UserError, match="--workdir=runs/a holds a run on other data"):
        agreement.check_same_data(facts_of(normalisation, change), run, "runs/a", pytest.fail)


def test_a_run_of_an_earlier_version_goes_on_unless_its_pixels_are_read_otherwise_now():
    before = dataclasses.asdict(facts_of("unit"))
    del before["fingerprint"]
    run = SavedRun(1, [], {"facts": json.loads(json.dumps(before))}, [])
    agreement.check_same_data(facts_of("unit"), run, "runs/a", lambda: False)
    with pytest.raises(UserError, match="orientation tag, which this version reads otherwise"):
        agreement.check_same_data(facts_of("unit"), run, "runs/a", lambda: True)


def test_how_a_run_is_logged_may_differ_when_it_goes_on(
    run_here, trained_run, tiny_flags, tmp_path
):
    workdir = shutil.copytree(trained_run, tmp_path / "run")
    changes = ["--config.logging.every_steps=1", "--config.evaluation.batch_size=16"]
    assert run_here(*tiny_flags, *changes, f"--workdir={workdir}").returncode == 0


@pytest.mark.slow
def test_a_run_saved_on_eight_devices_goes_on_on_one_and_then_on_four(
    run_here, run_program, tiny_flags, tmp_path
):
    flags = [*tiny_flags, f"--workdir={tmp_path / 'run'}"]
    assert run_here(*flags).returncode == 0
    in_haste = lambda devices: {
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=0"
    }
    extended = run_program(*flags, "--config.num_epochs=4", "--extend", **in_haste(1))
    assert extended.returncode == 0, extended.stderr
    assert "going on from step 24 of 32" in extended.stdout
    again = run_program(*flags, "--config.num_epochs=5", "--extend", **in_haste(4))
    assert again.returncode == 0, again.stderr
    assert "going on from step 32 of 40" in again.stdout


@pytest.mark.parametrize("saved_on, restored_on", [(8, 1), (8, 4), (1, 8), (4, 8)])
def test_a_state_is_the_same_on_whatever_devices_it_is_restored(tmp_path, saved_on, restored_on):
    state = {"a": np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)}
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=1)
    checkpoints.save(1, layout(saved_on).put(state), {})
    checkpoints.wait()
    restored = checkpoints.restore(1, state, layout(restored_on).everywhere)
    checkpoints.close()
    np.testing.assert_array_equal(restored["a"], state["a"])
    assert restored["a"].sharding.device_set == set(jax.devices()[:restored_on])


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
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=1)
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

"""What happens to a run when the process, the disk or the network fails."""

import errno
import gc
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from jaxcifar.errors import UserError
from jaxcifar.experiment import saved_run
from jaxcifar.host.checkpoint_sums import whole_arrays
from jaxcifar.host.checkpoints import Checkpoints
from jaxcifar.host.files import read_records, sole_writer
from jaxcifar.host.metrics_log import MetricsLog
from tests.conftest import ROOT, wait_for
from tests.test_data import write_dataset

LONGER = ["--config.data.shapes.train_examples=4096"]
"""64 steps an epoch, so that there is time to stop it between two records."""


def end_of(workdir):
    """Return how a run ended: its last state, its evaluation and its records without times."""
    step = max(Checkpoints(workdir / "checkpoints").steps())
    evaluation = json.loads((workdir / "evaluation.json").read_text())
    return (
        saved_state(workdir, step),
        evaluation,
        [
            {k: v for k, v in record.items() if k not in ("time", "images_per_second")}
            for record in read_records(workdir / "metrics.jsonl")
        ],
    )


def saved_state(workdir, step):
    """Return the leaves of a saved state by name, as NumPy arrays."""
    folder = workdir / f"checkpoints/{step}/state"
    reader = ocp.PyTreeCheckpointer()
    shapes = reader.metadata(folder).item_metadata.tree
    kind = ocp.RestoreArgs(restore_type=np.ndarray)
    state = reader.restore(folder, restore_args=jax.tree.map(lambda _: kind, shapes))
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def assert_same_end(a, b):
    """Check that two runs ended the same, bit for bit."""
    (state_a, *others_a), (state_b, *others_b) = end_of(a), end_of(b)
    assert state_a.keys() == state_b.keys() and state_a
    for name, leaf in state_a.items():
        np.testing.assert_array_equal(leaf, state_b[name], err_msg=name)
    assert others_a == others_b


@pytest.fixture(scope="module")
def uninterrupted(run_program, tiny_flags, tmp_path_factory):
    """Return the workdir of a run of 64 steps an epoch that was not interrupted."""
    workdir = tmp_path_factory.mktemp("uninterrupted")
    result = run_program(*tiny_flags, *LONGER, f"--workdir={workdir}")
    assert result.returncode == 0, result.stderr
    return workdir


@pytest.mark.parametrize("damage", [b'{"step": 2, "lo', b'{"step": \xff}\n{"step": 3}\n'])
def test_records_are_read_up_to_where_they_are_damaged(tmp_path, damage):
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1}\n' + damage)
    assert read_records(tmp_path / "metrics.jsonl") == [{"step": 1}]


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_a_signal_saves_and_the_same_command_ends_as_if_there_had_been_none(
    start_program, run_program, tiny_flags, uninterrupted, tmp_path, number
):
    workdir = tmp_path / "run"
    flags = [*tiny_flags, *LONGER, f"--workdir={workdir}"]
    process = start_program(*flags)
    wait_for(lambda: len(read_records(workdir / "metrics.jsonl")) > 30, process)
    process.send_signal(number)
    _, err = process.communicate(timeout=15)
    assert process.returncode == 128 + number, err
    (line,) = err.splitlines()
    found = re.fullmatch(
        rf"stopped by {number.name}: step (\d+) of 192 is saved in {workdir}; "
        "the same command goes on from it",
        line,
    )
    assert 64 < int(found[1]) <= 192
    assert max(Checkpoints(workdir / "checkpoints").steps()) == int(found[1])
    resumed = run_program(*flags)
    assert resumed.returncode == 0, resumed.stderr
    assert f"going on from step {found[1]} of 192" in resumed.stdout
    assert_same_end(workdir, uninterrupted)


@pytest.mark.slow
def test_a_signal_in_an_evaluation_does_not_wait_for_its_end(
    start_program, run_program, tiny_flags, tmp_path
):
    slow = ["--config.evaluation.batch_size=1"]
    workdir = tmp_path / "run"
    flags = [*tiny_flags, "--config.num_epochs=2", "--config.data.shapes.test_examples=2000"]
    process = start_program(*flags, *slow, f"--workdir={workdir}")
    wait_for(lambda: Checkpoints(workdir / "checkpoints").steps() == [8], process)
    assert read_records(workdir / "metrics.jsonl")[-1]["step"] == 6
    for _ in range(2):  # a closed terminal: the shell and the system each send one
        process.send_signal(signal.SIGHUP)
        time.sleep(0.1)
    _, err = process.communicate(timeout=15)
    assert process.returncode == 129 and "step 8 of 16 is saved" in err
    assert read_records(workdir / "metrics.jsonl")[-1]["step"] == 6
    for directory in (workdir, tmp_path / "whole"):
        assert run_program(*flags, f"--workdir={directory}").returncode == 0
    assert_same_end(workdir, tmp_path / "whole")


def test_a_signal_before_the_first_step_says_that_nothing_is_lost(
    start_program, tiny_flags, tmp_path
):
    process = start_program(*tiny_flags, f"--workdir={tmp_path / 'run'}")
    wait_for((tmp_path / "run").exists, process)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=15)
    assert process.returncode == 143
    assert err == "stopped by SIGTERM: nothing is lost; start the same command again\n"
    assert Checkpoints(tmp_path / "run/checkpoints").steps() == []


@pytest.mark.parametrize("seconds", [0.8, 1.4, 2.2])
def test_a_signal_outside_of_training_ends_the_program_wherever_it_is(
    start_program, trained_run, tmp_path, seconds
):
    """Even where an exception raised by its handler would be swallowed, or end in an abort."""
    workdir = shutil.copytree(trained_run, tmp_path / "run")
    process = start_program("--mode=evaluate", f"--workdir={workdir}")
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=15)
    if err or "report: " not in out:  # else all was done, and the interpreter past its handlers
        assert process.returncode == 130
        *warnings, line = err.splitlines()
        assert line == "stopped by SIGINT: nothing is lost; start the same command again"
        assert all(each.startswith("warning: an accuracy of") for each in warnings)


def test_a_second_run_in_a_workdir_is_refused_until_the_first_is_gone(
    start_program, run_program, tiny_flags, tmp_path
):
    flags = [*tiny_flags, *LONGER, "--config.num_epochs=50", f"--workdir={tmp_path / 'run'}"]
    first = start_program(*flags)
    wait_for(lambda: read_records(tmp_path / "run/metrics.jsonl"), first)
    second = run_program(*flags)
    assert second.returncode == 2
    assert re.fullmatch(
        rf"error: --workdir=.*/run: process {first.pid} on .* is training in it: wait for its end, "
        "or use another --workdir\n",
        second.stderr,
    )
    first.send_signal(signal.SIGKILL)
    first.wait()
    third = start_program(*flags)
    wait_for(lambda: str(third.pid) in (tmp_path / "run/lock").read_text(), third)


def test_a_directory_to_which_nothing_was_added_is_left_as_it_was(tmp_path):
    (tmp_path / "mine").write_text("mine")
    for directory in (tmp_path, tmp_path / "new/run"):
        with sole_writer(directory):
            assert (directory / "lock").exists()
            with pytest.raises(UserError, match="is training in it"), sole_writer(directory):
                pass
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    with sole_writer(tmp_path):
        (tmp_path / "checkpoints").mkdir()
    assert (tmp_path / "lock").exists()


# Ways to damage the newest checkpoint. Each takes its directory.


def largest(folder):
    return max((file for file in folder.rglob("*") if file.is_file()), key=os.path.getsize)


def truncate(folder):
    os.truncate(largest(folder), largest(folder).stat().st_size // 2)


def empty_a_file(folder):
    os.truncate(largest(folder), 0)


def flip_a_bit(folder):
    file = largest(folder)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def flip_a_bit_of_the_description(folder):
    file = folder / "description/metadata"
    file.write_bytes(bytes([file.read_bytes()[0] ^ 1]) + file.read_bytes()[1:])


def remove_a_file(folder):
    largest(folder).unlink()


def remove_the_state(folder):
    shutil.rmtree(folder / "state")


def empty_the_directory(folder):
    shutil.rmtree(folder)
    folder.mkdir()


def remove_the_sums(folder):
    (folder / "SHA256SUMS").unlink()


def garble_the_sums(folder):
    (folder / "SHA256SUMS").write_bytes(b"\xff\x00garbled")


def leave_the_manifest_out(folder):
    """As in versions that took the path for a pattern."""
    lines = (folder / "SHA256SUMS").read_text().splitlines(keepends=True)
    kept = [line for line in lines if not line.endswith("  state/manifest.ocdbt\n")]
    (folder / "SHA256SUMS").write_text("".join(kept))
    (folder / "state/manifest.ocdbt").unlink()


def take_another_file(folder):
    manifests = sorted(folder.rglob("manifest.ocdbt"))
    shutil.copy(manifests[0], manifests[1])


def take_another_checkpoint(folder):
    others = [
        other for other in folder.parent.iterdir() if other.name.isdigit() and other != folder
    ]
    shutil.rmtree(folder)
    shutil.copytree(others[0], folder)


DAMAGES = [
    truncate,
    empty_a_file,
    flip_a_bit,
    flip_a_bit_of_the_description,
    remove_a_file,
    remove_the_state,
    empty_the_directory,
    remove_the_sums,
    garble_the_sums,
    leave_the_manifest_out,
    take_another_file,
    take_another_checkpoint,
]


@pytest.fixture(scope="module")
def two_checkpoints(tmp_path_factory):
    """Return a workdir with checkpoints of the steps 1 and 2."""
    workdir = tmp_path_factory.mktemp("two")
    checkpoints = Checkpoints(workdir / "checkpoints", keep=2)
    for step in (1, 2):
        checkpoints.save(step, {"a": np.full((100, 100), step, np.float32)}, {"step": step})
    checkpoints.close()
    return workdir


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_passed_over_with_a_warning_that_names_both(
    two_checkpoints, tmp_path, capsys, damage
):
    shutil.copytree(two_checkpoints, tmp_path, dirs_exist_ok=True)
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    assert saved_run.newest_whole(checkpoints, tmp_path) == (2, [])
    damage(tmp_path / "checkpoints/2")
    assert saved_run.newest_whole(checkpoints, tmp_path) == (1, [2])
    (line,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"warning: checkpoint 2 in .* is damaged \(.+\): using 1 instead", line)
    assert saved_run.chosen_step(checkpoints, tmp_path, None) == 1
    with pytest.raises(UserError, match="--step=2: that checkpoint .* is damaged"):
        saved_run.chosen_step(checkpoints, tmp_path, 2)


def test_saves_leave_little_memory_behind_in_tensorstore(tmp_path):
    """Less than 80 bytes for an array; two of TensorStore's functions leak 400."""
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=2)
    state = {str(index): np.zeros(10) for index in range(50)}

    def save(steps):
        for step in steps:
            checkpoints.save(step, state, {})
        checkpoints.wait()
        gc.collect()
        found = tracemalloc.take_snapshot().statistics("filename")
        return sum(s.size for s in found if "tensorstore_utils" in s.traceback[0].filename)

    tracemalloc.start()
    growth = -save(range(1, 6)) + save(range(6, 16))
    tracemalloc.stop()
    checkpoints.close()
    assert growth < 10 * 50 * 80


ODD_NAMES = [
    "lr[0.1]",
    "[!a]",
    "a*b",
    "a**b",
    "a?b",
    " a b ",
    "a%20b",
    "a:b",
    "{a}",
    "~",
    "ünï☃",
    "a\nb",
]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_checkpoints_lie_in_a_directory_of_any_name(tmp_path, name):
    directory = tmp_path / name / "run"
    writer = Checkpoints(directory, keep=2)
    for step in (1, 2, 3):
        writer.save(step, {"a": np.full(3, step)}, {})
    writer.close()
    reader = Checkpoints(directory)
    assert reader.steps() == [2, 3] and reader.fault(3) is None
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    restored = reader.restore(3, {"a": np.zeros(3, int)}, device)
    np.testing.assert_array_equal(restored["a"], 3)
    reader.close()


@pytest.mark.parametrize("name", ["a\\b", "a\\", "gs:", "a\udcff"])
def test_a_directory_that_tensorstore_would_take_for_another_is_refused_before_anything_is_written(
    fails, tiny_flags, tmp_path, name
):
    line = fails(*tiny_flags, f"--workdir={tmp_path / name / 'run'}")
    assert "no checkpoint can be saved in" in line and "name another --workdir" in line
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_that_cannot_be_read_gets_neither_sums_nor_name(tmp_path, monkeypatch):
    writer = Checkpoints(tmp_path, keep=2)
    writer.save(1, {"a": np.ones(3)}, {})
    writer.wait()
    for unreadable in (lambda folder: int("x"), lambda folder: {"b"}):
        monkeypatch.setattr("jaxcifar.host.checkpoint_sums.whole_arrays", unreadable)
        writer.save(2, {"a": np.ones(3)}, {})
        with pytest.raises(
            UserError, match="checkpoint 2 could not be saved in .* of the steps 1 "
        ):
            writer.wait()
        assert writer.steps() == [1] and not list(tmp_path.glob("2*/SHA256SUMS"))


def test_reading_a_checkpoint_back_finds_what_is_missing(two_checkpoints, tmp_path):
    state = shutil.copytree(two_checkpoints / "checkpoints/2/state", tmp_path / "state")
    assert whole_arrays(state) == {"a"}
    for file in state.rglob("d/*"):
        file.unlink()
    with pytest.raises(ValueError, match="NOT_FOUND"):
        whole_arrays(state)
    (state / "manifest.ocdbt").unlink()
    assert whole_arrays(state) == set()


def test_the_sums_are_what_sha256sum_checks(two_checkpoints):
    folder = two_checkpoints / "checkpoints/2"
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=folder, check=True)
    named = {line.split("  ")[1] for line in (folder / "SHA256SUMS").read_text().splitlines()}
    files = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    # What Orbax writes after the sums; its first versions write one file less.
    assert {"SHA256SUMS"} <= files - named
    assert files - named <= {"SHA256SUMS", "_CHECKPOINT_METADATA", "commit_success.txt"}


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_goes_on_from_the_newest_whole_checkpoint_and_keeps_the_damaged_one(
    run_here, run_program, tiny_flags, uninterrupted, tmp_path
):
    workdir = tmp_path / "run"
    shutil.copytree(uninterrupted, workdir)
    assert Checkpoints(workdir / "checkpoints").steps() == [128, 192]
    flip_a_bit(workdir / "checkpoints/192")
    damaged = list(contents(workdir / "checkpoints/192").values())
    for run, arguments in ((run_here, ["--mode=evaluate"]), (run_program, [*tiny_flags, *LONGER])):
        result = run(*arguments, f"--workdir={workdir}")
        assert result.returncode == 0, result.stderr
        assert f"warning: checkpoint 192 in {workdir} is damaged" in result.stderr
        assert "using 128 instead" in result.stderr
    assert "going on from step 128 of 192" in result.stdout
    assert_same_end(workdir, uninterrupted)
    assert list(contents(workdir / "damaged/192").values()) == damaged


def test_a_damaged_checkpoint_is_moved_to_another_file_system_where_the_directory_is_a_link(
    two_checkpoints, tmp_path, monkeypatch
):
    def rename(source, target):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    shutil.copytree(two_checkpoints, tmp_path, dirs_exist_ok=True)
    before = list(contents(tmp_path / "checkpoints/2").values())
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=2)
    monkeypatch.setattr(os, "rename", rename)
    checkpoints.tidy([2], 2)
    assert checkpoints.steps() == [1]
    assert list(contents(tmp_path / "damaged/2").values()) == before
    monkeypatch.setattr(shutil, "move", rename)
    with pytest.raises(UserError, match="checkpoint 1 in .* cannot be moved to .*: move it away"):
        checkpoints.tidy([1], 2)
    assert checkpoints.steps() == [1]


def test_the_directory_of_tensorboard_may_be_a_link(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "tensorboard").symlink_to(tmp_path / "elsewhere")
    for _ in range(2):
        MetricsLog(tmp_path, last_step=0).close()
        assert len(list((tmp_path / "elsewhere").iterdir())) == 1


def test_without_a_whole_checkpoint_nothing_runs_and_nothing_is_deleted(
    fails, tiny_flags, uninterrupted, tmp_path
):
    workdir = tmp_path / "run"
    shutil.copytree(uninterrupted, workdir)
    for folder in (workdir / "checkpoints").iterdir():
        truncate(folder)
    before = contents(workdir)
    for arguments in ([*tiny_flags, *LONGER], ["--mode=evaluate"]):
        line = fails(*arguments, f"--workdir={workdir}")
        assert "holds no checkpoint that is whole (192: " in line and "; 128: " in line
    after = contents(workdir)
    assert {p: c for p, c in after.items() if p.name != "lock"} == {
        p: c for p, c in before.items() if p.name != "lock"
    }


def test_a_disk_that_is_full_is_a_line_and_leaves_the_earlier_checkpoints(
    start_program, run_program, tiny_flags, uninterrupted, tmp_path
):
    """A process with a limit on the size of files gets the same errors as on a full disk."""
    workdir = tmp_path / "run"
    flags = [*tiny_flags, *LONGER, f"--workdir={workdir}"]
    process = start_program(*flags)
    wait_for(lambda: Checkpoints(workdir / "checkpoints").steps(), process)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (4096, 4096))
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2, err
    (line,) = err.splitlines()
    assert line.startswith("error: ") and "File too large" in line
    steps = Checkpoints(workdir / "checkpoints").steps()
    assert steps and all(Checkpoints(workdir / "checkpoints").fault(step) is None for step in steps)
    resumed = run_program(*flags)
    assert resumed.returncode == 0, resumed.stderr
    assert_same_end(workdir, uninterrupted)


def exploding(epoch, factor):
    """Return the flags for a learning rate that is multiplied by `factor` after `epoch`."""
    return [
        "--config.schedule.name=step",
        "--config.schedule.warmup_epochs=0",
        f"--config.schedule.step.boundaries={epoch},",
        f"--config.schedule.step.factor={factor}",
    ]


def test_a_loss_that_is_not_finite_ends_the_run_and_leaves_the_last_good_checkpoint(
    run_here, tiny_flags, tmp_path
):
    workdir = tmp_path / "run"
    result = run_here(*tiny_flags, *exploding(0.5, 1e35), f"--workdir={workdir}")
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    found = re.match(
        r"error: the loss is not finite after step (\d+), at a learning rate of 3e\+32; the "
        "checkpoint of step 8 stays: lower --config.optimizer.learning_rate",
        line,
    )
    assert 12 < int(found[1]) <= 12 + 3
    checkpoints = Checkpoints(workdir / "checkpoints")
    assert checkpoints.steps() == [8] and checkpoints.fault(8) is None
    assert all(np.isfinite(leaf).all() for leaf in saved_state(workdir, 8).values())


def test_a_step_that_breaks_the_parameters_is_not_saved(run_here, tiny_flags, tmp_path):
    """In the last step of an epoch: its loss is computed before its update."""
    plain = ["--config.optimizer.name=sgd", "--config.optimizer.learning_rate=10"]
    explodes = [*exploding(0.95, 1e38), *plain, "--config.num_epochs=1"]
    result = run_here(*tiny_flags, *explodes, f"--workdir={tmp_path / 'run'}")
    assert result.returncode == 2
    assert "there is no checkpoint yet" in result.stderr
    assert Checkpoints(tmp_path / "run/checkpoints").steps() == []


@pytest.mark.slow
def test_a_clock_that_is_set_back_changes_nothing_but_the_times(
    start_program, run_program, tiny_flags, uninterrupted, tmp_path
):
    workdir = tmp_path / "run"
    flags = [*tiny_flags, *LONGER, f"--workdir={workdir}"]
    process = start_program(*flags)
    wait_for(lambda: Checkpoints(workdir / "checkpoints").steps(), process)
    process.kill()
    process.wait()
    code = (
        "import sys, time; now = time.time; time.time = lambda: now() - 1e6;"
        "time.time_ns = lambda: int(1e9 * time.time());"
        "from jaxcifar import main; sys.exit(main.main(sys.argv))"
    )
    one_device = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=1"}
    command = [sys.executable, "-c", code, *flags]
    resumed = subprocess.run(command, cwd=ROOT, env=one_device, capture_output=True)
    assert resumed.returncode == 0, resumed.stderr
    times = [record["time"] for record in read_records(workdir / "metrics.jsonl")]
    assert times[-1] < times[0] - 9e5
    assert_same_end(workdir, uninterrupted)


@pytest.mark.slow
def test_a_dataset_that_disappears_after_the_start_is_not_missed(start_program, tmp_path):
    write_dataset(tmp_path / "data", count=400)
    flags = [
        "--config=configs/default.py",
        "--config.data.name=tiny",
        f"--config.data.data_dir={tmp_path / 'data'}",
        "--config.batch_size=8",
        "--config.num_epochs=5",
        "--config.model.cnn.widths=2,2,2",
        "--config.model.cnn.convs_per_block=1,2,2",
        "--config.logging.every_steps=1",
    ]
    process = start_program(*flags, f"--workdir={tmp_path / 'run'}")
    wait_for(lambda: read_records(tmp_path / "run/metrics.jsonl"), process)
    shutil.rmtree(tmp_path / "data")
    assert read_records(tmp_path / "run/metrics.jsonl")[-1]["epoch"] < 4
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert json.loads((tmp_path / "run/evaluation.json").read_text())["examples"] == 7


@pytest.mark.slow
def test_runs_killed_at_random_end_as_if_they_had_not_been():
    """The short form of `python -m tests.chaos`."""
    command = [sys.executable, "-m", "tests.chaos", "--kills=2", "--damage"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "2 of 2 runs ended as the uninterrupted one" in result.stdout

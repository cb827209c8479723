"""Runs of several processes, on loopback."""

import re
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest

from jaxcifar.checkpoint import Checkpoints
from jaxcifar.paths import read_records
from tests.conftest import ROOT, wait_for
from tests.test_faults import LONGER, assert_same_end


def free_port():
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


@pytest.fixture
def start_all(start_program):
    """Start a run of several processes with two devices each: `start_all(*arguments, processes=2)`."""

    def start(*arguments, processes=2):
        where = ["--distributed", f"--coordinator_address=localhost:{free_port()}"]
        where.append(f"--num_processes={processes}")
        return [
            start_program(*arguments, *where, f"--process_id={i}", devices=2)
            for i in range(processes)
        ]

    return start


def finish(processes, seconds=120):
    """Wait for the end of all, and return what each printed on stdout and stderr."""
    return [process.communicate(timeout=seconds) for process in processes]


@pytest.fixture(scope="module")
def steps_of(tmp_path_factory):
    """Return the arrays that a number of processes ends with, in `tests.several_processes`."""
    folder = tmp_path_factory.mktemp("steps")

    def run(count):
        port, file = free_port(), folder / f"{count}.npz"
        processes = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.several_processes"]
                + [str(value) for value in (i, count, port, file)],
                cwd=ROOT,
                stderr=subprocess.PIPE,
            )
            for i in range(count)
        ]
        errors = finish(processes)
        assert [process.returncode for process in processes] == [0] * count, errors
        return np.load(file)

    return run


def test_two_and_four_processes_equal_one_with_as_many_devices(steps_of):
    one = steps_of(1)
    for count in (2, 4):
        several = steps_of(count)
        assert several.keys() == one.keys() and len(one.files) > 50
        for name in one:
            a, b = np.asarray(one[name], np.float64), np.asarray(several[name], np.float64)
            if name.startswith("float64"):
                np.testing.assert_allclose(b, a, atol=1e-9, rtol=0, err_msg=name)
            else:
                assert np.linalg.norm(a - b) <= 1e-5 * np.linalg.norm(a), name


def test_two_processes_stopped_or_killed_and_started_again_end_as_if_nothing_had_happened(
    start_all, run_program, tiny_flags, tmp_path
):
    flags = [*tiny_flags, *LONGER, "--config.num_epochs=2"]
    whole = start_all(*flags, f"--workdir={tmp_path / 'whole'}")
    (out, _), (other_out, _) = finish(whole)
    assert [process.returncode for process in whole] == [0, 0]
    assert "report: " in out
    assert all(line.startswith("[Gloo]") for line in other_out.splitlines())
    assert (tmp_path / "whole/report/index.html").exists()

    for number in (signal.SIGTERM, signal.SIGKILL):
        workdir = tmp_path / number.name
        cut_off = start_all(*flags, f"--workdir={workdir}")
        wait_for(
            lambda: any(r["epoch"] > 1.1 for r in read_records(workdir / "metrics.jsonl")),
            cut_off[0],
        )
        cut_off[1].send_signal(number)
        printed = finish(cut_off, seconds=60)
        if number == signal.SIGTERM:
            for process, (_, err) in zip(cut_off, printed):
                assert process.returncode == 143, err
                assert re.search(r"stopped by SIGTERM: step \d+ of 128 is saved in", err)
        else:
            assert cut_off[0].returncode != 0
            assert re.search("another (task died|process of this run has ended)", printed[0][1])
        assert Checkpoints(workdir / "checkpoints").steps()
        resumed = start_all(*flags, f"--workdir={workdir}")
        (out, err), _ = finish(resumed)
        assert [process.returncode for process in resumed] == [0, 0], err
        assert "going on from step" in out
        assert_same_end(workdir, tmp_path / "whole")

    # What several processes saved, one evaluates.
    evaluated = run_program("--mode=evaluate", f"--workdir={tmp_path / 'whole'}")
    assert evaluated.returncode == 0, evaluated.stderr
    assert evaluated.stdout.splitlines()[-2] == next(
        line for line in out.splitlines() if line.startswith("test: ")
    )

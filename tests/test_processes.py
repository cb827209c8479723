"""Runs of several processes, on loopback."""

import re
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest

from jaxcifar.devices import processes
from jaxcifar.errors import UserError
from jaxcifar.host.files import read_records
from tests.conftest import ROOT, wait_for
from tests.test_faults import assert_same_end


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


@pytest.fixture
def steps_of(tmp_path):
    """Return a function for the arrays that `count` processes of `tests.several_processes` end with."""

    def run(count, *more):
        port, file = free_port(), tmp_path / f"{count}{''.join(more)}.npz"
        processes = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.several_processes"]
                + [str(value) for value in (i, count, port, file, *more)],
                cwd=ROOT,
                stderr=subprocess.PIPE,
            )
            for i in range(count)
        ]
        errors = finish(processes)
        assert [process.returncode for process in processes] == [0] * count, errors
        return np.load(file)

    return run


def test_two_processes_equal_one_with_as_many_devices(steps_of):
    one, two = steps_of(1), steps_of(2)
    assert two.keys() == one.keys() and len(one.files) > 50
    for name in one:
        np.testing.assert_allclose(two[name], one[name], atol=1e-9, rtol=0, err_msg=name)


@pytest.mark.slow
def test_two_processes_that_stream_equal_two_that_do_not_bit_for_bit(steps_of):
    resident, streamed = steps_of(2), steps_of(2, "streamed")
    assert streamed.keys() == resident.keys() and len(resident.files) > 50
    for name in resident:
        np.testing.assert_array_equal(streamed[name], resident[name], err_msg=name)


@pytest.mark.slow
def test_two_processes_stopped_then_killed_and_started_again_end_as_if_nothing_had_happened(
    start_all, run_here, tiny_flags, tmp_path
):
    flags = [*tiny_flags, "--config.data.shapes.train_examples=2048", "--config.num_epochs=2"]
    whole = start_all(*flags, f"--workdir={tmp_path / 'whole'}")
    (out, _), (other_out, _) = finish(whole)
    assert [process.returncode for process in whole] == [0, 0]
    assert "report: " in out
    # It prints only Gloo's messages, in pieces and from several threads at a time.
    words = set(re.findall("[A-Za-z]+", other_out))
    gloo = "Gloo Rank is connected to peer ranks Expected number of connected peer ranks is"
    assert words <= set(gloo.split()), other_out
    assert (tmp_path / "whole/report/index.html").exists()

    workdir = tmp_path / "cut-off"
    log = workdir / "metrics.jsonl"

    def cut_off(number, epoch):
        """Start both, send one of them a signal after `epoch`, and return what each printed on stderr."""
        processes = start_all(*flags, f"--workdir={workdir}")
        wait_for(lambda: any(r["epoch"] > epoch for r in read_records(log)), processes[0])
        processes[1].send_signal(number)
        errors = [err for _, err in finish(processes, seconds=60)]
        return [process.returncode for process in processes], errors

    codes, errors = cut_off(signal.SIGTERM, epoch=0.2)
    assert codes == [143, 143], errors
    for err in errors:
        assert re.search(r"stopped by SIGTERM: step \d+ of 64 is saved in", err)
    codes, errors = cut_off(signal.SIGKILL, epoch=1.1)
    assert codes[0] != 0
    assert re.search("another (task died|process of this run has ended)", errors[0])
    resumed = start_all(*flags, f"--workdir={workdir}")
    (out, err), _ = finish(resumed)
    assert [process.returncode for process in resumed] == [0, 0], err
    assert "going on from step" in out
    assert_same_end(workdir, tmp_path / "whole")

    # One process evaluates a run that several have saved.
    evaluated = run_here("--mode=evaluate", f"--workdir={tmp_path / 'whole'}")
    assert evaluated.returncode == 0, evaluated.stderr
    results = [
        next(line for line in text.splitlines() if line.startswith("test: "))
        for text in (evaluated.stdout, out)
    ]
    assert results[0] == results[1]


def test_processes_that_are_started_with_different_configs_are_refused(
    start_program, tiny_flags, tmp_path
):
    where = ["--distributed", f"--coordinator_address=localhost:{free_port()}", "--num_processes=2"]
    processes = [
        start_program(
            *tiny_flags,
            f"--workdir={tmp_path / 'run'}",
            *where,
            f"--process_id={i}",
            f"--config.seed={i}",
        )
        for i in range(2)
    ]
    for process, (_, err) in zip(processes, finish(processes)):
        assert process.returncode == 2
        assert "error: the processes of this run differ in config" in err
    assert not (tmp_path / "run").exists()


def test_a_coordinator_that_does_not_answer_is_an_error(monkeypatch):
    monkeypatch.setattr(processes, "CONNECT_SECONDS", 0.5)
    port = free_port()
    with pytest.raises(UserError, match=f"--coordinator_address=localhost:{port} does not answer"):
        processes.connect(f"localhost:{port}", 2, 1, training=True)

"""A rehearsal of a GPU on a CPU: the program takes the paths of an accelerator, from `main` to prediction.

Many steps a dispatch, XLA's layers without oneDNN, bfloat16 by default, and no facts that only inform.
What it cannot rehearse has tests of its own, marked `gpu`.
"""

import errno
import importlib.metadata
import json
import platform as standard_platform
import re
import signal
import threading
import time

import jax
import numpy as np
import pytest
from clu import parameter_overview
from PIL import Image

from jaxcifar import predict
from jaxcifar.data import shapes
from jaxcifar.devices import backend, cpu_facts, mapping, platform
from jaxcifar.devices.layout import Layout
from jaxcifar.evaluation.split_evaluator import Evaluator
from jaxcifar.host import informative
from jaxcifar.host.checkpoints import Checkpoints
from jaxcifar.host.files import read_records
from jaxcifar.host.signals import Stopping
from jaxcifar.models import convolution
from jaxcifar.step.order import stretches
from jaxcifar.training import flops, overview
from jaxcifar.training.saver import NotFiniteError, Saver
from tests.test_faults import end_of

NARROW = {
    "num_epochs": 1,
    "data.shapes.train_examples": 500,
    "data.shapes.test_examples": 100,
    "model.cnn.widths": (8, 16),
    "model.cnn.convs_per_block": (1, 1),
    "logging.every_steps": 3,
    "evaluation.test_time_augmentation": "mirror",
}
"""Seven steps of 64, in dispatches of three."""


def no_answer(*args, **kwargs):
    return None


def failure(*args, **kwargs):
    raise RuntimeError("this platform does not say")


@pytest.fixture
def rehearse(monkeypatch):
    """Take a GPU's paths on some devices; `tell` replaces what only informs: `rehearse(devices, tell)`."""

    def start(devices, tell):
        monkeypatch.setattr(platform, "current", lambda: "gpu")
        found = tuple(jax.devices()[:devices])
        monkeypatch.setattr(backend, "start", lambda: found)
        for owner, name in (
            (jax.stages.Lowered, "cost_analysis"),
            (jax.stages.Compiled, "cost_analysis"),
            (jax.stages.Compiled, "memory_analysis"),
            (importlib.metadata, "version"),
            (informative, "version"),
            (cpu_facts, "describe"),
            (standard_platform, "processor"),
            (overview, "count_flops"),
            (flops, "count_flops"),
            (parameter_overview, "get_parameter_overview"),
        ):
            monkeypatch.setattr(owner, name, tell)

    return start


@pytest.mark.parametrize(
    "devices, precision, tell",
    [
        (2, "auto", failure),
        pytest.param(1, "float32", no_answer, marks=pytest.mark.slow),
    ],
)
def test_a_run_on_an_accelerator_is_trained_stopped_resumed_evaluated_reported_and_asked(
    rehearse, run_here, capsys, monkeypatch, tmp_path, devices, precision, tell
):
    rehearse(devices, tell)
    workdir = tmp_path / "run"
    changes = [f"--config.{path}={value}" for path, value in NARROW.items()]
    flags = ["--config=configs/quick.py", *changes, f"--config.precision={precision}"]
    flags.append(f"--workdir={workdir}")
    spans, seen_types = [], set()
    run_rows = mapping.OverRows.__call__

    def watched(self, state, data, order, start, stop, key=None):
        spans.append((start, stop))
        return run_rows(self, state, data, order, start, stop, key)

    monkeypatch.setattr(mapping.OverRows, "__call__", watched)
    convolve = jax.lax.conv_general_dilated

    def seen(images, *args, **kwargs):
        seen_types.add((images.dtype.name, jax.config.jax_default_matmul_precision))
        return convolve(images, *args, **kwargs)

    monkeypatch.setattr(jax.lax, "conv_general_dilated", seen)
    if convolution.onednn:
        no_call = lambda *args, **kwargs: pytest.fail("oneDNN convolves")
        monkeypatch.setattr(convolution.onednn, "_call", no_call)

    def stop_after_two_dispatches(self):
        if len(spans) == 2:
            self.number = signal.SIGTERM
        return self.number is not None

    with monkeypatch.context() as patch:
        patch.setattr(Stopping, "asked", stop_after_two_dispatches)
        stopped = run_here(*flags)
    assert stopped.returncode == 143, stopped.stderr
    assert "step 6 of 7 is saved" in stopped.stderr
    assert "FLOPs not known" in stopped.stdout
    assert spans == [(0, 3), (3, 6)]
    finished = run_here(*flags)
    assert finished.returncode == 0, finished.stderr
    assert "going on from step 6 of 7" in finished.stdout
    in_steps = ("float32", "float32") if precision == "float32" else ("bfloat16", None)
    outside = (in_steps[0], None)  # where the state is drawn and FLOPs are counted
    assert in_steps in seen_types and seen_types <= {in_steps, outside}

    evaluation = json.loads((workdir / "evaluation.json").read_text())
    again = run_here("--mode=evaluate", f"--workdir={workdir}")
    assert again.returncode == 0, again.stderr
    assert json.loads((workdir / "evaluation.json").read_text()) == evaluation
    assert evaluation["test_time_augmentation"].keys() == {"mirror"}
    summary = json.loads((workdir / "run.json").read_text())
    assert summary["forward_flops"] is None and summary["processor"] is None
    assert summary["convolutions"] == "xla"
    page = (workdir / "report/index.html").read_text()
    assert re.search(r"MFLOP an image, forward</th><td>not known</td>", page)
    assert re.search(r"processor</th><td>not known</td>", page)

    images, _ = shapes.draw_shapes(100, (0, 1))
    Image.fromarray(images[0]).save(tmp_path / "0.png")
    arguments = ["predict", f"--workdir={workdir}", "--json", "--top_k=10"]
    assert predict.main([*arguments, str(tmp_path / "0.png")]) == 0
    (answer,) = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    found = {each["class"]: each["probability"] for each in answer["predictions"]}
    expected = np.load(workdir / "predictions.npz")["probabilities"][0]
    np.testing.assert_allclose([found[name] for name in shapes.CLASS_NAMES], expected, atol=2e-2)


@pytest.fixture
def sent(monkeypatch):
    """Return what is sent to the devices, and what is fetched from them, in this order."""
    events = []
    run_rows, get, take = mapping.OverRows.__call__, jax.device_get, Saver.take
    main_thread = threading.get_ident()

    def send(self, state, data, order, start, stop, key=None):
        events.append(("evaluate" if key is None else "train", start, stop))
        return run_rows(self, state, data, order, start, stop, key)

    def fetch(tree):
        if threading.get_ident() == main_thread:
            events.append(("fetch", type(tree).__name__))
        return get(tree)

    def copy(self, step, state):
        events.append(("copy", step))
        return take(self, step, state)

    monkeypatch.setattr(mapping.OverRows, "__call__", send)
    monkeypatch.setattr(jax, "device_get", fetch)
    monkeypatch.setattr(Saver, "take", copy)
    return events


def narrow(workdir, *flags, **changes):
    """Return the flags of a run of seven steps an epoch."""
    narrower = {"model.cnn.widths": (4,), "model.cnn.convs_per_block": (1,), "num_epochs": 2}
    values = (NARROW | narrower | {"evaluation.test_time_augmentation": "none"} | changes).items()
    changed = [f"--config.{path.replace('__', '.')}={value}" for path, value in values]
    return ["--config=configs/quick.py", *changed, f"--workdir={workdir}", *flags]


def test_an_accelerator_is_sent_what_comes_next_before_what_it_has_done_is_fetched(
    rehearse, run_here, sent, monkeypatch, tmp_path
):
    rehearse(1, no_answer)
    save = Saver.save

    def slow(self, *arguments):
        time.sleep(1)
        return save(self, *arguments)

    monkeypatch.setattr(Saver, "save", slow)
    run = tmp_path / "run"
    flags = narrow(run, **{"evaluation.every_epochs": 1, "checkpoint.every_epochs": 1})
    assert run_here(*flags).returncode == 0
    began = sent.index(("train", 0, 3))
    assert sent[began:][:17] == [
        ("train", 0, 3),
        ("train", 3, 6),
        ("fetch", "Counts"),
        ("train", 6, 7),
        ("fetch", "Counts"),
        ("copy", 7),
        ("evaluate", 0, 1),
        ("train", 0, 3),
        ("fetch", "Counts"),
        ("fetch", "Answers"),
        ("train", 3, 6),
        ("fetch", "Counts"),
        ("train", 6, 7),
        ("fetch", "Counts"),
        ("copy", 14),
        ("evaluate", 0, 1),
        ("fetch", "Counts"),
    ]
    records = read_records(run / "metrics.jsonl")
    assert [record["step"] for record in records] == [3, 6, 7, 10, 13, 14]
    # The steps of the next epoch had begun when the state was saved.
    assert 64 * 3 / records[3]["images_per_second"] > 1
    assert Checkpoints(run / "checkpoints").steps() == [7, 14]


def test_a_profile_holds_whole_dispatches_of_training_and_nothing_that_comes_between_epochs(
    rehearse, run_here, sent, monkeypatch, tmp_path
):
    rehearse(1, no_answer)
    for name in ("start_trace", "stop_trace"):
        original = getattr(jax.profiler, name)

        def noted(*args, name=name, original=original, **kwargs):
            sent.append((name,))
            return original(*args, **kwargs)

        monkeypatch.setattr(jax.profiler, name, noted)
    run = tmp_path / "run"
    flags = {"evaluation.every_epochs": 1, "checkpoint.every_epochs": 1}
    assert run_here(*narrow(run, "--profile=5", **flags)).returncode == 0
    began = sent.index(("train", 0, 3))
    assert sent[began:][:19] == [
        ("train", 0, 3),
        ("fetch", "Counts"),
        ("start_trace",),
        ("train", 3, 6),
        ("train", 6, 7),
        ("fetch", "Counts"),
        ("fetch", "Counts"),
        ("stop_trace",),
        ("copy", 7),
        ("evaluate", 0, 1),
        ("fetch", "Answers"),
        ("start_trace",),
        ("train", 0, 3),
        ("fetch", "Counts"),
        ("stop_trace",),
        ("train", 3, 6),
        ("train", 6, 7),
        ("fetch", "Counts"),
        ("copy", 14),
    ]
    profile = json.loads((run / "profile.json").read_text())
    assert profile["after_step"] == 3 and profile["steps"] == 7
    assert 7 in [kernel["calls"] for kernel in profile["kernels"]]
    assert all(kernel["seconds"] >= 0 for kernel in profile["kernels"])


@pytest.mark.parametrize(
    "steps, every, lengths",
    [pytest.param(391, 50, [50, 41], marks=pytest.mark.slow), (13, 5, [5, 3]), (6, 9, [6])],
)
def test_a_run_has_two_programs_at_most_each_with_a_loop_of_known_length(
    rehearse, run_here, sent, monkeypatch, tmp_path, steps, every, lengths
):
    rehearse(1, no_answer)
    programs = []
    lower = mapping.OverRows.lower

    def kept(self, rows, *arguments):
        compile_ = lower(self, rows, *arguments)
        if len(arguments) < 4:  # no key: an evaluation
            return compile_
        return lambda: programs.append((rows, compile_())) or programs[-1][1]

    monkeypatch.setattr(mapping.OverRows, "lower", kept)
    size = {"data.shapes.train_examples": 2 * steps + 1, "batch_size": 2, "num_epochs": 1}
    size |= {
        "logging.every_steps": every,
        "model.cnn.widths": (4,),
        "model.cnn.convs_per_block": (1,),
    }
    run = tmp_path / "run"
    assert run_here(*narrow(run, **size)).returncode == 0
    spans = [span[1:] for span in sent if span[0] == "train"]
    assert spans == list(stretches(0, steps, every))
    assert [rows for rows, _ in programs] == lengths
    for rows, program in programs:
        found = re.findall(r'known_trip_count":{"n":"(\d+)"', program.as_text())
        assert str(rows) in found
        assert program.as_text().count(" while(") == len(found)
    steps_recorded = [record["step"] for record in read_records(run / "metrics.jsonl")]
    assert steps_recorded == [*range(every, steps, every), steps]


def test_a_run_goes_on_in_the_dispatches_it_began_with_under_another_logging_interval(
    rehearse, run_here, sent, monkeypatch, tmp_path
):
    rehearse(1, no_answer)
    flags = narrow(tmp_path / "run")
    whole = narrow(tmp_path / "whole")
    assert run_here(*whole).returncode == 0
    del sent[:]

    def stop_after_two_dispatches(self):
        if [event[0] for event in sent].count("train") == 2:
            self.number = signal.SIGTERM
        return self.number is not None

    with monkeypatch.context() as patch:
        patch.setattr(Stopping, "asked", stop_after_two_dispatches)
        assert "step 6 of 14 is saved" in run_here(*flags).stderr
    del sent[:]
    assert run_here(*flags, "--config.logging.every_steps=2").returncode == 0
    assert [event[1:] for event in sent if event[0] == "train"] == [(6, 7), (0, 3), (3, 6), (6, 7)]
    steps = [record["step"] for record in read_records(tmp_path / "run/metrics.jsonl")]
    assert steps == [3, 6, 7, 9, 11, 13, 14]
    assert_same_parameters(tmp_path / "run", tmp_path / "whole")


@pytest.mark.parametrize(
    "accelerator, when, every, saved_every, step",
    [
        (True, "send", 3, 2, 7),
        pytest.param(True, "_fetch", 7, 1, 14, marks=pytest.mark.slow),
        (False, "send", 3, 1, 7),
    ],
)
def test_a_signal_while_an_epoch_is_ended_leaves_its_state_and_its_record_whole(
    rehearse, run_here, monkeypatch, tmp_path, accelerator, when, every, saved_every, step
):
    if accelerator:
        rehearse(1, no_answer)
    changes = {"logging.every_steps": every, "checkpoint.every_epochs": saved_every}
    flags, whole = narrow(tmp_path / "run", **changes), narrow(tmp_path / "whole", **changes)
    assert run_here(*whole).returncode == 0
    asked, end, found = Stopping.asked, getattr(Evaluator, when), []

    def asked_here(self):
        found.append(self)
        return asked(self)

    def interrupted(self, *arguments):
        found[-1].number = signal.SIGTERM
        return end(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Stopping, "asked", asked_here)
        patch.setattr(Evaluator, when, interrupted)
        result = run_here(*flags)
    assert result.returncode == 143
    assert f"step {step} of 14 is saved" in result.stderr
    assert Checkpoints(tmp_path / "run/checkpoints").steps()[-1] == step
    assert run_here(*flags).returncode == 0
    assert_same_parameters(tmp_path / "run", tmp_path / "whole")
    ours, theirs = (
        [
            {name: value for name, value in record.items() if name in ("step", "train/loss")}
            for record in read_records(tmp_path / name / "metrics.jsonl")
        ]
        for name in ("run", "whole")
    )
    assert ours == theirs


def test_a_loss_that_is_not_finite_is_reported_for_its_own_step(
    rehearse, run_here, monkeypatch, tmp_path
):
    rehearse(1, no_answer)
    rates = {"optimizer.learning_rate": 1e38, "schedule.warmup_epochs": 0, "logging.every_steps": 7}
    run = tmp_path / "run"
    result = run_here(*narrow(run, **rates))
    assert result.returncode == 2
    assert re.search(r"is not finite after step [2-6], .*there is no checkpoint yet", result.stderr)
    assert Checkpoints(run / "checkpoints").steps() == []


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), NotFiniteError(7)]
)
def test_a_save_that_fails_in_the_background_ends_the_run_with_a_line(
    rehearse, run_here, monkeypatch, tmp_path, error
):
    rehearse(1, no_answer)
    save = Checkpoints.save

    def fail(self, step, state, description):
        if step == 7:
            raise self._explained(error)
        save(self, step, state, description)

    monkeypatch.setattr(Checkpoints, "save", fail)
    result = run_here(*narrow(tmp_path / "run", num_epochs=4))
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert "No space left" in line or "a parameter is not finite after step 7" in line
    assert Checkpoints(tmp_path / "run/checkpoints").steps() == []


def test_where_a_copy_does_not_fit_a_save_waits_for_the_state(
    rehearse, run_here, monkeypatch, tmp_path
):
    rehearse(1, no_answer)

    def full(state):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")

    runs = [tmp_path / name for name in ("copied", "fetched")]
    assert run_here(*narrow(runs[0])).returncode == 0
    monkeypatch.setattr(Saver, "prepare", lambda self, state: setattr(self, "_copy", full))
    assert run_here(*narrow(runs[1])).returncode == 0
    assert_same_parameters(*runs)


def assert_same_parameters(one, other):
    (state, *_), (other_state, *_) = end_of(one), end_of(other)
    assert state.keys() == other_state.keys() and state
    for name, leaf in state.items():
        np.testing.assert_array_equal(leaf, other_state[name], err_msg=name)


@pytest.mark.parametrize("devices, waits", [(1, False), (2, True)])
def test_only_virtual_devices_are_waited_for_after_each_dispatch(monkeypatch, devices, waits):
    monkeypatch.setattr(platform, "current", lambda: "gpu")
    layout = Layout(tuple(jax.devices()[:devices]), {})
    run = mapping.OverRows(
        lambda state, data, index, places, key: (state, index.sum()),
        layout,
        updates_state=False,
    )
    waited = []
    monkeypatch.setattr(jax, "block_until_ready", lambda result: waited.append(result) or result)
    assert run(0, np.zeros(2), np.ones((1, 2), np.int32), 0, 1) == 2
    assert bool(waited) == waits

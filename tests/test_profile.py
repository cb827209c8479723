"""`--profile`: what it leaves, and that the run is the same with it, without it and where it fails."""

import json
import re
import signal
import types

import jax
import pytest

from jaxcifar.host.files import read_records
from jaxcifar.host.signals import Stopping
from jaxcifar.report import run_report
from jaxcifar.training.profile import Profiler, kernels
from tests.test_faults import assert_same_end
from tests.test_report import text_of
from tests.test_step import NO_AUGMENTATION


def stopped_after(dispatches):
    """Return a stand-in for `Stopping.asked`: a signal comes after `dispatches` dispatches."""
    asked = []

    def ask(self):
        asked.append(self)
        if len(asked) > dispatches:
            self.number = signal.SIGTERM
        return self.number is not None

    return ask


def is_tracing():
    """Return whether a trace was under way, and end it."""
    try:
        jax.profiler.stop_trace()
    except RuntimeError:
        return False
    return True


def profile_of(workdir):
    return json.loads((workdir / "profile.json").read_text())


def test_a_profiled_run_ends_as_any_other_and_its_kernels_are_in_the_report(
    run_here, tiny_flags, monkeypatch, tmp_path
):
    plain, run = tmp_path / "plain", tmp_path / "run"
    tiny_flags = [
        *tiny_flags,
        *(f"--config.{path}={value}" for path, value in NO_AUGMENTATION.items()),
    ]
    assert run_here(*tiny_flags, f"--workdir={plain}").returncode == 0
    assert not (plain / "profile.json").exists() and not (plain / "profile").exists()
    assert "Where the time of a step goes" not in text_of(plain / "report/index.html")

    # Eight steps an epoch. The run is stopped, and goes on.
    flags = [*tiny_flags, f"--workdir={run}"]
    with monkeypatch.context() as patch:
        patch.setattr(Stopping, "asked", stopped_after(5))
        stopped = run_here(*flags, "--profile=100")
    assert stopped.returncode == 143 and len(stopped.stderr.splitlines()) == 1, stopped.stderr
    assert (profile_of(run)["after_step"], profile_of(run)["steps"]) == (1, 4)
    assert not is_tracing()
    finished = run_here(*flags, "--profile=9")
    assert finished.returncode == 0, finished.stderr
    assert "profile of 9 steps after step 6" in finished.stdout
    assert_same_end(run, plain)

    profile = profile_of(run)
    assert (profile["after_step"], profile["steps"]) == (6, 9)
    times = [kernel["seconds"] for kernel in profile["kernels"]]
    assert times == sorted(times, reverse=True) and times[-1] >= 0 and len(times) <= 200
    assert 0 < sum(times) <= profile["kernel_seconds"] * 1.001
    # Kernels of a step run once or more on each of the eight devices.
    counts = [kernel["calls"] for kernel in profile["kernels"]]
    assert 9 * 8 in counts and sum(counts) <= profile["kernel_calls"]
    folders = {file.parent.name for file in (run / "profile").rglob("*.xplane.pb")}
    assert folders == {"after_step_6", "after_step_8"}
    words = text_of(run / "report/index.html")
    assert "9 steps after step 6" in words and profile["kernels"][0]["name"] in words
    assert "all others" in words

    # Nothing is left to train, and what was profiled before stays.
    again = run_here(*flags, "--profile=9")
    assert again.returncode == 0
    assert "warning: nothing was profiled" in again.stderr
    assert profile_of(run) == profile


@pytest.mark.parametrize("name", ["start_trace", "stop_trace"])
def test_a_profiler_that_fails_is_a_warning_and_the_run_goes_on(
    run_here, tiny_flags, monkeypatch, tmp_path, name
):
    original = getattr(jax.profiler, name)

    def fail(*args, **kwargs):
        if name == "stop_trace":
            original()
        raise RuntimeError("no profiler\nhere")

    monkeypatch.setattr(jax.profiler, name, fail)
    one = [*tiny_flags, "--config.num_epochs=1"]
    result = run_here(*one, "--profile=3", f"--workdir={tmp_path / 'run'}")
    assert result.returncode == 0
    first, *others = result.stderr.splitlines()
    assert first == "warning: the profile cannot be made (no profiler): the run goes on without"
    assert all("an accuracy of" in line for line in others)
    assert read_records(tmp_path / "run/metrics.jsonl")[-1]["step"] == 8
    assert not (tmp_path / "run/profile.json").exists()


def test_a_run_that_diverges_ends_the_trace_and_says_so_in_its_last_line(
    run_here, tiny_flags, tmp_path
):
    explodes = ["--config.optimizer.learning_rate=1e38", "--config.schedule.warmup_epochs=0"]
    result = run_here(*tiny_flags, *explodes, "--profile=8", f"--workdir={tmp_path / 'run'}")
    assert result.returncode == 2
    warning, error = result.stderr.splitlines()
    assert warning.startswith("warning: nothing was profiled") and "is not finite" in error
    assert not is_tracing()


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Return `make(steps, **of_the_layout)`, which makes a profiler on a platform without kernels."""
    calls = []
    monkeypatch.setattr(jax.profiler, "start_trace", lambda *a, **k: calls.append("start"))
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: calls.append("stop"))

    def make(steps, leads=True):
        layout = types.SimpleNamespace(devices=[types.SimpleNamespace(platform="cpu")], leads=leads)
        profiler = Profiler(steps, tmp_path, layout, print)
        profiler.calls = calls
        return profiler

    return make


def take(profiler, ends):
    """Simulate dispatches that follow these steps; return the steps whose dispatches the profiler traced."""
    traced = []
    for step in ends:
        on = profiler.covers(step)
        if on != profiler.tracing:
            profiler.turn(on, step)
        if on:
            traced.append(step)
    return traced


@pytest.mark.parametrize(
    "steps, traced", [(None, []), (1, [3]), (3, [3]), (4, [3, 6]), (100, [3, 6, 9, 12, 15])]
)
def test_whole_dispatches_after_the_first_cover_the_steps(make, steps, traced):
    profiler = make(steps)
    assert take(profiler, range(0, 18, 3)) == traced
    profiler.close()
    assert profiler.calls == (["start", "stop"] if traced else [])


def test_a_trace_without_kernels_and_a_run_without_a_second_dispatch_are_a_warning(make, capsys):
    profiler = make(2)
    assert take(profiler, [0, 3, 6]) == [3]
    (line,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch("warning: the trace in .*/profile names no kernels: .*", line)
    profiler.close()
    short = make(2)
    assert take(short, [0]) == []
    short.close()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: nothing was profiled")
    make(None).close()
    assert capsys.readouterr().err == ""


def test_of_several_processes_one_traces_and_the_others_wait_where_it_does(make, capsys):
    follower = make(2, leads=False)
    assert take(follower, [0, 3, 6]) == take(make(2), [0, 3, 6]) == [3]
    assert follower.calls == ["start", "stop"]
    follower.close()
    assert len(capsys.readouterr().err.splitlines()) == 1


def trace_of(plane, line, events, stat="hlo_op"):
    """Return a trace of events `(name, start, duration)`, in ns, with another line and plane beside."""
    names = sorted({name for name, *_ in events})
    entries = "".join(
        f'event_metadata {{ key: {key} value {{ id: {key} name: "{name}" }} }}'
        for key, name in enumerate(names, 1)
    )
    entries += f'stat_metadata {{ key: 1 value {{ id: 1 name: "{stat}" }} }}'
    listed = "".join(
        f"events {{ metadata_id: {names.index(name) + 1} offset_ps: {start * 1000} "
        f'duration_ps: {duration * 1000} stats {{ metadata_id: 1 str_value: "x" }} }}'
        for name, start, duration in events
    )
    lines = f'lines {{ id: 1 name: "{line}" {listed} }} lines {{ id: 2 name: "Steps" {listed} }}'
    text = f'planes {{ name: "{plane}" {lines} {entries} }}'
    text += f'planes {{ name: "/host:metadata" {lines} {entries} }}'
    data = jax.profiler.ProfileData
    return data.from_serialized_xspace(data.text_proto_to_serialized_xspace(text))


LOOP = [("while", 0, 100), ("add", 10, 20), ("call", 40, 50), ("add", 50, 30), ("add", 100, 5)]


@pytest.mark.parametrize(
    "platform, plane, line, own",
    [
        ("gpu", "/device:GPU:0", "Stream #7(Compute)", {"while": 100, "add": 55, "call": 50}),
        ("tpu", "/device:TPU:0", "XLA Ops", {"while": 30, "add": 55, "call": 20}),
    ],
)
def test_kernels_are_summed_up_by_name_each_without_those_inside_it(platform, plane, line, own):
    calls, nanoseconds = kernels(trace_of(plane, line, LOOP), platform)
    assert calls == {"while": 1, "add": 3, "call": 1}
    assert nanoseconds == own


def test_on_a_cpu_only_operations_of_xla_count():
    trace = trace_of("/host:CPU", "tf_XLAPjRtCpuClient/1", LOOP)
    assert kernels(trace, "cpu")[0] == {"while": 2, "add": 6, "call": 2}  # of both lines
    other = trace_of("/host:CPU", "python", LOOP, stat="other")
    assert not kernels(other, "cpu")[0] and not kernels(trace, "gpu")[0]


def test_a_kernel_with_a_long_or_odd_name_is_shown_and_many_are_summed_up(tmp_path):
    (tmp_path / "config.json").write_text('{"num_epochs": 1, "batch_size": 1, "seed": 0}')
    names = ["<b>" + "x" * 300, *(f"kernel {index}" for index in range(30))]
    profile = {
        "after_step": 1000,
        "steps": 2,
        "seconds": 0.25,
        "kernel_calls": 62,
        "kernel_seconds": 0.31,
        "kernels": [{"name": name, "calls": 2, "seconds": 0.01} for name in names],
    }
    (tmp_path / "profile.json").write_text(json.dumps(profile))
    page = run_report.write_report(tmp_path)
    words = " ".join(text_of(page).split())
    assert "2 steps after step 1,000, 125.00 ms a step by the clock. Kernels took 155.00" in words
    assert "x" * 76 + "…" in words and "x" * 77 not in words and "<b>x" not in page.read_text()
    assert "kernel 18 3.2% 5.000 2" in words and "kernel 19" not in words
    assert "all others 35.5% 55.000 22" in words

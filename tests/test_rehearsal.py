"""A rehearsal of a GPU on a CPU: the program takes the paths of an accelerator, from `main` to prediction.

Many steps a dispatch, XLA's layers without oneDNN, bfloat16 by default, and none of what only informs.
What it cannot rehearse has tests of its own, marked `gpu`.
"""

import importlib.metadata
import json
import platform as standard_platform
import re
import signal

import jax
import numpy as np
import pytest
from clu import parameter_overview
from PIL import Image

from jaxcifar import predict
from jaxcifar.cpu import onednn
from jaxcifar.data import shapes
from jaxcifar.devices import backend, cpu_facts, mapping, platform
from jaxcifar.devices.layout import Layout
from jaxcifar.host import informative
from jaxcifar.host.signals import Stopping
from jaxcifar.training import flops, overview

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
    """Take a GPU's paths on some of the devices; all that only informs calls `tell`: `rehearse(devices, tell)`."""

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
        (1, "auto", no_answer),
        (1, "float32", failure),
        (2, "auto", failure),
        (2, "float32", no_answer),
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
    monkeypatch.setattr(onednn, "_call", lambda *args, **kwargs: pytest.fail("oneDNN convolves"))

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

"""The benchmarks that run quickly and without PyTorch; the PyTorch peer, where PyTorch is installed."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from benchmarks import gpu_program, machine
from configs import default
from jaxcifar.augment.test_time import mirror_translate
from jaxcifar.models import MODELS
from jaxcifar.models.compute import Compute

ROOT = Path(__file__).parent.parent


def test_a_machine_is_described():
    described = machine.describe()
    assert "cores" in described["machine"] and described["versions"]["jax"] == jax.__version__


def test_every_benchmark_says_how_it_is_run():
    for path in (ROOT / "benchmarks").glob("*.py"):
        text = path.read_text()
        if "__main__" in text:
            flag = " --config=" if "DEFINE_config_file" in text else ""
            assert f"python -m benchmarks.{path.stem}{flag}" in text


@pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="PyTorch is installed")
@pytest.mark.parametrize("arguments", [["throughput"], ["time_to_accuracy", "--peer=torch"]])
def test_without_pytorch_a_benchmark_says_so_at_once(arguments):
    name, *flags = arguments
    command = [sys.executable, "-m", f"benchmarks.{name}", *flags]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1 and not ended.stdout
    assert ended.stderr.splitlines()[-1] == "PyTorch is not installed: pip install -e '.[bench]'"


def test_a_point_of_growth_is_measured():
    config = {
        "precision": "float32",
        "model.cnn.widths": "4,6,8",
        "model.cnn.convs_per_block": "1,2,2",
        "batch_size": 32,
        "data.shapes.train_examples": 64,
    }
    flags = [f"--config.{name}={value}" for name, value in config.items()]
    command = [sys.executable, "-m", "benchmarks.growth", "--point", "--seconds=0.1", *flags]
    measured = json.loads(subprocess.check_output(command, cwd=ROOT, text=True))
    assert measured.pop("precision") == "float32"
    assert all(value > 0 for value in measured.values())


PROGRAM = """
%body.1 (arg: (s32[], f32[4,8], u8[100,8])) -> (s32[], f32[4,8], u8[100,8]) {
  %arg = (s32[], f32[4,8], u8[100,8]) parameter(0)
  %turn = s32[] get-tuple-element(%arg), index=0
  %x = f32[4,8]{1,0} get-tuple-element(%arg), index=1
  %data = u8[100,8]{1,0} get-tuple-element(%arg), index=2
  %pair = (f32[4,8]{1,0}, s32[]) tuple(%x, %turn)
  %again = f32[4,8]{1,0} get-tuple-element(%pair), index=0
  %same = f32[4,8]{1,0} fusion(%x, %again), kind=kLoop, calls=%f, metadata={op_name="a/eval_jaxpr/Net/add"}
  %read = bf16[2,8]{1,0} fusion(%data), kind=kLoop, calls=%g
  %conv = (bf16[2,8]{1,0}, u8[0]{0}) custom-call(%read), custom_call_target="__cudnn$convForward"
  ROOT %out = (s32[], f32[4,8], u8[100,8]) tuple(%turn, %same, %data)
}

ENTRY %main (arg: (s32[], f32[4,8], u8[100,8])) -> (s32[], f32[4,8], u8[100,8]) {
  %arg = (s32[], f32[4,8], u8[100,8]) parameter(0)
  ROOT %while = (s32[], f32[4,8], u8[100,8]) while(%arg), condition=%c, body=%body.1, backend_config={"known_trip_count":{"n":"7"}}
}
"""


def test_the_kernels_of_a_loop_are_counted_with_the_bytes_of_each_array_once():
    kernels, turns = gpu_program.kernels_of_a_step(PROGRAM, unread="u8[100,8]")
    assert turns == 7
    counted = {kernel.name: round(kernel.megabytes * 1e6) for kernel in kernels}
    assert counted == {"same": 2 * 4 * 4 * 8, "read": 2 * 2 * 8, "cudnn$convForward": 2 * 2 * 2 * 8}
    assert kernels[0].source == "Net/add"


@pytest.mark.parametrize("name", ["cnn", "speednet"])
def test_the_peer_s_networks_answer_as_ours_do_with_the_same_weights(name):
    torch = pytest.importorskip("torch", reason="needs the extra bench")
    from benchmarks import torch_peer

    rng = np.random.default_rng(0)
    options = default.get_config().model[name].to_dict()
    options["widths"] = (8, 12, 16, 20)[: len(options["widths"])]
    model = MODELS[name](classes=10, compute=Compute(), **options)
    images = rng.random((4, 32, 32, 3), np.float32)
    variables = model.init(jax.random.key(0), images, train=False)
    if hasattr(model, "initialise_from"):
        variables = model.initialise_from(variables, images)
    noisy = lambda leaf: leaf + 0.1 * rng.normal(size=leaf.shape).astype(np.float32)
    params = jax.tree.map(noisy, variables["params"])

    unused = dict(params)
    theirs = torch_peer.MODELS[name](**options).eval()
    layers = {"Conv": torch.nn.Conv2d, "BatchNorm": torch.nn.BatchNorm2d, "Dense": torch.nn.Linear}
    left = {kind: [m for m in theirs.modules() if type(m) is layers[kind]] for kind in layers}
    copy = lambda to, array: to.data.copy_(torch.from_numpy(np.array(array)))
    if "whitening_bias" in params:
        whitening = left["Conv"].pop(0)
        copy(whitening.weight, variables["batch_stats"]["whitening"].transpose(3, 2, 0, 1))
        copy(whitening.bias, unused.pop("whitening_bias"))
    for kind, places in left.items():
        axes = (3, 2, 0, 1) if kind == "Conv" else (1, 0)
        for number, layer in enumerate(places):
            ours = unused.pop(f"{kind}_{number}")
            for leaf in ours:
                if leaf == "kernel":
                    copy(layer.weight, ours[leaf].transpose(axes))
                else:
                    copy(layer.weight if leaf == "scale" else layer.bias, ours[leaf])
    assert not unused
    answers = model.apply(variables | {"params": params}, images, train=False)
    with torch.no_grad():
        expected = theirs(torch.from_numpy(images.transpose(0, 3, 1, 2)))
    np.testing.assert_allclose(answers, expected, rtol=1e-3, atol=1e-4)


def test_the_peer_looks_at_the_same_views():
    torch = pytest.importorskip("torch", reason="needs the extra bench")
    from benchmarks import torch_peer

    images = np.random.default_rng(0).random((2, 8, 8, 3), np.float32)
    weights = np.random.default_rng(1).random((3, 8, 8), np.float32)
    model = lambda images: (images * torch.from_numpy(weights)).sum((1, 2, 3))
    theirs = torch_peer.logits_of_views(model, torch.from_numpy(images).permute(0, 3, 1, 2))
    views = mirror_translate(images)
    ours = sum(
        weight * (view * weights.transpose(1, 2, 0)).sum((1, 2, 3)) for weight, view in views
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)

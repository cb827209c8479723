"""What only a GPU shows, and `test_rehearsal` cannot: run with `./run.sh test -m gpu -n 0` on a machine with one.

Asynchronous donation, collectives of several GPUs, TF32, the choice of algorithms, exhausted memory, and
whether what is installed finds the GPU at all.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcifar.devices.layout import Layout
from jaxcifar.evaluation.split_evaluator import Evaluator
from jaxcifar.experiment.setup import set_up
from jaxcifar.host.checkpoints import Checkpoints
from jaxcifar.models.compute import Compute
from jaxcifar.step.batch import map_step
from jaxcifar.step.order import epoch_order
from tests.test_step import begin, relative, run_steps

pytestmark = pytest.mark.gpu


def gpus(count):
    return Layout(tuple(jax.devices()[:count]), {})


def test_the_installation_finds_the_gpu_and_a_run_says_so(run_program, tiny_flags, tmp_path):
    result = run_program(*tiny_flags, "--config.precision=auto", f"--workdir={tmp_path / 'run'}")
    assert result.returncode == 0, result.stderr
    summary = json.loads((tmp_path / "run/run.json").read_text())
    assert summary["devices"] == f"{jax.device_count()} × {jax.devices()[0].device_kind}"
    assert summary["precision"] == "bfloat16" and summary["forward_flops"] > 0


def test_a_state_is_saved_as_it_was_though_the_next_dispatch_is_donated_it(tiny_config, tmp_path):
    config, one = tiny_config(), gpus(1)
    dataset, experiment, state = begin(config, one)
    order = epoch_order(0, 0, len(dataset), config.batch_size)
    data, order, key = one.put(((dataset.images, dataset.labels), order, jax.random.key(0)))
    run = map_step(experiment.train_step, one, updates_state=True)
    state, _ = run(state, data, order, 0, 1, key)
    expected = jax.device_get(state)
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=1)
    checkpoints.save(1, state, {})
    for _ in range(20):
        state, _ = run(state, data, order, 1, 8, key)
    checkpoints.wait()
    restored = checkpoints.restore(1, expected, one.everywhere)
    checkpoints.close()
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(restored), expected)


def test_all_gpus_equal_one_after_one_step_in_float32(tiny_config):
    if jax.device_count() == 1:
        pytest.skip("needs two GPUs")
    smooth = {"model.cnn.dropout_rate": 0.0, "model.cnn.activation": "gelu", "batch_size": 16}
    config = tiny_config(smooth | {"optimizer.name": "sgd"})
    one, all_ = (run_steps(config, gpus(n), [(0, 1)])[0] for n in (1, jax.device_count()))
    assert relative(all_.params, one.params) < 1e-5


def test_float32_is_float32_and_not_tf32(tiny_config):
    """TF32 keeps 10 bits: the logits of this network then differ by 4e-4 of their norm (H100)."""
    setup, dataset = set_up(tiny_config(), gpus(1))
    experiment, state = setup.experiment, setup.new_state(dataset, jax.random.key(0))
    found = Evaluator(setup, dataset)(state).probabilities
    exact_compute = Compute(jnp.dtype("float64"), None, "xla")
    model = experiment.model.clone(compute=exact_compute)
    with jax.enable_x64(True):
        images = (dataset.images / 255 - experiment.facts.mean) / experiment.facts.std
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        exact = jax.nn.softmax(model.apply(jax.device_get(variables), images, train=False))
    assert relative(found, np.asarray(exact)) < 1e-5


def test_a_deterministic_run_is_repeatable_bit_for_bit_in_another_process(
    run_program, tiny_flags, tmp_path
):
    """There the compiler chooses its algorithms anew: it has another compilation cache."""
    states = []
    for name in ("once", "again"):
        result = run_program(
            *tiny_flags,
            "--config.deterministic=true",
            f"--workdir={tmp_path / name}",
            XDG_CACHE_HOME=str(tmp_path / f"cache of {name}"),
        )
        assert result.returncode == 0, result.stderr
        states.append(json.loads((tmp_path / name / "evaluation.json").read_text()))
    assert states[0] == states[1]


def test_too_little_memory_is_one_line_that_says_what_to_do(run_program, tmp_path):
    result = run_program(
        "--config=configs/quick.py",
        "--config.model.cnn.widths=2048,2048,2048",
        f"--workdir={tmp_path / 'run'}",
        XLA_PYTHON_CLIENT_MEM_FRACTION="0.01",
    )
    assert result.returncode == 2, result.stderr
    line = result.stderr.splitlines()[-1]
    assert line.startswith("error: the devices have too little memory") and "--config" in line
    assert "Traceback" not in result.stderr

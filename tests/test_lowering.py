"""The programs of a run, lowered for a GPU and a TPU, without having one."""

import jax
import jax.export
import numpy as np
import pytest

from jaxcifar.experiment.setup import set_up
from jaxcifar.step.batch import map_step
from jaxcifar.step.order import epoch_order
from tests.test_step import Looped, layout


def lowered(config, step, *, updates_state, platform):
    """Return the program of one dispatch over 8 devices and many rows, as StableHLO text."""
    eight = layout(8, Looped)
    setup, dataset = set_up(config, eight)
    experiment = setup.experiment
    key = jax.random.key(0)
    state = jax.eval_shape(experiment.init_state, key, dataset.images[:1])
    run = map_step(step(experiment), eight, updates_state=updates_state)
    order = epoch_order(0, 0, len(dataset), config.batch_size)
    arguments = (state, (dataset.images, dataset.labels), order, np.int32(0), key)
    exported = jax.export.export(run._program, platforms=(platform,))(5, *arguments)
    assert exported.platforms == (platform,) and exported.nr_devices == 8
    return exported.mlir_module()


STEPS = {
    "training": (lambda experiment: experiment.train_step, True),
    "evaluation and prediction": (lambda experiment: experiment.evaluation_step, False),
    "test-time augmentation": (lambda experiment: experiment.augmented_evaluation_step, False),
}


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
@pytest.mark.parametrize("model", ["cnn", "resnet", "speednet"])
@pytest.mark.parametrize("step", STEPS)
def test_programs_are_lowered_for_accelerators_in_bfloat16(tiny_config, platform, model, step):
    narrow = {
        "model.name": model,
        "model.resnet.widths": (4, 4, 4, 4),
        "model.speednet.widths": (4, 4, 4),
        "optimizer.name": "muon" if model == "speednet" else "adam",
        "augmentation.cutout.enabled": True,
        "evaluation.test_time_augmentation": "mirror_translate",
        "precision": "bfloat16",
    }
    make, updates_state = STEPS[step]
    text = lowered(tiny_config(narrow), make, updates_state=updates_state, platform=platform)
    convolutions = [line for line in text.splitlines() if "stablehlo.convolution" in line]
    assert len(convolutions) >= 3
    assert all("bf16" in line and "f32" not in line.split("->")[-1] for line in convolutions)
    assert "stablehlo.all_reduce" in text and "stablehlo.while" in text

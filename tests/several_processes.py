"""Trains a few steps in one of several processes; the first saves the result.

python -m tests.several_processes PROCESS_ID NUM_PROCESSES PORT FILE [streamed]: four devices, shared out. 20
steps in float64, the default's augmentations, dropout off; one process needs no port. Each process
may read the examples of a streamed split only for its own devices.
"""

import dataclasses
import os
import sys

process_id, num_processes, port = map(int, sys.argv[1:4])
os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={4 // num_processes}"
os.environ["JAX_ENABLE_X64"] = "1"

import jax
import numpy as np

from configs import default
from jaxcifar.config.reader import read_config
from jaxcifar.devices import processes
from jaxcifar.experiment.setup import set_up
from jaxcifar.training.stepper import Stepper
from tests.conftest import TINY
from tests.test_step import layout, run_steps

STEPS = 20


class Own(np.ndarray):
    """An array of a split that counts how many examples are read."""

    read = 0

    def __getitem__(self, index):
        found = np.asarray(self)[index]
        Own.read += len(found.reshape(-1)) // np.prod(self.shape[1:], dtype=int)
        return found


def run_streamed(config):
    """Return the state after the steps, and check that this process has read its share of the images."""
    setup, dataset = set_up(config, layout(4))
    counted = dataclasses.replace(dataset, images=dataset.images.view(Own))
    stepper = Stepper(setup, counted, 1, 0)
    stepper.begin(setup.new_state(dataset, jax.random.key(config.seed)))
    stepper._key = setup.layout.put(jax.random.key(config.seed))  # as in `run_steps`
    Own.read = 0
    for _ in stepper.rest_of_epoch(0, lambda: False):
        pass
    assert Own.read == STEPS * config.batch_size // jax.process_count()
    return jax.device_get(stepper.state)


if __name__ == "__main__":
    if num_processes > 1:
        processes.connect(f"localhost:{port}", num_processes, process_id, training=True)
    assert len(jax.devices()) == 4 and len(jax.local_devices()) == 4 // num_processes
    config = default.get_config()
    config.update_from_flattened_dict(TINY)
    config.precision = "float64"
    config.model.cnn.dropout_rate = 0.0
    config.model.cnn.activation = "gelu"
    config.optimizer.name = "adam"
    config.data.shapes.train_examples = STEPS * config.batch_size
    config.num_epochs = 1
    if sys.argv[5:] == ["streamed"]:
        config.data.resident_bytes = 1
        state = run_streamed(read_config(config))
    else:
        dispatches = [(row, row + 1) for row in range(STEPS)]
        state, counts = run_steps(read_config(config), layout(4), dispatches)
        assert counts.seen == STEPS * config.batch_size
    if process_id == 0:
        leaves = jax.tree_util.tree_leaves_with_path(state)
        np.savez(sys.argv[4], **{jax.tree_util.keystr(path): leaf for path, leaf in leaves})

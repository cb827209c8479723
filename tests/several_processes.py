"""Trains a few steps in one of several processes; the first saves what came of it.

python -m tests.several_processes PROCESS_ID NUM_PROCESSES PORT FILE: four devices, shared out. 20 steps in
float64, the default's augmentations, dropout off; one process needs no port.
"""

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
from tests.conftest import TINY
from tests.test_step import layout, run_steps

STEPS = 20

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
    dispatches = [(row, row + 1) for row in range(STEPS)]
    state, counts = run_steps(read_config(config), layout(4), dispatches)
    assert counts.seen == STEPS * config.batch_size
    if process_id == 0:
        leaves = jax.tree_util.tree_leaves_with_path(state)
        np.savez(sys.argv[4], **{jax.tree_util.keystr(path): leaf for path, leaf in leaves})

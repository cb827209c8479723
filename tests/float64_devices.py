"""Prints the largest difference between one device and eight after 20 steps in float64.

Run as `python -m tests.float64_devices [FAMILY]`: the default's augmentations, dropout off; the default's
network, narrow, or that of a family.
"""

import os
import sys

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
os.environ["JAX_ENABLE_X64"] = "1"

import jax
import numpy as np

from configs import default
from jaxcifar.config.reader import read_config
from tests.conftest import TINY
from tests.test_step import layout, run_steps
from tests.zoo import narrow_model

if __name__ == "__main__":
    config = default.get_config()
    config.update_from_flattened_dict(TINY)
    for family in sys.argv[1:]:
        config.update_from_flattened_dict(narrow_model(family))
    config.precision = "float64"
    config.model.cnn.dropout_rate = 0.0
    config.data.shapes.train_examples = 20 * config.batch_size
    rows = [(row, row + 1) for row in range(20)]
    one, eight = (run_steps(read_config(config), layout(devices), rows)[0] for devices in (1, 8))
    assert all(leaf.dtype == np.float64 for leaf in jax.tree.leaves((one.params, one.batch_stats)))
    values = [(state.params, state.batch_stats) for state in (one, eight)]
    print(max(jax.tree.leaves(jax.tree.map(lambda a, b: np.abs(a - b).max(), *values))))

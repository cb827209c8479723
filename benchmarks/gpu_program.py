"""Counts the kernels of a training step on a GPU, and the bytes that they move, without a GPU.

python -m benchmarks.gpu_program --config=configs/fast.py [--rows=10] [--top=20] [--out=FILE.json]

XLA compiles the program of a dispatch for an H200, from a description. This needs JAX's plugin for CUDA (an
environment that `JAXCIFAR_JAX=cuda ./run.sh` has made) but no GPU. Choices that need measurements on a GPU,
the algorithms of products and convolutions, stay at XLA's defaults. A kernel's bytes are those of its
operands and results, each counted once. The dataset is left out, because a step reads little of it. The count
does not know which bytes lie in a cache.
"""

import collections
import json
import math
import os
import re
from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

_CONFIG = config_flags.DEFINE_config_file("config", "configs/fast.py", lock_config=True)
_ROWS = flags.DEFINE_integer("rows", 10, "steps of a dispatch", lower_bound=2)
_TOP = flags.DEFINE_integer("top", 20, "so many of the largest kernels are printed", lower_bound=0)
_OUT = flags.DEFINE_string("out", None, "JSON file for the figures")

H200 = """
gpu_device_info {
  cuda_compute_capability { major: 9 }
  name: "NVIDIA H200" device_vendor: "NVIDIA Corporation"
  core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98
  memory_bandwidth: 4800000000000 device_memory_size: 151397597184 l2_cache_size: 52428800
  shared_memory_per_block: 49152 shared_memory_per_block_optin: 232448 shared_memory_per_core: 233472
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  threads_per_warp: 32 threads_per_block_limit: 1024 threads_per_core_limit: 2048
  thread_dim_limit_x: 1024 thread_dim_limit_y: 1024 thread_dim_limit_z: 64
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  driver_version: "13.0.0" runtime_version: "12.9.0" compile_time_toolkit_version: "12.9.0"
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 }
runtime_version { major: 12 minor: 9 }
device_description_str: "NVIDIA H200"
"""
"""The description of the GPU for XLA; its figures are from h200.txtpb among XLA's target configurations."""

WIDTHS = {"pred": 1, "u8": 1, "s8": 1, "bf16": 2, "f16": 2, "f32": 4, "s32": 4, "u32": 4, "f64": 8}
NO_KERNELS = ("parameter", "constant", "get-tuple-element", "tuple", "bitcast", "fusion-done")

Kernel = collections.namedtuple("Kernel", "megabytes name shape source")


def main(argv):
    del argv
    text, planned, images_shape = compiled(_CONFIG.value, _ROWS.value)
    unread = f"u8[{','.join(map(str, images_shape))}]"
    kernels, turns = kernels_of_a_step(text, unread)
    convolutions = [kernel for kernel in kernels if kernel.name.startswith("cudnn$conv")]
    megabytes = sum(kernel.megabytes for kernel in kernels)
    result = {
        "config": config_flags.get_config_filename(flags.FLAGS["config"]),
        "overrides": config_flags.get_override_values(flags.FLAGS["config"]),
        "rows": _ROWS.value,
        "known_trip_count": turns,
        "kernels": len(kernels),
        "convolutions": len(convolutions),
        "megabytes": round(megabytes, 1),
        "convolutions_megabytes": round(sum(kernel.megabytes for kernel in convolutions), 1),
        "temporary_megabytes": round(planned.temp_size_in_bytes / 1e6, 1),
    }
    print(json.dumps(result))
    for kernel in sorted(kernels, reverse=True)[: _TOP.value]:
        print(f"{kernel.megabytes:8.1f} MB  {kernel.name:36} {kernel.shape:60} {kernel.source}")
    if _OUT.value:
        Path(_OUT.value).write_text(json.dumps(result, indent=2) + "\n")


def compiled(config, rows: int):
    """Compile the program of a dispatch of `rows` training steps for the GPU.

    Returns:
      The optimised module as text, XLA's plan of the memory, and the shape of the dataset's images.
    """
    os.environ["JAX_PLATFORMS"] = "cpu"
    import jax
    import numpy as np
    from jax.experimental import topologies

    from jaxcifar.config.reader import read_config
    from jaxcifar.devices import backend, platform
    from jaxcifar.devices.layout import Layout
    from jaxcifar.errors import first_line
    from jaxcifar.experiment.setup import beginning, set_up
    from jaxcifar.step.batch import map_step

    platform.current = lambda: "gpu"
    try:
        gpu = topologies.get_topology_desc(platform="cuda", target_config=H200, topology="1x1x1")
    except RuntimeError as error:
        raise SystemExit(f"JAX is not installed for CUDA here ({first_line(error)})") from None
    options = backend.compiler_options(deterministic=config.deterministic)
    setup, dataset = set_up(read_config(config), Layout(tuple(gpu.devices), options))
    shape = lambda *dimensions: jax.ShapeDtypeStruct(dimensions, np.int32)
    key = jax.eval_shape(lambda: jax.random.key(1))
    state = jax.eval_shape(setup.experiment.init_state, *beginning(dataset, key))
    order = shape(setup.experiment.steps_per_epoch, config.batch_size)
    run = map_step(setup.experiment.train_step, setup.layout, updates_state=True)
    program = run.lower(rows, state, (dataset.images, dataset.labels), order, key)()
    return program.as_text(), program.memory_analysis(), dataset.images.shape


def kernels_of_a_step(text: str, unread: str) -> tuple[list[Kernel], int]:
    """Return the kernels of the loop over rows, and its number of turns.

    Args:
      text: an optimised module of XLA.
      unread: the beginning of the shape of operands that do not count.
    """
    loops = re.findall(
        r" while\(.*?body=%([\w.\-]+),?.*?known_trip_count\":\{\"n\":\"(\d+)\"", text
    )
    bodies = {
        name: re.search(rf"^%{re.escape(name)} .*?^}}", text, re.M | re.S) for name, _ in loops
    }
    name, turns = max(loops, key=lambda loop: len(bodies[loop[0]].group()))
    return kernels(bodies[name].group(), unread), int(turns)


def kernels(computation: str, unread: str) -> list[Kernel]:
    """Return the kernels of a computation."""
    shapes, same_as, members, found = {}, {}, {}, []
    for line in computation.splitlines()[1:]:
        parts = re.match(r"\s*(?:ROOT )?%(\S+) = (\(.*?\)|\S+) ([\w-]+)\((.*)", line)
        if not parts:
            continue
        name, shape, operation, rest = parts.groups()
        shapes[name] = shape
        operands = [same_as.get(x, x) for x in re.findall(r"%([\w.\-]+)", rest.split(")")[0])]
        if operation == "tuple":
            members[name] = operands
        elif operation == "bitcast":
            same_as[name] = operands[0]
        elif operation == "get-tuple-element" and operands[0] in members:
            place = int(re.search(r"index=(\d+)", rest).group(1))
            same_as[name] = members[operands[0]][place]
        if operation not in NO_KERNELS:
            read = (shapes.get(operand, "") for operand in dict.fromkeys(operands))
            moved = sum(map(size, (shape, *(x for x in read if not x.startswith(unread)))))
            call = re.search(r'custom_call_target="__(.*?)"', line)
            source = re.search(r'op_name="(?:.*?/eval_jaxpr/)?(.*?)"', line)
            called, from_ = (match.group(1) if match else "" for match in (call, source))
            found.append(Kernel(moved / 1e6, called or name, shape[:60], from_))
    return found


def size(shape: str) -> int:
    """Return the bytes of an array, or of the arrays of a tuple."""
    arrays = re.findall(r"\b([a-z]+\d*)\[([\d,]*)\]", shape)
    elements = lambda dimensions: math.prod(map(int, filter(None, dimensions.split(","))))
    return sum(WIDTHS.get(kind, 8) * elements(dimensions) for kind, dimensions in arrays)


if __name__ == "__main__":
    app.run(main)

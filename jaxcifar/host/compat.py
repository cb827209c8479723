"""Patches of other libraries.

Each says in which version its reason was seen, what would happen without it, and what shows that it can go.
A library is imported when its patch is asked for.
"""

import contextlib
import functools
import glob
import os
import sys
import types
from collections.abc import Iterator
from importlib import util
from typing import Any


class _Spec:
    """Stand for `tensorstore.KvStore.Spec` where only the JSON that it was made from is needed."""

    def __init__(self, json: Any):
        self._json = json

    def to_json(self) -> Any:
        return self._json


@functools.cache
def take_no_path_for_a_pattern() -> None:
    """Make `etils.epath`, with which Orbax and TFDS list files, match patterns below a path, not in it.

    Seen in etils 1.15.0: `path.glob(pattern)` joins the two and takes the whole for the pattern. In a
    directory named `lr[0.1]` Orbax then finds no part of the checkpoint that it is to complete. The patch can
    go when `tests/test_faults.py` passes without it (a run lies in a directory of any name).
    """
    from etils.epath import gpath

    original = gpath._GPath.glob

    def glob_below(self, pattern):
        if self._uri_scheme:
            yield from original(self, pattern)
        else:
            found = glob.glob(pattern, root_dir=self)  # noqa: PTH207, it would call itself
            yield from (self / name for name in found)

    gpath._GPath.glob = glob_below


@functools.cache
def orbax() -> types.ModuleType:
    """Import `orbax.checkpoint` without its calls of two TensorStore functions that never free their results.

    Seen in Orbax 0.12.8 with TensorStore 0.1.80 to 0.1.86. Orbax calls `KvStore.Spec.to_json` for every
    array that it saves, and asks for counts to log them. The leaks are small, but they keep the large
    pages that they lie in. The patch can go when `tests/test_faults.py` passes without it (saves leave
    little memory behind in TensorStore).
    """
    take_no_path_for_a_pattern()
    import orbax.checkpoint as ocp
    from orbax.checkpoint._src.serialization import tensorstore_utils

    spared = types.SimpleNamespace(**vars(tensorstore_utils.ts))
    spared.KvStore = types.SimpleNamespace(Spec=_Spec, open=spared.KvStore.open)
    spared.experimental_collect_matching_metrics = lambda prefix: []
    tensorstore_utils.ts = spared
    return ocp


def ask_nobody_where_to_stop(manager: Any) -> None:
    """Keep an Orbax `CheckpointManager` from asking JAX where several processes stop.

    Seen in Orbax 0.12.8: it asks by step, and `signals.Stopping` asks by dispatch; JAX allows one of them.
    The patch can go when `CheckpointManagerOptions` can switch this off and `tests/test_processes.py`
    passes (two processes stopped, then killed).
    """
    manager.reached_preemption = lambda step: False


def say_nothing_after_a_failed_save() -> None:
    """Silence Orbax and TensorStore about a failed save, which this program reports itself.

    Seen in Orbax 0.12.8: it logs every exception before it raises it, and TensorStore prints one for each
    array that was still being written. The patch can go when `tests/test_faults.py` passes without it (a
    disk that is full is a line).
    """
    from absl import logging

    def unless_after_a_failed_save(unraisable):
        if str(unraisable.exc_value) != "Event loop is closed":
            sys.__unraisablehook__(unraisable)

    logging.set_verbosity(logging.FATAL)
    sys.unraisablehook = unless_after_a_failed_save


def say_no_warnings_of_tfds() -> None:
    """Make TFDS log errors alone, or less if it already logs less.

    Seen in TFDS 4.9.10: it warns of a missing OpenCV and of every folder that is not there yet. The patch
    can go when a first run on a TFDS dataset prints no such line without it.
    """
    from absl import logging

    logging.set_verbosity(min(logging.get_verbosity(), logging.ERROR))


@contextlib.contextmanager
def tfds_without_tensorflow(builder: Any) -> Iterator[None]:
    """Let a TFDS builder open files and encode images with Python and Pillow.

    Seen in TFDS 4.9.10: most image builders use TensorFlow for its file system alone, and TFDS uses it to
    encode arrays as PNG. With TensorFlow installed, nothing is changed. The patch can go when
    `tests/test_data.py` passes without it (a dataset is prepared without TensorFlow).
    """
    import numpy as np
    from PIL import Image

    module: Any = sys.modules[type(builder).__module__]
    if util.find_spec("tensorflow"):
        yield
        return

    def as_image(array):
        array = (
            array.view(np.uint8) if array.dtype == np.float32 else array
        )  # as TFDS stores floats
        return Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)

    for feature in builder.info.features.values():
        if encoder := getattr(feature, "_image_encoder", None):
            encoder._encode_image = lambda array, encoder=encoder: encoder._encode_pil_image(
                as_image(array)
            )
    files = types.SimpleNamespace(
        GFile=open, listdir=os.listdir, glob=glob.glob, walk=os.walk, exists=os.path.exists
    )
    before = getattr(module, "tf", None)
    module.tf = types.SimpleNamespace(io=types.SimpleNamespace(gfile=files))
    try:
        yield
    finally:
        module.tf = before


@functools.cache
def tensorboardx() -> tuple[Any, Any, Any, Any]:
    """Return tensorboardX's `EventsWriter`, `Event`, `Summary` and `hparams`, imported without PyTorch.

    Seen in tensorboardX 2.6.5: it imports PyTorch where that is installed, which takes more than a second,
    for functions that are not used here. Its `SummaryWriter` is not used because a full disk ends its thread,
    for which the program then waits. The patch can go when `tests/test_main.py` passes without it (training
    does not import PyTorch).
    """
    found = sys.modules.get("torch")
    sys.modules["torch"] = None  # pyright: ignore[reportArgumentType], an import of it fails
    try:
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event  # pyright: ignore
        from tensorboardX.proto.summary_pb2 import Summary  # pyright: ignore
        from tensorboardX.summary import hparams
    finally:
        del sys.modules["torch"]
        if found is not None:
            sys.modules["torch"] = found
    return EventsWriter, Event, Summary, hparams


def let_config_flags_see(argv: list[str]) -> None:
    """Give `ml_collections.config_flags` the command line that is parsed.

    Seen in ml_collections 1.1.0: it looks for `--config.key=value` in `sys.argv`, whatever it is given to
    parse. The patch can go when `tests/test_wrong_inputs.py` passes without it.
    """
    sys.argv = argv

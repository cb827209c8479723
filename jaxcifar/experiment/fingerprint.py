"""Tells whether tracing the functions of a run would give the programs of an earlier start."""

import dataclasses
import hashlib
import importlib.metadata
import os
import sys
import sysconfig
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import jax

from jaxcifar.config import components
from jaxcifar.config.schema import Config
from jaxcifar.data.facts import DataFacts
from jaxcifar.devices import cpu_facts, platform
from jaxcifar.devices.kept_programs import KeptPrograms
from jaxcifar.devices.layout import Layout
from jaxcifar.host import informative
from jaxcifar.models import convolution
from jaxcifar.models.compute import Compute

_IMPORTED = time.time()
"""About when this process imported the sources."""
_NOT_TRACED = ("seed", "sampling", "logging.", "checkpoint.")
"""Fields, and sections, of the config that no traced step depends on."""


def kept_programs(
    config: Config, facts: DataFacts, compute: Compute, layout: Layout
) -> KeptPrograms | None:
    """Return the cache for the traced programs of this run, or None.

    There is no cache in one of several processes; in another program that uses this package, since it may
    have replaced functions in memory; or if a source is newer than its import by this process.
    """
    started = getattr(sys.modules["__main__"], "__spec__", None)
    if jax.process_count() > 1 or not (started and started.name.startswith("jaxcifar.")):
        return None
    effective = {
        path: value
        for path, value in config.effective().items()
        if not path.startswith(_NOT_TRACED)
    }
    own = components.hashes(config.components)
    sources = set(_sources(own))
    if any(file.stat().st_mtime > _IMPORTED for file in sources):
        return None
    parts = (
        effective,
        dataclasses.asdict(facts),
        compute,
        [device.device_kind for device in layout.devices],
        platform.current(),
        informative.known(cpu_facts.describe),
        informative.known(informative.versions, "numpy"),
        sorted(jax.config.values.items()),
        [os.environ.get(name) for name in ("XLA_FLAGS", "LIBTPU_INIT_ARGS")],
        sorted({hashlib.sha256(file.read_bytes()).hexdigest() for file in sources}),
        (own, informative.known(_installed)) if own else (),
    )
    return KeptPrograms("\n".join(map(repr, parts)), convolution.foreign_calls())


def _sources(own: Iterable[str] = ()) -> Iterator[Path]:
    """Yield the files of this package, of imported modules that are not installed, and of own packages.

    Args:
      own: names of the modules of the user's components; they may import others of their packages later.
    """
    yield from Path(__file__).parents[1].rglob("*.py")
    for name in own:
        package = sys.modules[name.partition(".")[0]]
        for folder in getattr(package, "__path__", ()):
            yield from Path(folder).rglob("*.py")
    installed = tuple(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib"))
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None) or ""
        if file.endswith(".py") and not file.startswith(installed) and Path(file).is_file():
            yield Path(file)


def _installed() -> list[tuple[str, str]]:
    """Return name and version of every installed package: the user's own modules may use any."""
    return sorted((each.name, each.version) for each in importlib.metadata.distributions())

"""Image classification in JAX and Flax.

From Python: `get_config`, `train` and `evaluate`; `Run` reads what a run has left, and `Classifier` answers
with a network that was trained here. What a user can get wrong raises `UserError`.
"""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

__version__ = "0.1.0"

_EXPORTED = {
    "Classifier": "jaxcifar.evaluation.classifier",
    "Run": "jaxcifar.report.workdir_files",
    "UserError": "jaxcifar.errors",
    "get_config": "jaxcifar.config.config_file",
}
"""By name, the module that holds it."""

# pyright: reportUnsupportedDunderAll=false
__all__ = [
    "Classifier",
    "Run",
    "UserError",
    "evaluate",
    "get_config",
    "train",
]


def train(config: Any, workdir: str | Path, *, extend: bool = False) -> dict[str, Any]:
    """Train to the end, from where the run in `workdir` stands if there is one, evaluate and report.

    Neither signals nor the command line are looked at. Ctrl-C raises `KeyboardInterrupt`; the same call goes
    on from the newest checkpoint.

    Args:
      config: a `ConfigDict` as `get_config` returns.
      workdir: where everything is written.
      extend: whether `config.num_epochs` may be larger than that of the run in `workdir`.

    Returns:
      What `evaluation.json` holds, see `evaluation_files.write_evaluation`.

    Raises:
      UserError: config, data, devices and workdir do not go together, the loss is not finite, or nothing can
        be written.
    """
    from jaxcifar.config.reader import read_config
    from jaxcifar.host.files import expanded
    from jaxcifar.host.laps import Laps
    from jaxcifar.host.signals import Stopping
    from jaxcifar.training import run

    return _evaluated(
        lambda: run.train(
            read_config(config),
            expanded(workdir),
            extend=extend,
            profile=None,
            laps=Laps(),
            stopping=Stopping(take=False),
            meanwhile=lambda: None,
        ),
        expanded(workdir),
    )


def evaluate(workdir: str | Path, *, config: Any = None, step: int | None = None) -> dict[str, Any]:
    """Evaluate a checkpoint, and report.

    Args:
      workdir: of the run.
      config: a `ConfigDict` of the evaluation; None for the run's own, on its own test split.
      step: of the checkpoint; None for the newest.

    Returns:
      What `evaluation.json` holds, see `evaluation_files.write_evaluation`.

    Raises:
      UserError: there is no such checkpoint, or it, the config and the data do not go together.
    """
    from jaxcifar.config import saved_config
    from jaxcifar.config.reader import read_config
    from jaxcifar.evaluation import run_evaluation
    from jaxcifar.host.files import expanded

    config = saved_config.get_config(str(expanded(workdir))) if config is None else config
    return _evaluated(
        lambda: run_evaluation.evaluate(read_config(config), expanded(workdir), step),
        expanded(workdir),
    )


def _evaluated(
    function: Callable[[], tuple[Path, dict[str, Any]] | None], workdir: Path
) -> dict[str, Any]:
    """Return the evaluation that `function` returns, with a report of the run; nothing but in process 0."""
    from jaxcifar.host import waiting

    try:
        if not (evaluated := function()):
            return {}
        from jaxcifar.report import run_report  # takes a while

        run_report.write_report(workdir)
        return evaluated[1]
    finally:
        waiting.show("")


def __getattr__(name: str):
    """Import what is exported when it is first asked for: some of it does without JAX."""
    if name in _EXPORTED:
        return getattr(importlib.import_module(_EXPORTED[name]), name)
    raise AttributeError(f"module 'jaxcifar' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_EXPORTED})

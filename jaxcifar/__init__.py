"""Image classification in JAX and Flax.

From Python: `get_config`, `train` and `evaluate`; `Run` reads the files of a run, and `Classifier` predicts
with a trained network. User errors raise `UserError`.
"""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

__version__ = "0.2.0.dev0"

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
    """Train to the end, resuming the run in `workdir` if there is one; evaluate and write a report.

    No signal handler is installed, and no command line parsed. Ctrl-C raises `KeyboardInterrupt`; the same
    call then resumes from the newest checkpoint.

    Args:
      config: a `ConfigDict` as `get_config` returns.
      workdir: where everything is written.
      extend: whether `config.num_epochs` may exceed the epochs of the run in `workdir`.

    Returns:
      The contents of `evaluation.json`, see `evaluation_files.write_evaluation`.

    Raises:
      UserError: config, data, devices and workdir do not go together, the loss is not finite, or files
        cannot be written.
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
    """Evaluate a checkpoint, and write a report.

    Args:
      workdir: of the run.
      config: a `ConfigDict` for the evaluation; None for the run's own config and test split.
      step: of the checkpoint; None for the newest.

    Returns:
      The contents of `evaluation.json`, see `evaluation_files.write_evaluation`.

    Raises:
      UserError: there is no such checkpoint, or checkpoint, config and data do not go together.
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
    """Run `function`, write the run's report and return the evaluation; `{}` except in process 0."""
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
    """Import an exported name on first access: some of these names do not need JAX."""
    if name in _EXPORTED:
        return getattr(importlib.import_module(_EXPORTED[name]), name)
    raise AttributeError(f"module 'jaxcifar' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_EXPORTED})

"""Image classification in JAX and Flax.

From Python: `get_config`, `train` and `evaluate`; `Run` reads what a run has left, and `Classifier` answers
with a network that was trained here. What a user can get wrong raises `UserError`.
"""

import importlib

__version__ = "0.1.0"

_EXPORTED = {
    "Classifier": "jaxcifar.evaluation.classifier",
    "Run": "jaxcifar.report.workdir_files",
    "UserError": "jaxcifar.errors",
    "evaluate": "jaxcifar.main",
    "get_config": "jaxcifar.config.config_file",
    "train": "jaxcifar.main",
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


def __getattr__(name: str):
    """Import what is exported when it is first asked for: some of it does without JAX."""
    if name in _EXPORTED:
        return getattr(importlib.import_module(_EXPORTED[name]), name)
    raise AttributeError(f"module 'jaxcifar' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_EXPORTED})

"""The config that a run in a workdir was made with, as a config file that takes the workdir."""

import json
from pathlib import Path

from ml_collections import ConfigDict

from jaxcifar.config.fields import Config


def get_config(workdir: str) -> Config:
    """Return the config in `workdir`, its lists as tuples again."""
    return as_config(json.loads((Path(workdir) / "config.json").read_text()))


def as_config(saved: dict) -> Config:
    """Return the config that JSON made a dict of."""
    return ConfigDict(_with_tuples(saved))


def _with_tuples(value):
    if isinstance(value, dict):
        return {name: _with_tuples(item) for name, item in value.items()}
    return tuple(value) if isinstance(value, list) else value

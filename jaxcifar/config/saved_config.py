"""The config that a run in a workdir was made with, as a config file that takes the workdir."""

import json
from pathlib import Path

from ml_collections import ConfigDict

from jaxcifar.config.fields import Config
from jaxcifar.host.files import with_tuples


def get_config(workdir: str) -> Config:
    """Return the config in `workdir`, its lists as tuples again."""
    return as_config(json.loads((Path(workdir) / "config.json").read_text()))


def as_config(saved: dict) -> Config:
    """Return the config that JSON made a dict of."""
    return ConfigDict(with_tuples(saved))

"""The config that a run in a workdir was made with, as a config file that takes the workdir."""

import json
from pathlib import Path

from ml_collections import ConfigDict

from jaxcifar.config.fields import Config, fields
from jaxcifar.host.files import with_tuples


def get_config(workdir: str) -> Config:
    """Return the config in `workdir`, its lists as tuples again."""
    return as_config(json.loads((Path(workdir) / "config.json").read_text()))


_ADDED = {"data.cache_dir": ""}
"""Fields that an earlier version did not have, each with the value that means what it did."""


def as_config(saved: dict) -> Config:
    """Return the config that JSON made a dict of, with the fields that were added since."""
    config = ConfigDict(with_tuples(saved))
    missing = {path: before for path, before in _ADDED.items() if path not in dict(fields(config))}
    config.update_from_flattened_dict(missing)
    return config

"""The config that a run in a workdir was made with, as a config file that takes the workdir."""

import json
from pathlib import Path

from ml_collections import ConfigDict

from jaxcifar.config.fields import Config, fields
from jaxcifar.errors import UserError, first_line
from jaxcifar.host.files import with_tuples


def get_config(workdir: str) -> Config:
    """Return the config in `workdir`, its lists as tuples again.

    Raises:
      UserError: the file cannot be read, or is no config.
    """
    file = Path(workdir) / "config.json"
    try:
        return as_config(json.loads(file.read_text()))
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise UserError(
            f"{file} cannot be read ({first_line(error)}): bring it back from a copy, or start the "
            "training command again, which writes it anew"
        ) from error


_ADDED = {"data.cache_dir": ""}
"""Fields that an earlier version did not have, each with the value that means what it did."""


def as_config(saved: dict) -> Config:
    """Return the config that JSON made a dict of, with the fields that were added since."""
    config = ConfigDict(with_tuples(saved))
    known = dict(fields(config))
    for path, before in _ADDED.items():
        if path not in known and path.rpartition(".")[0] in known:
            config.update_from_flattened_dict({path: before})
    return config

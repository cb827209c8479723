"""The config of the run in a workdir, as a config file that takes the workdir."""

import json
import types
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict, FieldReference

from jaxcifar.config.fields import fields
from jaxcifar.errors import UserError, first_line
from jaxcifar.host.files import with_tuples


def get_config(workdir: str) -> ConfigDict:
    """Return the config in `workdir`, with lists as tuples again, and with the fields added since.

    Raises:
      UserError: the file cannot be read, or is no config.
    """
    file = Path(workdir) / "config.json"
    try:
        config = ConfigDict(with_tuples(json.loads(file.read_text())))
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise UserError(
            f"{file} cannot be read ({first_line(error)}): bring it back from a copy, or start the "
            "training command again, which writes it anew"
        ) from error
    from jaxcifar.config.schema import FIELDS  # takes a while
    from jaxcifar.options import REQUIRED

    known = dict(fields(config))
    for path, option in FIELDS.items():
        group = path.rpartition(".")[0]
        there = not group or isinstance(known.get(group), ConfigDict)
        if there and path not in known and option.default is not REQUIRED:
            config.update_from_flattened_dict({path: option.default})
        if there and isinstance(option.type, types.UnionType):  # a flag may change its kind
            name = path.rpartition(".")[2]
            owner: Any = config[group] if group else config
            owner[name] = FieldReference(owner[name], field_type=object)
    return config

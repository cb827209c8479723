"""Where files lie, and how they are written whole."""

import json
import os
from pathlib import Path
from typing import Any


def user_cache() -> Path:
    """Return this program's directory in the user's cache directory; it need not exist."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "jaxcifar"


def write_json(path: Path, value: Any) -> None:
    """Write `value` beside `path`, then rename, so that `path` never holds half a file."""
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.write_text(json.dumps(value, indent=2) + "\n")
    unfinished.replace(path)

"""Standard output of a run: lines for a person, or a JSON object a line for a program."""

import json
import sys
from typing import Any

from tqdm import tqdm

FORMATS = ("text", "json")
_chosen = "text"


def counted(count: int, noun: str) -> str:
    """Return a number with its noun, whose plural ends in s: `1 epoch`, `5,000 epochs`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def choose(log_format: str) -> None:
    """Choose one of `FORMATS` for all that is printed from now on."""
    global _chosen
    _chosen = log_format


def is_json() -> bool:
    """Return whether a program reads standard output."""
    return _chosen == "json"


def say(line: str) -> None:
    """Print a line, above a bar if there is one; as JSON it is a `message`."""
    if is_json():
        emit("message", line)
        return
    tqdm.write(line)
    sys.stdout.flush()


def emit(kind: str, value: Any) -> None:
    """Print `{kind: value}` as JSON."""
    tqdm.write(json.dumps({kind: value}))
    sys.stdout.flush()

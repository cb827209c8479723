"""What a run prints: lines for a person, or a JSON object a line for a program."""

import json
import os
import sys
import time
from typing import Any

from tqdm import tqdm

FORMATS = ("text", "json")
_chosen = "text"


def on_terminal() -> bool:
    """Return whether standard error is a terminal that has a width, in which a line may be drawn again."""
    try:
        return sys.stderr.isatty() and os.get_terminal_size(sys.stderr.fileno()).columns > 0
    except (OSError, ValueError):
        return False


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


def complain(kind: str, line: str) -> None:
    """Print a `warning`, an `error` or how a run `stopped` to standard error, above a bar if there is one."""
    if is_json():
        emit(kind, line, file=sys.stderr)
        return
    tqdm.write(line if kind == "stopped" else f"{kind}: {line}", file=sys.stderr)
    sys.stderr.flush()


def emit(kind: str, value: Any, file: Any = None) -> None:
    """Print `{"time": seconds since 1970, kind: value}` as JSON, by default to standard output."""
    file = file or sys.stdout
    tqdm.write(json.dumps({"time": round(time.time(), 3), kind: value}), file=file)
    file.flush()

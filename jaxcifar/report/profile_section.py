"""The part of a run's report that says where the time of its steps goes; empty without a profile."""

from jaxcifar.report import html_pieces
from jaxcifar.report.workdir_files import Run

_MOST_ROWS = 20
_LONGEST_NAME = 80


def kernels(run: Run) -> str:
    """Return what was profiled, and a table of the kernels that took longest."""
    if not (found := run.profile):
        return ""
    steps, total = found["steps"], found["kernel_seconds"]
    rows = found["kernels"][:_MOST_ROWS]
    others = {
        "name": "all others",
        "calls": found["kernel_calls"] - sum(row["calls"] for row in rows),
        "seconds": total - sum(row["seconds"] for row in rows),
    }
    entries = (
        (
            _short(row["name"]),
            [
                f"{row['seconds'] / total:.1%}",
                f"{1e3 * row['seconds'] / steps:.3f}",
                f"{row['calls']:,}",
            ],
        )
        for row in [*rows, others]
        if row["calls"]
    )
    note = (
        f"{steps:,} {'step' if steps == 1 else 'steps'} after step {found['after_step']:,}, "
        f"{1e3 * found['seconds'] / steps:.2f} ms a step by the clock. Kernels took "
        f"{1e3 * total / steps:.2f} ms a step, added up over devices and threads. The traces lie in "
        "<code>profile/</code>."
    )
    table = html_pieces.table(entries, ["share", "ms a step", "calls"])
    return f'<p class="note">{note}</p>{table}'


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"

"""What a workdir holds of a run, and which of its checkpoints is used."""

import contextlib
import dataclasses
import json
from pathlib import Path

from jaxcifar.errors import UserError
from jaxcifar.host.checkpoints import Checkpoints
from jaxcifar.host.files import near_runs, read_records
from jaxcifar.host.progress import warn


@dataclasses.dataclass(frozen=True)
class SavedRun:
    """Hold what a workdir says about its run."""

    step: int
    """The step of the newest whole checkpoint, 0 if there is none."""
    damaged: list[int]
    """Steps of newer checkpoints, which are damaged."""
    description: dict
    """What was saved beside the state; empty if there is none."""
    records: list[dict]
    """The records of `metrics.jsonl`."""
    starts: list[dict] = dataclasses.field(default_factory=list)
    """The starts that trained up to here, see `overview.this_start`."""

    @classmethod
    def find(cls, checkpoints: Checkpoints, workdir: Path) -> "SavedRun":
        """Find the run in `workdir`.

        Raises:
          UserError: there are checkpoints, and all are damaged.
        """
        step, damaged = newest_whole(checkpoints, workdir)
        description = checkpoints.description(step) if step else {}
        starts = []
        if step:
            with contextlib.suppress(OSError, ValueError, KeyError):  # of an earlier version
                starts = json.loads((workdir / "run.json").read_text())["starts"]
        return cls(step, damaged, description, read_records(workdir / "metrics.jsonl"), starts)

    def steps_per_dispatch(self, every_steps: int) -> int:
        """Return how many steps a dispatch of the run holds, at most.

        This is the logging interval of the run's first start, so that the same programs take the same steps
        whatever `every_steps`, the present logging interval, is.
        """
        if not self.step:
            return every_steps
        saved = self.description
        return saved.get("steps_per_dispatch") or saved["config"]["logging"]["every_steps"]

    @property
    def unrecorded(self) -> bool:
        """Whether there is a checkpoint whose step has no record yet."""
        return bool(self.step) and all(record["step"] != self.step for record in self.records)


def newest_whole(checkpoints: Checkpoints, workdir: Path) -> tuple[int, list[int]]:
    """Return the step of the newest undamaged checkpoint, 0 if there are no checkpoints.

    Returns:
      That step, and the steps of newer, damaged checkpoints, after a warning of each.

    Raises:
      UserError: there are checkpoints, and all are damaged.
    """
    steps = checkpoints.steps()
    faults = {}
    for step in reversed(steps):
        if (fault := checkpoints.fault(step)) is None:
            for damaged, fault in faults.items():
                warn(
                    f"checkpoint {damaged} in {workdir} is damaged ({fault}): using {step} instead"
                )
            return step, list(faults)
        faults[step] = fault
    if not steps:
        return 0, []
    listed = "; ".join(f"{step}: {fault}" for step, fault in faults.items())
    raise UserError(
        f"--workdir={workdir} holds no checkpoint that is whole ({listed}); all are left as they are: "
        "bring one back from a copy, or train anew in another --workdir"
    )


def chosen_step(checkpoints: Checkpoints, workdir: Path, step: int | None) -> int:
    """Return `step`, or if that is None the step of the newest whole checkpoint in `workdir`.

    Raises:
      UserError: there is no such checkpoint, or it is damaged.
    """
    steps = checkpoints.steps()
    if not steps and (workdir / "config.json").is_file():
        raise UserError(
            f"--workdir={workdir} holds no checkpoint yet: its run still trains, or was stopped before its "
            f"first; training with --workdir={workdir} goes on with it"
        )
    if not steps:
        raise UserError(
            f"--workdir={workdir} holds no checkpoint: {near_runs(workdir)}train with --config=NAME "
            f"--workdir={workdir}, or name the workdir of a run"
        )
    if step is None:
        return newest_whole(checkpoints, workdir)[0]
    if step not in steps:
        raise UserError(
            f"--step={step}: --workdir={workdir} holds checkpoints of the steps "
            f"{', '.join(map(str, steps))} (--config.checkpoint.keep says how many are kept)"
        )
    if fault := checkpoints.fault(step):
        raise UserError(
            f"--step={step}: that checkpoint in --workdir={workdir} is damaged ({fault}): name "
            "another, or none for the newest that is whole"
        )
    return step

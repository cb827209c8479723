"""Kills runs at random moments, starts them again until they are done, and compares how they end.

python -m tests.chaos [--kills=50] [--signal=KILL|TERM] [--damage] [--ahead] [--streamed] [--seed=0]

Every run has the default's layers, dropout and augmentation, narrowed. Two of five are killed while a
checkpoint is being written. With --damage the newest checkpoint is damaged before the run is started
again, in ten ways in turn. With --ahead the runs take the paths of an accelerator, where steps are sent
ahead and states are saved in the background. With --streamed their images are read from the host for each
dispatch; those of the run that is never interrupted stay on the device. Prints when each was killed; exits
with 1 unless every run ended with the same records and, bit for bit, the same parameters as one that was
never interrupted.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from absl import logging

from jaxcifar.host.checkpoints import Checkpoints
from jaxcifar.host.files import read_records
from tests.conftest import ROOT, TINY
from tests.test_faults import DAMAGES, assert_same_end

EPOCHS = 8
ARGUMENTS = TINY | {"data.shapes.train_examples": 4096, "num_epochs": EPOCHS}


AHEAD = """
import sys
from jaxcifar import main
from jaxcifar.devices import platform
platform.current = lambda: "gpu"
sys.exit(main.main(sys.argv))
"""


def start(workdir: Path, *, ahead: bool, streamed: bool = False) -> subprocess.Popen:
    """Start the run in `workdir`, or start it again."""
    arguments = ARGUMENTS | {"data.resident_bytes": 1} if streamed else ARGUMENTS
    flags = [f"--config.{path}={value}" for path, value in arguments.items()]
    program = ["-c", AHEAD] if ahead else ["-m", "jaxcifar.main"]
    command = [sys.executable, *program, "--config=configs/default.py", *flags]
    one_device = {"XLA_FLAGS": "--xla_force_host_platform_device_count=1", "JAX_PLATFORMS": "cpu"}
    return subprocess.Popen(
        [*command, f"--workdir={workdir}"],
        cwd=ROOT,
        env=os.environ | one_device,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen) -> None:
    """Wait for the end of a run, which must succeed."""
    _, err = process.communicate()
    assert process.returncode == 0, err


def unfinished_saves(workdir: Path) -> list[Path]:
    """Return the directories of checkpoints that are being written."""
    return list(workdir.glob("checkpoints/*.orbax-checkpoint-tmp"))


def kill(process: subprocess.Popen, workdir: Path, number: int, draw: random.Random, in_save: bool):
    """Kill a run at a random moment after its second checkpoint, and return whether it was saving.

    With `in_save` the moment is one at which a checkpoint is being written.
    """
    checkpoints = Checkpoints(workdir / "checkpoints")
    while len(checkpoints.steps()) < 2 and process.poll() is None:
        time.sleep(0.001)
    steps = 64 * draw.uniform(2, EPOCHS - 1)
    while last_step(workdir) < steps and process.poll() is None:
        time.sleep(0.001)
    if in_save:
        while not unfinished_saves(workdir) and process.poll() is None:
            pass
        time.sleep(draw.uniform(0, 0.02))
    saving = bool(unfinished_saves(workdir))
    process.send_signal(number)
    process.communicate()
    if number == signal.SIGKILL:
        saving = bool(unfinished_saves(workdir))
    assert process.returncode in (-signal.SIGKILL, 128 + signal.SIGTERM), process.returncode
    return saving


def last_step(workdir: Path) -> int:
    """Return the step of the newest record."""
    records = read_records(workdir / "metrics.jsonl")
    return records[-1]["step"] if records else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50, help="how many runs, each killed once")
    parser.add_argument("--signal", choices=["KILL", "TERM"], default="KILL")
    parser.add_argument(
        "--damage", action="store_true", help="damage the newest checkpoint as well"
    )
    parser.add_argument("--ahead", action="store_true", help="on the paths of an accelerator")
    parser.add_argument("--streamed", action="store_true", help="with images read from the host")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    number = signal.Signals[f"SIG{options.signal}"]
    logging.set_verbosity(logging.FATAL)

    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "whole"
        finish(start(whole, ahead=options.ahead))

        def one(index: int) -> tuple[bool, bool]:
            """Return whether a run was killed in a save, and whether it ended as it should."""
            workdir = Path(folder) / f"run{index}"
            draw = random.Random(f"{options.seed} {index}")
            process = start(workdir, ahead=options.ahead, streamed=options.streamed)
            saving = kill(process, workdir, number, draw, in_save=index % 5 in (1, 3))
            step, damage = last_step(workdir), ""
            newest = max(Checkpoints(workdir / "checkpoints").steps())
            if options.damage:
                damaging = DAMAGES[index % len(DAMAGES)]
                damaging(workdir / f"checkpoints/{newest}")
                damage = f", then {damaging.__name__} in checkpoint {newest}"
            finish(start(workdir, ahead=options.ahead, streamed=options.streamed))
            try:
                assert not unfinished_saves(workdir)
                assert_same_end(workdir, whole)
                same = True
            except AssertionError as error:
                print(error)
                same = False
            print(
                f"run {index:2}: SIG{options.signal} after the record of step {step}"
                f"{' while a checkpoint was written' if saving else ''}{damage}: "
                f"{'the same end' if same else 'ANOTHER END'}",
                flush=True,
            )
            return saving, same

        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as workers:
            results = list(workers.map(one, range(options.kills)))
    same = sum(same for _, same in results)
    print(
        f"{same} of {len(results)} runs ended as the uninterrupted one, bit for bit; "
        f"{sum(saving for saving, _ in results)} were killed while a checkpoint was written"
    )
    return 0 if same == len(results) else 1


if __name__ == "__main__":
    sys.exit(main())

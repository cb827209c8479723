"""Trains the default config for many epochs of one step, each evaluated and saved, and observes the process.

GLIBC_TUNABLES=glibc.malloc.hugetlb=1:glibc.malloc.arena_max=2 python -m tests.soak [--epochs=200]

Prints resident memory (less that after the imports) in ten epochs from the 20th and in the last ten: its
median, its minimum (between two steps) and its maximum (within a step). Also prints the fewest threads and
open files, without TensorStore's pool, which fills up with time.
Exits with 1 if the median differs by 5% or more, or if threads, files or processes are left behind.
"""

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from jaxcifar.host.files import read_records
from tests.conftest import ROOT

EARLY = 20
WINDOW = 10
COUNTED = ("threads", "open files")


def resident_megabytes(pid: int | str) -> float:
    """Return the resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def seen(pid: int, imported: float) -> dict[str, float]:
    """Return what is known of a process from outside; threads of TensorStore's pool do not count."""
    names = []
    for path in Path(f"/proc/{pid}/task").glob("*/comm"):
        with contextlib.suppress(OSError):  # it has just ended
            names.append(path.read_text().strip())
    return {
        "megabytes": resident_megabytes(pid) - imported,
        "threads": sum(name != "ts_pool_worker" for name in names),
        "open files": len(os.listdir(f"/proc/{pid}/fd")),
    }


def spread(samples: list[dict[str, float]]) -> tuple[float, float, float]:
    """Return the least, the median and the greatest memory."""
    megabytes = sorted(sample["megabytes"] for sample in samples)
    return megabytes[0], statistics.median(megabytes), megabytes[-1]


def fewest(samples: list[dict[str, float]], name: str) -> float:
    """Return the minimum count: more come and go with a save."""
    return min(sample[name] for sample in samples)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=200)
    epochs = parser.parse_args().epochs
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
    measure = (
        "import jaxcifar.training.run; from tests.soak import *; print(resident_megabytes('self'))"
    )
    imported = float(
        subprocess.run(
            [sys.executable, "-c", measure],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
        ).stdout
    )
    with tempfile.TemporaryDirectory() as folder:
        workdir, temporary = Path(folder) / "run", Path(folder) / "temporary"
        temporary.mkdir()
        changes = {
            "data.name": "shapes",
            "data.shapes.train_examples": 256,
            "data.shapes.test_examples": 256,
            "batch_size": 256,
            "num_epochs": epochs,
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "jaxcifar.main", "--config=configs/default.py"]
            + [f"--config.{path}={value}" for path, value in changes.items()]
            + [f"--workdir={workdir}"],
            cwd=ROOT,
            env=environment | {"TMPDIR": str(temporary)},
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        early, late = [], []
        while process.poll() is None:
            records = read_records(workdir / "metrics.jsonl")
            epoch = records[-1]["epoch"] if records else 0.0
            if EARLY <= epoch < EARLY + WINDOW:
                early.append(seen(process.pid, imported))
            if epochs - WINDOW <= epoch < epochs:
                late.append(seen(process.pid, imported))
            time.sleep(0.01)
        assert process.returncode == 0
        files = sorted(str(path.relative_to(workdir)) for path in workdir.rglob("*"))
        unfinished = [name for name in files if "unfinished" in name or "tmp" in name]
        left = [*unfinished, *os.listdir(temporary)]
        try:
            os.killpg(process.pid, 0)
            left.append("a process")
        except ProcessLookupError:
            pass
    print(f"{imported:.0f} MB after the imports; above that:")
    for when, samples in ((f"from epoch {EARLY}", early), (f"to epoch {epochs}", late)):
        least, median, most = spread(samples)
        print(
            f"{when}: {median:.0f} megabytes ({least:.0f} to {most:.0f}), "
            + ", ".join(f"{fewest(samples, name)} {name}" for name in COUNTED)
        )
    growth = spread(late)[1] / spread(early)[1] - 1
    print(f"the median grew by {growth:.1%}; left behind: {', '.join(left) or 'nothing'}")
    same = all(fewest(early, name) == fewest(late, name) for name in COUNTED)
    return 0 if abs(growth) < 0.05 and not left and same else 1


if __name__ == "__main__":
    sys.exit(main())

"""What all tests share: eight virtual devices, a cache of their own, and a way to run the program."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
_CACHE = tempfile.TemporaryDirectory(prefix="jaxcifar-tests-")


def pytest_configure(config):
    """Choose the devices, before any test imports JAX: eight of a CPU, or for `-m gpu` those there are."""
    if "PYTEST_XDIST_WORKER" not in os.environ:  # a worker inherits the environment
        os.environ["XDG_CACHE_HOME"] = _CACHE.name
    # Programs of this process are compiled with few optimisations, which takes a third less time. Processes
    # that tests start compile as a user's do.
    os.environ["XLA_FLAGS"] = " ".join(
        ["--xla_force_host_platform_device_count=8", "--xla_backend_optimization_level=0"]
    )
    os.environ["OMP_NUM_THREADS"] = "1"  # there are often as many workers as cores
    os.environ.pop("TFDS_DATA_DIR", None)
    if config.option.markexpr != "gpu":
        os.environ["JAX_PLATFORMS"] = "cpu"


def pytest_collection_modifyitems(items):
    """Skip tests that need a GPU where there is none; keep compiled programs from test to test."""
    from jaxcifar.devices import backend

    missing = {}
    if backend.start()[0].platform != "gpu":
        missing["gpu"] = "needs a GPU, and -m gpu"
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if not (browser or os.environ.get("JAXCIFAR_BROWSER") == "required"):
        missing["browser"] = "needs Chromium, which is not installed"
    for item in items:
        for marker in set(missing) & {marker.name for marker in item.iter_markers()}:
            item.add_marker(pytest.mark.skip(reason=missing[marker]))


@pytest.fixture(scope="session")
def run_program():
    """Run the program in a process of its own: `run_program(*arguments, **environment)`."""

    def run(*arguments, devices=1, **environment):
        environment = {
            **os.environ,
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            **environment,
        }
        command = [sys.executable, "-m", "jaxcifar.main", *map(str, arguments)]
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)

    return run


@pytest.fixture
def nothing_is_drawn(monkeypatch):
    """Leave plots and the inside of networks out of reports, which is most of a report's time."""
    from jaxcifar.evaluation import inside
    from jaxcifar.report import plots

    monkeypatch.setattr(inside, "look", lambda *arguments: {})
    monkeypatch.setattr(plots, "png", lambda figure, path: path.touch())
    monkeypatch.setattr(plots, "svg", lambda figure, title: "<svg></svg>")


@pytest.fixture
def run_here(capsys, monkeypatch, nothing_is_drawn):
    """Run the program as `run_program` does, but in this process on its eight devices, which is faster."""
    from jaxcifar import main as program

    monkeypatch.setattr("sys.argv", ["main"])

    def run(*arguments):
        arguments = ["main", *map(str, arguments)]
        return subprocess.CompletedProcess(arguments, program.main(arguments), *capsys.readouterr())

    return run


@pytest.fixture
def fails(run_here):
    """Return a function that runs the program, which must fail, and returns its one line of error."""

    def run(*arguments):
        result = run_here(*arguments)
        lines = result.stderr.splitlines()
        assert result.returncode == 2
        assert len(lines) == 1 and lines[0].startswith("error: "), lines
        return lines[0]

    return run


@pytest.fixture
def start_program():
    """Start the program, `start_program(*arguments, **options of Popen)`; killed if it outlives the test."""
    started = []

    def start(*arguments, devices=1, **options):
        process = subprocess.Popen(
            [sys.executable, "-m", "jaxcifar.main", *map(str, arguments)],
            cwd=ROOT,
            env={
                **os.environ,
                "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
                "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def wait_for(happened, process, seconds=120):
    """Wait until `happened()`, while `process` lives."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


TINY = {
    "data.name": "shapes",
    "data.shapes.train_examples": 512,
    "data.shapes.test_examples": 100,
    "num_epochs": 3,
    "batch_size": 64,
    "precision": "float32",  # whatever the processor
    "model.cnn.widths": (4, 6, 8),
    "model.cnn.convs_per_block": (1, 2, 2),
    "evaluation.batch_size": 64,
    "logging.every_steps": 3,
}
"""The default's layers, dropout and augmentation, narrow and short: 8 steps an epoch."""


@pytest.fixture
def tiny_config():
    """Return `make(**changes)`, which makes the tiny config; changes are by dotted path."""

    def make(changes=()):
        from configs import default
        from jaxcifar.config.reader import read_config

        config = default.get_config()
        config.update_from_flattened_dict(TINY | dict(changes))
        return read_config(config)

    return make


@pytest.fixture(scope="session")
def tiny_flags():
    """Return the flags that give the tiny config."""
    changes = [f"--config.{path}={value}" for path, value in TINY.items()]
    return ["--config=configs/default.py", *changes]


@pytest.fixture(scope="session")
def trained_run(run_program, tiny_flags, tmp_path_factory):
    """Return the workdir of a finished tiny run; tests must not change it."""
    workdir = tmp_path_factory.mktemp("trained")
    result = run_program(*tiny_flags, f"--workdir={workdir}")
    assert result.returncode == 0, result.stderr
    return workdir


SHORT = (
    "--config.num_epochs=2",
    "--config.data.options.examples=128",
    "--config.precision=float32",
)
"""Flags of a short run of the components that docs/extending.md shows."""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Change to a directory with the documentation's `my_parts.py` and `my_config.py`."""
    text = (ROOT / "docs/extending.md").read_text()
    *_, parts, config = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    (tmp_path / "my_parts.py").write_text(parts)
    (tmp_path / "my_config.py").write_text(config)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [path for path in sys.path if path != ""])
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    monkeypatch.delitem(sys.modules, "my_parts", raising=False)
    yield tmp_path
    sys.modules.pop("my_parts", None)

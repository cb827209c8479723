"""The locks, and run.sh as far as it can be run without installing anything."""

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from PIL import Image

import jaxcifar

ROOT = Path(__file__).parent.parent
LOCKS = [ROOT / f"requirements/{jax}.lock" for jax in ("cpu", "cuda", "tpu")]
LOWEST, LINT = (ROOT / f"requirements/{name}.lock" for name in ("lowest", "lint"))


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(lock):
    """Return the requirement lines of a lock by normal name; a name may have several, by marker."""
    found = {}
    for line in lock.read_text().replace("\\\n", " ").splitlines():
        name = re.match(r"[A-Za-z0-9._-]+", line)[0]
        found.setdefault(normal(name), []).append(line)
    return found


@pytest.mark.parametrize("lock", [*LOCKS, LOWEST, LINT], ids=lambda lock: lock.stem)
def test_a_lock_pins_and_hashes_everything_and_names_no_address(lock):
    assert "://" not in lock.read_text()
    for lines in locked(lock).values():
        for line in lines:
            assert re.match(r"\S+==\S+ ", line) and "--hash=sha256:" in line


def wanted():
    """Return the requirements of the project and of its tests."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return project["dependencies"] + project["optional-dependencies"]["test"]


@pytest.mark.parametrize("lock", [*LOCKS, LOWEST], ids=lambda lock: lock.stem)
def test_a_lock_holds_all_that_the_project_and_its_tests_need(lock):
    names = {normal(re.match(r"[A-Za-z0-9._-]+", requirement)[0]) for requirement in wanted()}
    assert names <= locked(lock).keys()


def test_the_lowest_versions_are_those_that_the_project_admits():
    lowest = locked(LOWEST)
    for requirement in wanted():
        name, version = re.match(r"([A-Za-z0-9._-]+)>=([\d.]+)", requirement).groups()
        (line,) = lowest[normal(name)]
        found = re.match(r"\S+==([\d.]+)", line)[1]
        assert re.fullmatch(rf"{re.escape(version)}(\.0)*", found), line


def test_the_locks_agree():
    cpu = locked(LOCKS[0])
    for lock in LOCKS[1:]:
        assert {name: locked(lock)[name] for name in cpu} == cpu


def test_jax_0_11_is_for_python_3_12_and_later():
    versions = {re.match(r"jax==(\d+\.\d+)", line)[1]: line for line in locked(LOCKS[0])["jax"]}
    assert versions.keys() == {"0.10", "0.11"}
    assert "python_full_version < '3.12'" in versions["0.10"]
    assert "python_full_version >= '3.12'" in versions["0.11"]


@pytest.mark.parametrize(
    "environment, words",
    [
        (
            {"PYTHON": "/nowhere/python3"},
            "PYTHON=/nowhere/python3 is not Python 3.11, 3.12 or 3.13",
        ),
        ({"JAX_PLATFORMS": "cuda", "PATH": "/usr/bin:/bin"}, "JAX_PLATFORMS=cuda, but nvidia-smi"),
        ({"JAXCIFAR_JAX": "gpu"}, "JAXCIFAR_JAX=gpu is unknown: it takes cpu, cuda or tpu"),
    ],
)
def test_run_sh_says_in_one_line_what_it_cannot_do(tmp_path, environment, words):
    shutil.copy(ROOT / "run.sh", tmp_path)
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    environment = os.environ | {"JAXCIFAR_JAX": ""} | environment
    result = subprocess.run(
        ["./run.sh"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 2
    assert f"error: {words}" in result.stderr.splitlines()[-1]
    assert not (tmp_path / ".venv").exists()


def test_run_sh_leaves_an_environment_alone_that_it_did_not_make(tmp_path):
    shutil.copy(ROOT / "run.sh", tmp_path)
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv/mine").touch()
    result = subprocess.run(["./run.sh"], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 2
    assert "is not of run.sh's making" in result.stderr
    assert (tmp_path / ".venv/mine").exists()


needs_flock = pytest.mark.skipif(not shutil.which("flock"), reason="nothing waits without flock")


@pytest.fixture
def start(tmp_path):
    """Start run.sh with an interpreter that writes each environment that it makes to `made`: `start()`."""
    shutil.copy(ROOT / "run.sh", tmp_path)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    (tmp_path / "installed").write_text("#!/bin/sh\nexit 0\n")
    python = tmp_path / "python"
    python.write_text(
        "#!/bin/sh\n"
        f'[ "$2" = venv ] || exit 0\necho "$3" >>{tmp_path}/made\nsleep 0.5\n'
        f'mkdir -p "$3/bin"\ncp {tmp_path}/installed "$3/bin/python"\n'
    )
    for file in (python, tmp_path / "installed"):
        file.chmod(0o755)
    environment = os.environ | {"PYTHON": str(python), "JAXCIFAR_JAX": "cpu"}
    return lambda: subprocess.Popen(
        ["./run.sh"], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True
    )


@needs_flock
def test_of_several_starts_at_once_one_sets_up_and_the_others_wait(start, tmp_path):
    starts = [start() for _ in range(3)]
    told = [each.communicate()[1] for each in starts]
    assert [each.returncode for each in starts] == [0, 0, 0]
    assert (tmp_path / "made").read_text().splitlines() == [str(tmp_path / ".venv")]
    assert sum("waiting for another run.sh" in words for words in told) >= 2


@needs_flock
def test_an_environment_is_set_up_anew_only_when_no_run_uses_it(start, tmp_path):
    assert start().wait() == 0
    venv = tmp_path / ".venv"
    (venv / "old").touch()
    with (tmp_path / "requirements/cpu.lock").open("a") as file:
        file.write("# changed\n")
    with (venv / "made-by-run.sh").open() as used:
        fcntl.flock(used, fcntl.LOCK_SH)
        refused = start()
        assert "a run is using it: wait for its end" in refused.communicate()[1]
        assert refused.returncode == 2 and (venv / "old").exists()
    assert start().wait() == 0
    assert not (venv / "old").exists() and not (tmp_path / ".venv.old").exists()


def test_run_sh_installs_the_package_into_an_environment_that_is_there_and_again_when_it_changes(
    tmp_path,
):
    for file in ("run.sh", "pyproject.toml"):
        shutil.copy(ROOT / file, tmp_path)
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    python = tmp_path / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\n[ "$2" != pip ] || echo "$*" >>{tmp_path}/installed\n')
    python.chmod(0o755)
    shutil.copy(tmp_path / "requirements/cpu.lock", tmp_path / ".venv/made-by-run.sh")
    environment = os.environ | {"JAXCIFAR_JAX": "cpu"}
    start = lambda: subprocess.run(["./run.sh"], cwd=tmp_path, env=environment, check=True)
    start()
    start()
    installed = (tmp_path / "installed").read_text().splitlines()
    assert len(installed) == 1 and installed[0].endswith(f"--editable {tmp_path}")
    with (tmp_path / "pyproject.toml").open("a") as file:
        file.write("# changed\n")
    start()
    assert len((tmp_path / "installed").read_text().splitlines()) == 2


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Install the wheel in a directory, and return a function that runs its command from another one."""
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    options = ["--no-deps", "--no-build-isolation", f"--target={folder / 'site'}"]
    subprocess.run([*pip, "install", *options, ROOT], check=True)
    (folder / "elsewhere").mkdir()
    environment = os.environ | {"XLA_FLAGS": "", "PYTHONPATH": str(folder / "site")}

    def run(*arguments, program=(folder / "site/bin/jaxcifar",)):
        command = [sys.executable, *program, *map(str, arguments)]
        elsewhere = folder / "elsewhere"
        return subprocess.run(
            command, cwd=elsewhere, env=environment, capture_output=True, text=True
        )

    return run


def test_the_installed_command_trains_evaluates_reports_and_predicts_from_any_directory(
    installed, tiny_flags, tmp_path
):
    flags = [*tiny_flags[1:], "--config.num_epochs=1", f"--workdir={tmp_path}/run"]
    trained = installed("train", "--config=default", *flags)
    assert trained.returncode == 0, trained.stderr
    evaluation = json.loads((tmp_path / "run/evaluation.json").read_text())
    evaluated = installed("evaluate", *flags[-1:])
    assert evaluated.returncode == 0, evaluated.stderr
    assert json.loads((tmp_path / "run/evaluation.json").read_text()) == evaluation
    reported = installed("report", tmp_path / "run")
    assert reported.stdout == f"{tmp_path}/run/report/index.html\n", reported.stderr
    Image.new("RGB", (32, 32)).save(tmp_path / "one.png")
    predicted = installed("predict", *flags[-1:], "--csv", tmp_path / "one.png")
    head, line = predicted.stdout.splitlines()
    assert head.startswith("file,prediction,disc,") and line.startswith(f"{tmp_path}/one.png,")


def test_the_installed_command_says_what_it_can_do(installed):
    version = installed("--version").stdout
    assert version == f"{jaxcifar.__version__}\n"
    assert (
        version == installed(program=["-c", "import jaxcifar; print(jaxcifar.__version__)"]).stdout
    )
    bare = installed()
    catalogue = bare.stdout
    assert bare.returncode == 2 and catalogue == installed("--help").stdout
    for command in ("train", "evaluate", "predict", "report"):
        assert f"\n  jaxcifar {command} " in catalogue
    without_command = installed("--config=quick", "--config.batch_size=0").stderr
    assert without_command.startswith("error: --config.batch_size=0")
    of_evaluate, of_train = (installed(name, "--help").stdout for name in ("evaluate", "train"))
    assert "--step" in of_evaluate and "--extend" not in of_evaluate and "--extend" in of_train
    wrong = installed("trian", "--config=quick")
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("error: there is no command 'trian': did you mean 'train'? ")


def test_a_config_of_ours_is_found_by_its_name_and_by_its_path_in_a_clone(installed):
    for named in ("fast", "configs/fast.py"):
        mistake = installed("train", f"--config={named}", "--config.batch_size=0")
        assert "--config.batch_size=0: it must be at least 1" in mistake.stderr
    missing = installed("train", "--config=fats").stderr
    assert "did you mean fast? ours are default, fast, folder, quick, resnet18, resnet8" in missing


QUICK = "--config={root}/configs/quick.py"


@pytest.mark.parametrize(
    "arguments, config",
    [
        ([], QUICK),
        (["train"], QUICK),
        (["train", "--workdir=a run"], ""),
        (["--config.seed=3"], QUICK),
        (["--workdir=empty"], QUICK),
        (["--workdir=empty", "--config.seed=3"], QUICK),
        (["--workdir=a run"], ""),
        (["--workdir", "a run"], ""),
        (["-workdir=a run", "--config.logging.every_steps=9"], ""),
        (["--workdir=~/a run"], ""),
        (["--config=mine.py", "--workdir=empty"], ""),
        (["--config", "mine.py"], ""),
        (["--mode=evaluate", "--workdir=empty"], ""),
        (["--mode", "report", "--workdir=empty"], ""),
    ],
)
def test_run_sh_trains_quick_py_only_where_no_run_and_no_config_is_named(
    tmp_path, arguments, config
):
    shutil.copy(ROOT / "run.sh", tmp_path)
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    python = tmp_path / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\nfor word; do echo "$word"; done\n')
    python.chmod(0o755)
    shutil.copy(tmp_path / "requirements/cpu.lock", tmp_path / ".venv/made-by-run.sh")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    package = f"{tmp_path}\n" + (ROOT / "pyproject.toml").read_text()
    (tmp_path / ".venv/package-by-run.sh").write_text(package)
    for folder in ("a run", "empty"):
        (tmp_path / folder).mkdir()
    (tmp_path / "a run/config.json").touch()
    environment = os.environ | {"HOME": str(tmp_path), "JAXCIFAR_JAX": "cpu"}
    result = subprocess.run(
        ["./run.sh", *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    taken = [config.format(root=tmp_path)] if config else []
    arguments = [argument for argument in arguments if argument != "train"]
    assert result.stdout.splitlines() == ["-m", "jaxcifar.main", *taken, *arguments], result.stderr

"""The command line: what a person gets wrong, and what a run leaves behind."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxcifar import main as program
from jaxcifar.config import command_line, fields
from jaxcifar.data import datasets
from jaxcifar.data.reading import Reading
from jaxcifar.devices import backend
from jaxcifar.errors import UserError
from jaxcifar.host.files import read_records, user_cache
from tests.conftest import ROOT
from tests.test_faults import assert_same_end

QUICK = "--config=configs/quick.py"


def test_an_empty_workdir_cannot_be_evaluated(fails, tmp_path):
    line = fails("--mode=evaluate", f"--workdir={tmp_path}")
    assert f"{tmp_path} holds no run to evaluate" in line and "train with --config=NAME" in line
    assert not list(tmp_path.iterdir())


def test_a_file_for_a_workdir_is_an_error(fails, tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    assert "name a directory" in fails(QUICK, f"--workdir={file}")
    assert file.read_text() == "mine"


@pytest.mark.parametrize(
    "line, words",
    [
        (
            "config.num_epoch = 3",
            "sets a field num_epoch that there is not: did you mean num_epochs?",
        ),
        ("return None", "get_config() returns no ConfigDict"),
        ("config.num_epochs = 'three'", "is no config that can be used: "),
        ("config.data.data_dir = __import__('pathlib').Path('data')", "cannot be casted to type"),
        ("config.seed = None", "--config.seed=None: it must be a whole number: from 0 to"),
        ("config.data = None", "--config.data.name is missing"),
        ("config.unlock(); config.mine = {3}", "the config cannot be saved (Object of type set"),
        ("config.num_epochs = True", "--config.num_epochs=True: it must be a whole number: from 1"),
        (
            "config.model.cnn.widths = (True, 2)",
            "it must be whole numbers separated by commas: one or more",
        ),
        ("import nowhere", "line 5: ModuleNotFoundError: No module named 'nowhere'"),
        ("config.optimizer.adam = 3", "is no config that can be used: "),
        ("return config.num_epochs +", "line 5 is no Python: invalid syntax"),
    ],
)
def test_a_mistake_in_a_config_file_is_an_error_that_names_the_file(fails, tmp_path, line, words):
    file = tmp_path / "mine.py"
    file.write_text(
        "from configs import default\n\ndef get_config():\n    config = default.get_config()\n"
        f"    {line}\n    return config\n"
    )
    shown = fails(f"--config={file}", f"--workdir={tmp_path / 'run'}")
    assert words in shown and (str(file) in shown or "--config." in shown)


@pytest.mark.parametrize("theirs", ["configs/default.py", "configs/__init__.py", "configs.py"])
def test_configs_of_another_project_do_not_hide_ours(monkeypatch, tmp_path, theirs):
    (tmp_path / theirs).parent.mkdir(exist_ok=True)
    (tmp_path / theirs).write_text("learning_rate = 3\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["main"])
    monkeypatch.syspath_prepend(tmp_path)
    assert (
        command_line.parse(["main", f"--config={ROOT}/configs/fast.py"]).config.model.name
        == "speednet"
    )
    (tmp_path / "mine.py").write_text("from configs import quick\nget_config = quick.get_config\n")
    assert command_line.parse(["main", "--config=mine.py"]).config.data.name == "shapes"


def test_a_config_of_ones_own_imports_those_beside_it(monkeypatch, tmp_path):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/base.py").write_text(
        "from configs import quick\n\ndef get_config():\n    config = quick.get_config()\n"
        "    config.seed = 7\n    return config\n"
    )
    (tmp_path / "configs/mine.py").write_text(
        "from configs import base\nget_config = base.get_config\n"
    )
    monkeypatch.setattr("sys.argv", ["main"])
    assert command_line.parse(["main", f"--config={tmp_path}/configs/mine.py"]).config.seed == 7


@pytest.mark.parametrize("text", ["{", "[]", "null", "{}", '{"data": 3}', '{"a": 1}'])
def test_a_damaged_config_in_a_workdir_is_an_error(fails, trained_run, tmp_path, text):
    workdir = shutil.copytree(trained_run, tmp_path / "run")
    (workdir / "config.json").write_text(text)
    line = fails("--mode=evaluate", f"--workdir={workdir}")
    assert f"{workdir}/config.json" in line or "is missing: a config starts from" in line


def test_a_workdir_that_cannot_be_made_is_an_error_before_any_work(fails, tmp_path):
    (tmp_path / "file").write_text("mine")
    line = fails(QUICK, f"--workdir={tmp_path / 'file/run'}")
    assert f"{tmp_path / 'file'} is a file" in line


def test_a_config_file_without_get_config_is_an_error(run_program, tmp_path):
    (tmp_path / "mine.py").write_text("config = 3\n")
    result = run_program(f"--config={tmp_path / 'mine.py'}")
    assert result.returncode == 2
    assert result.stderr == f"error: {tmp_path / 'mine.py'} has no function get_config()\n"


def test_a_tilde_in_the_workdir_is_the_home_directory_in_every_mode(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["main"])
    trained = command_line.parse(["main", QUICK, "--workdir=~/run"])
    assert trained.workdir == str(tmp_path / "run")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.json").write_text(json.dumps(trained.config.to_dict()))
    evaluated = command_line.parse(["main", "--mode=evaluate", "--workdir=~/run"])
    assert evaluated.workdir == trained.workdir
    assert evaluated.config.to_dict() == trained.config.to_dict()


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_a_platform_that_is_not_there_is_an_error(run_program, trained_run, tmp_path, platform):
    arguments = {
        "tpu": ["--mode=evaluate", f"--workdir={trained_run}"],
        "cuda": [QUICK, f"--workdir={tmp_path / 'run'}"],
    }
    result = run_program(*arguments[platform], JAX_PLATFORMS=platform)
    assert result.returncode == 2, result.stderr
    line = result.stderr.splitlines()[-1]
    assert line.startswith(f"error: JAX_PLATFORMS={platform} gives no device (")
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "switch, value",
    [
        ("jax_disable_jit", True),
        ("jax_numpy_dtype_promotion", "strict"),
        ("jax_numpy_rank_promotion", "raise"),
        ("jax_transfer_guard", "disallow"),
        ("jax_transfer_guard_device_to_host", "disallow_explicit"),
    ],
)
def test_a_switch_of_jax_under_which_nothing_runs_is_named(fails, tmp_path, switch, value):
    before = getattr(jax.config, switch)
    jax.config.update(switch, value)
    try:
        line = fails(QUICK, f"--workdir={tmp_path / 'run'}")
    finally:
        jax.config.update(switch, before)
    assert f"error: {switch.upper()}={value} is not supported" in line and "unset it" in line


@pytest.fixture
def no_home(monkeypatch):
    """Simulate a user without a home directory."""

    def unknown(uid):
        raise KeyError(uid)

    for name in ("HOME", "XDG_CACHE_HOME", "TFDS_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    with pytest.raises(RuntimeError):
        Path.home()


def test_a_user_without_a_home_trains_without_a_cache(no_home, monkeypatch):
    before = jax.config.jax_compilation_cache_dir
    try:
        jax.config.update("jax_compilation_cache_dir", None)
        assert user_cache("xla") is None and backend.start()
        assert jax.config.jax_compilation_cache_dir is None
    finally:
        jax.config.update("jax_compilation_cache_dir", before)


def test_a_cache_that_cannot_be_written_to_is_told_once_and_not_used(monkeypatch, capsys):
    before = jax.config.jax_compilation_cache_dir
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null/cache")
    try:
        jax.config.update("jax_compilation_cache_dir", None)
        assert backend.start() and jax.config.jax_compilation_cache_dir is None
        (line,) = capsys.readouterr().err.splitlines()
        assert "/dev/null/cache/jaxcifar/xla cannot be written to: XDG_CACHE_HOME names" in line
    finally:
        jax.config.update("jax_compilation_cache_dir", before)


def test_a_user_without_a_home_is_told_what_to_name(no_home, fails, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert "~/run: the home directory is not known" in fails(
        f"--config={ROOT}/{QUICK[9:]}", "--workdir=~/run"
    )
    monkeypatch.setattr("tensorflow_datasets.core.constants.DATA_DIR", "~/tensorflow_datasets")
    where = {"data_dir": "", "reading": Reading()}
    with pytest.raises(UserError, match="~/tensorflow_datasets: the home directory is not known"):
        datasets.tfds("train", name="cifar10", **where)
    assert not list(tmp_path.iterdir())


# A terminal, a pipe or a disk that cannot be written to.

PRINTS = """
import os, sys
from jaxcifar.host import terminal
terminal.prepare()
terminal.drop_what_cannot_be_written("stdout", "stderr")
file = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
for stream in (sys.stdout, sys.stderr):
    for _ in range(2):
        print("3 \\u00d7 3", "a" * 100_000, file=stream, flush=True)
os.write(file, b"done")
assert file > 2
"""


@pytest.mark.parametrize(
    "redirection",
    [">&-", "2>&-", ">&- 2>&- <&-", ">/dev/full", "2>/dev/full", "| true", "2>&1 | true"],
)
def test_what_cannot_be_printed_is_dropped_and_the_program_goes_on(tmp_path, redirection):
    command = f'set -o pipefail; "$0" -c "$1" "$2" {redirection}'
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUTF8": "0", "LC_ALL": "C"}
    arguments = ["bash", "-c", command, sys.executable, PRINTS, tmp_path / "file"]
    result = subprocess.run(arguments, env=environment, capture_output=True)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "file").read_bytes() == b"done"
    assert b"Traceback" not in result.stderr and b"Exception" not in result.stderr


def test_what_cannot_be_encoded_is_replaced(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUTF8": "0", "LC_ALL": "C"}
    command = [sys.executable, "-c", PRINTS, str(tmp_path / "file")]
    result = subprocess.run(command, env=environment, capture_output=True, check=True)
    assert result.stdout.startswith(b"3 ? 3 aaa") and result.stderr.startswith(b"3 \\xd7 3 aaa")


def test_a_run_whose_reader_has_gone_ends_as_any_other(tiny_flags, trained_run, tmp_path):
    command = [sys.executable, "-m", "jaxcifar.main", *tiny_flags, f"--workdir={tmp_path / 'run'}"]
    environment = os.environ | {"PYTHONUTF8": "0", "LC_ALL": "C", "XLA_FLAGS": ""}
    reader, writer = os.pipe()
    os.close(reader)
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(command, cwd=ROOT, env=environment, stdout=writer, stderr=full)
    os.close(writer)
    assert result.returncode == 0
    assert_same_end(tmp_path / "run", trained_run)


def test_a_bug_keeps_its_traceback(monkeypatch, tmp_path):
    monkeypatch.setattr("jaxcifar.training.run.train", lambda *args, **kwargs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        program.main(["main", QUICK, f"--workdir={tmp_path}"])


def test_help_names_every_flag_and_exits_with_0(capsys):
    assert program.main(["main", "--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"--{name}" in shown for name in ("config", "workdir", "mode", "step", "extend"))


def test_help_does_not_import_jax(run_program):
    result = run_program("--help", PYTHONPROFILEIMPORTTIME="1")
    assert result.returncode == 0
    imported = {line.split("|")[-1].strip() for line in result.stderr.splitlines()}
    assert "ml_collections" in imported and "jax" not in imported


def test_training_does_not_import_pytorch_where_there_is_one(tmp_path):
    (tmp_path / "torch.py").write_text("raise SystemExit('PyTorch is imported')")
    program = (
        "import jaxcifar.training.run, importlib.util; assert importlib.util.find_spec('torch')"
    )
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{tmp_path}"}
    result = subprocess.run(
        [sys.executable, "-c", program], env=environment, stderr=subprocess.PIPE
    )
    assert result.returncode == 0, result.stderr


def test_every_config_is_whole_and_right():
    from configs import default
    from jaxcifar.config.reader import read_config

    known = set(dict(fields.fields(default.get_config())))
    for path in Path("configs").glob("*.py"):
        values = command_line.parse(["main", f"--config={path}"])
        assert set(dict(fields.fields(values.config))) == known
        read_config(values.config)


def test_a_run_leaves_what_it_promises_and_evaluates_again_to_the_last_example(
    run_program, run_here, fails, tiny_flags, tmp_path
):
    workdir = tmp_path / "[a]* b/lr[0.1]"  # which looks like a pattern
    trained = run_here(*tiny_flags, f"--workdir={workdir}")
    assert trained.returncode == 0, trained.stderr
    first = json.loads((workdir / "evaluation.json").read_text())
    assert first["examples"] == 100 and sum(map(sum, first["confusion_matrix"])) == 100
    assert first["correct"] == sum(row[i] for i, row in enumerate(first["confusion_matrix"]))
    assert first["accuracy"] == first["correct"] / 100 and first["step"] == 24
    assert first["test_time_augmentation"] == {}
    assert f"accuracy {first['accuracy']:.2%}" in trained.stdout
    assert f"report: {workdir / 'report/index.html'}" in trained.stdout
    low, high = first["accuracy_interval"]
    assert low < first["accuracy"] < high and first["accuracy"] <= first["top_5_accuracy"]
    assert [scores["name"] for scores in first["per_class"]] == first["class_names"]
    predictions = np.load(workdir / "predictions.npz")
    np.testing.assert_array_equal(predictions["index"], range(100))
    right = predictions["probabilities"].argmax(1) == predictions["labels"]
    assert right.sum() == first["correct"]

    config = json.loads((workdir / "config.json").read_text())
    assert config["model"]["cnn"]["widths"] == [4, 6, 8]
    records = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [r["step"] for r in records] == [3, 6, 8, 11, 14, 16, 19, 22, 24]
    assert [r["step"] for r in records if "test/accuracy" in r] == [8, 16, 24]
    assert records[-1]["test/accuracy"] == first["accuracy"] and records[-1]["epoch"] == 3
    assert all(
        {"time", "train/loss", "train/accuracy", "images_per_second", "learning_rate"} <= set(r)
        for r in records
    )
    assert list((workdir / "tensorboard").glob("events.*"))
    assert sorted(p.name for p in (workdir / "checkpoints").iterdir()) == ["16", "24"]

    (workdir / "evaluation.json").unlink()
    again = run_program("--mode=evaluate", f"--workdir={workdir}", devices=3)
    assert again.returncode == 0, again.stderr
    second = json.loads((workdir / "evaluation.json").read_text())
    assert second["confusion_matrix"] == first["confusion_matrix"]

    earlier = run_here("--mode=evaluate", f"--workdir={workdir}", "--step=16")
    assert earlier.returncode == 0, earlier.stderr
    evaluation = json.loads((workdir / "evaluation.json").read_text())
    assert evaluation["step"] == 16
    (second,) = [record for record in records if record["step"] == 16]
    assert evaluation["accuracy"] == second["test/accuracy"]
    missing = fails("--mode=evaluate", f"--workdir={workdir}", "--step=17")
    assert "checkpoints of the steps 16, 24 (" in missing

    own = {name: (workdir / name).read_bytes() for name in ("evaluation.json", "predictions.npz")}
    part = run_here(
        "--mode=evaluate",
        f"--workdir={workdir}",
        "--config.data.test_split=test[:9]+train[:30]",
        "--config.evaluation.test_time_augmentation=mirror",
    )
    assert "train[:30]: balanced accuracy" in part.stdout and "of 39; naming" in part.stdout
    assert "train[:30] under test-time augmentation (mirror): accuracy" in part.stdout
    folder = workdir / "evaluations/shapes-test[:9]+train[:30]"
    assert f"evaluation: {folder}/evaluation.json" in part.stdout
    third = json.loads((folder / "evaluation.json").read_text())
    assert third["examples"] == 39 and third["test_time_augmentation"].keys() == {"mirror"}
    assert third["test_time_augmentation"]["mirror"]["loss"] != third["loss"]
    assert len(np.load(folder / "predictions.npz")["labels"]) == 39
    assert own == {name: (workdir / name).read_bytes() for name in own}
    # A warning, here and in the report, names the examples that the run was trained on.
    assert (
        "warning: 30 of the 39 examples of shapes, split test[:9]+train[:30], are among"
        in part.stderr
    )
    assert third["examples_trained_on"] == 30
    page = (workdir / "report/index.html").read_text()
    assert "evaluations/shapes-test[:9]+train[:30]" in page and "step 16" in page


def test_a_checkpoint_of_another_model_is_an_error(fails, trained_run):
    evaluate = ["--mode=evaluate", f"--workdir={trained_run}"]
    line = fails(*evaluate, "--config.model.cnn.widths=4,6,9")
    assert "another model (model.cnn.widths: (4, 6, 8) -> (4, 6, 9))" in line


@pytest.mark.slow  # in the suite MNIST is learnt, by test_folder
def test_the_built_in_images_are_learnt(run_program, tmp_path):
    result = run_program("--config=configs/quick.py", f"--workdir={tmp_path / 'run'}")
    assert result.returncode == 0, result.stderr
    assert json.loads((tmp_path / "run/evaluation.json").read_text())["accuracy"] >= 0.95


def test_standard_output_for_a_program_is_a_json_object_a_line(run_here, tiny_flags, tmp_path):
    flags = [*tiny_flags, "--config.num_epochs=1", f"--workdir={tmp_path}/run"]
    result = run_here(*flags, "--log_format=json")
    assert result.returncode == 0, result.stderr
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    kinds = {kind for line in lines for kind in line}
    assert kinds == {"time", "message", "record", "evaluation"}
    assert all(abs(line.pop("time") - time.time()) < 600 for line in lines)
    records = [line["record"] for line in lines if "record" in line]
    written = read_records(tmp_path / "run/metrics.jsonl")
    assert records == [{k: v for k, v in record.items() if k != "time"} for record in written]
    (evaluation,) = (line["evaluation"] for line in lines if "evaluation" in line)
    saved = json.loads((tmp_path / "run/evaluation.json").read_text())
    assert evaluation == {name: saved[name] for name in evaluation} and "accuracy" in evaluation
    assert {"message": f"report: {tmp_path}/run/report/index.html"} == lines[-1]
    wrong = run_here(*flags, "--config.batch_size=0", "--log_format=json")
    assert wrong.returncode == 2
    (complaint,) = map(json.loads, wrong.stderr.splitlines())
    assert complaint["error"].startswith("--config.batch_size=0: it must be at least 1")
    assert not run_here(*flags, "--mode=evaluate").stdout.startswith("{")


LOGGERS = """
records, calls = [], 0

def keep(step, values):
    records.append((step, values))

def fail(step, values):
    global calls
    calls += 1
    raise OSError("no network")
"""


def test_loggers_of_ones_own_are_given_each_record_and_cannot_stop_a_run(
    run_here, fails, tiny_flags, tmp_path, monkeypatch
):
    (tmp_path / "my_loggers.py").write_text(LOGGERS)
    monkeypatch.syspath_prepend(tmp_path)
    flags = [*tiny_flags, "--config.num_epochs=1", f"--workdir={tmp_path}/run"]
    both = "--config.logging.loggers=my_loggers:fail,my_loggers:keep"
    line = fails(*flags, "--config.logging.loggers=my_loggers:none")
    assert "holds no function or class none" in line
    assert "import path" in fails(*flags, "--config.logging.loggers=my_loggers")
    result = run_here(*flags, both)
    assert result.returncode == 0, result.stderr
    loggers = sys.modules.pop("my_loggers")
    written = read_records(tmp_path / "run/metrics.jsonl")
    assert loggers.records == [
        (record.pop("step"), {k: v for k, v in record.items() if k != "time"}) for record in written
    ]
    assert loggers.calls == 1
    assert "warning: the logger fail is given no more records" in result.stderr
    # Loggers do not make it another run, and only training needs them.
    (tmp_path / "my_loggers.py").unlink()
    assert "is finished" in run_here(*flags).stdout
    assert run_here(f"--workdir={tmp_path}/run", "--mode=evaluate").returncode == 0
    assert "my_loggers" not in sys.modules


def test_the_line_at_an_epoch_s_end_has_the_means_of_the_epoch(run_here, tiny_flags, tmp_path):
    result = run_here(*tiny_flags, "--config.num_epochs=1", f"--workdir={tmp_path}")
    records = read_records(tmp_path / "metrics.jsonl")
    steps = np.diff([0, *(record["step"] for record in records)])
    assert steps.tolist() == [3, 3, 2]  # the last record is of what is left
    loss = np.average([record["train/loss"] for record in records], weights=steps)
    assert f"\nepoch 1/1 (mean)  train loss {loss:.4f} accuracy " in result.stdout

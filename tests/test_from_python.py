"""Use of the package by a program or a notebook: without a command line, signals or exits."""

import json
import re
import signal
import subprocess
import sys

import flax.linen as nn
import jax
import numpy as np
import pytest

import jaxcifar
from jaxcifar import Classifier, Run, UserError
from jaxcifar.step.batch import normalise
from tests.conftest import ROOT, TINY


@pytest.fixture
def config():
    config = jaxcifar.get_config("default")
    config.update_from_flattened_dict(TINY | {"num_epochs": 1})
    return config


@pytest.fixture
def nothing_is_taken(monkeypatch, nothing_is_drawn):
    """Set a foreign command line, and check that it and the signal handlers stay as they were."""
    theirs = ["notebook", "--config=theirs", "--config.seed=3"]
    monkeypatch.setattr("sys.argv", theirs)
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    yield
    assert sys.argv is theirs and len(theirs) == 3
    assert [signal.getsignal(number) for number in numbers] == before


@pytest.mark.usefixtures("nothing_is_taken")
def test_runs_are_trained_evaluated_and_read_one_after_another(config, tmp_path):
    written = lambda evaluation: json.loads(json.dumps(evaluation))
    first = written(jaxcifar.train(config, tmp_path / "a"))
    assert written(jaxcifar.train(config, str(tmp_path / "a"))) == first  # which is finished
    run = Run(tmp_path / "a")
    assert run.evaluation == first == json.loads((tmp_path / "a/evaluation.json").read_text())
    assert run.config["batch_size"] == 64 and run.config["num_epochs"] == 1
    assert run.metrics["step"].tolist() == [3, 6, 8]
    assert run.metrics["train/loss"].dtype == float and np.isnan(run.metrics["test/loss"][0])
    assert (run.predictions.labels == run.predictions.predictions).sum() == first["correct"]
    assert (tmp_path / "a/report/index.html").exists()
    assert written(jaxcifar.evaluate(tmp_path / "a")) == first
    config.num_epochs = 2
    with pytest.raises(UserError, match="num_epochs: 1 -> 2"):
        jaxcifar.train(config, tmp_path / "a")
    longer = jaxcifar.train(config, tmp_path / "a", extend=True)
    assert longer["step"] == 16
    config.data.test_split = "train[:20]"
    part = jaxcifar.evaluate(tmp_path / "a", config=config, step=8)
    assert (part["examples"], part["step"]) == (20, 8)


@pytest.mark.usefixtures("nothing_is_taken")
def test_configs_are_found_without_a_package_of_the_same_name_being_hidden(monkeypatch, tmp_path):
    theirs = type(sys)("configs")
    monkeypatch.setitem(sys.modules, "configs", theirs)
    assert jaxcifar.get_config("quick").model.cnn.widths == (16, 32, 64)
    assert sys.modules["configs"] is theirs
    with pytest.raises(UserError, match="--config=fats is no Python file: did you mean fast"):
        jaxcifar.get_config("fats")
    (tmp_path / "none.py").touch()
    with pytest.raises(UserError, match=r"none.py has no function get_config\(\)"):
        jaxcifar.get_config(str(tmp_path / "none.py"))


def test_logits_and_features_are_those_of_the_module(trained_run):
    classifier = Classifier(trained_run)
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    logits, features = classifier.logits(images), classifier.features(images)
    np.testing.assert_allclose(nn.softmax(logits), classifier(images), atol=1e-6)
    facts = classifier._experiment.facts
    normalised = normalise(images / np.float32(255), np.float32(facts.mean), np.float32(facts.std))
    own = jax.jit(lambda variables, x: classifier.module.apply(variables, x, train=False))
    np.testing.assert_allclose(own(classifier.variables, normalised), logits, atol=1e-5)
    head = classifier.variables["params"]["Dense_0"]
    np.testing.assert_allclose(features @ head["kernel"] + head["bias"], logits, atol=1e-5)
    assert classifier.features(images[:0]).shape == (0, features.shape[1])


def test_a_run_is_read_without_jax(trained_run):
    program = (
        "import sys; from jaxcifar import Run, UserError; run = Run(sys.argv[1]);"
        "print(run.evaluation['accuracy'], len(run.metrics['step']), run.config['seed']);"
        "sys.exit('jax' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, str(trained_run)], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.split()) == 3


def test_what_is_wrong_is_raised_in_words(tmp_path):
    for call in (Run, Classifier, jaxcifar.evaluate):
        with pytest.raises(UserError, match="holds no|cannot be read"):
            call(tmp_path / "none")


@pytest.mark.usefixtures("nothing_is_drawn")
def test_the_page_on_python_does_what_it_says(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs/from-python.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 5
    blocks[0] = blocks[0].replace(
        "config.num_epochs = 2",
        "config.num_epochs = 2; config.data.shapes.train_examples = 256; config.precision = 'float32'",
    )
    names = {}
    for block in blocks:
        exec(compile(block, "docs/from-python.md", "exec"), names)
    assert names["evaluation"]["step"] == 8 and names["run"].metrics["step"].tolist() == [4, 8]
    expected = names["classifier"].logits(names["images"])
    np.testing.assert_allclose(names["logits"], expected, atol=1e-4)
    # The eight devices of the tests have saved the state, and one holds what was restored.
    assert len(names["state"]["params"]["Dense_0"]["kernel"].devices()) == 1

"""Prediction: the same answers as the evaluation's, for any image that can be read."""

import csv
import errno
import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from jaxcifar.data.images import fit
from jaxcifar.errors import UserError
from jaxcifar.evaluation.classifier import Classifier
from jaxcifar.predict import main

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def classifier(trained_run):
    return Classifier(trained_run)


@pytest.fixture(scope="module")
def test_images(tiny_flags):
    from configs import default
    from jaxcifar.data import datasets

    options = default.get_config().data.shapes.to_dict() | {"test_examples": 100}
    return datasets.shapes("test", **options).images


@pytest.fixture
def predict(trained_run, capsys):
    """Run the program on files, in this process on its eight devices: `predict(*arguments)`."""

    def run(*arguments):
        arguments = ["predict", f"--workdir={trained_run}", *map(str, arguments)]
        return subprocess.CompletedProcess(arguments, main(arguments), *capsys.readouterr())

    return run


@pytest.fixture
def predict_apart(trained_run):
    """Run the program in a process of its own, on one device: `predict_apart(*arguments, **environment)`."""

    def run(*arguments, stdout=subprocess.PIPE, **environment):
        environment = os.environ | {"XLA_FLAGS": "", "PYTHONPATH": str(ROOT)} | environment
        command = [sys.executable, "-m", "jaxcifar.predict", f"--workdir={trained_run}"]
        command += map(str, arguments)
        return subprocess.run(
            command, env=environment, stdout=stdout, stderr=subprocess.PIPE, text=True
        )

    return run


def test_what_only_the_optimiser_needs_is_not_held(classifier):
    assert not jax.tree.leaves(classifier._state.opt_state)


@pytest.mark.parametrize("program", ["predict", "predict_apart"])
def test_files_are_answered_as_the_evaluation_did(
    trained_run, test_images, tmp_path, program, request
):
    for i, image in enumerate(test_images[:10]):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    result = request.getfixturevalue(program)("--json", "--top_k=10", tmp_path)
    assert result.returncode == 0, result.stderr
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert [Path(answer["file"]).name for answer in answers] == [f"{i}.png" for i in range(10)]
    names = json.loads((trained_run / "evaluation.json").read_text())["class_names"]
    expected = np.load(trained_run / "predictions.npz")["probabilities"]
    for answer, probabilities in zip(answers, expected):
        found = {p["class"]: p["probability"] for p in answer["predictions"]}
        assert list(found.values()) == sorted(found.values(), reverse=True)
        np.testing.assert_allclose([found[name] for name in names], probabilities, atol=1e-5)


def test_answers_as_csv_are_those_as_json_whatever_the_files_are_called(
    predict, test_images, tmp_path
):
    for name in ("a, b.png", 'say "no".png', "new\nline.png"):
        Image.fromarray(test_images[0]).save(tmp_path / name)
    (tmp_path / "phone.heic").touch()
    said = predict("--json", "--top_k=10", tmp_path)
    assert said.returncode == 1
    heic = f"{tmp_path}/phone.heic cannot be read: Pillow does not read HEIC: convert it to JPEG or PNG"
    assert said.stderr == f"error: {heic}\n"
    as_json = [json.loads(line) for line in said.stdout.splitlines()]
    as_csv = list(csv.DictReader(io.StringIO(predict("--csv", tmp_path).stdout)))
    assert len(as_csv) == 3
    for one, line in zip(as_json, as_csv, strict=True):
        assert (line.pop("file"), line.pop("prediction")) == (one["file"], one["prediction"])
        assert one["prediction"] == one["predictions"][0]["class"]
        found = {name: float(share) for name, share in line.items()}
        assert found == pytest.approx(
            {p["class"]: p["probability"] for p in one["predictions"]}, 1e-5
        )


def test_arrays_are_answered_as_the_evaluation_did(classifier, trained_run, test_images):
    saved = np.load(trained_run / "predictions.npz")
    np.testing.assert_allclose(classifier(test_images), saved["probabilities"], atol=1e-5)
    assert classifier([]).shape == (0, 10)
    many = np.concatenate([test_images] * 6)[:513]
    np.testing.assert_allclose(classifier(many)[512], saved["probabilities"][12], atol=1e-5)


@pytest.mark.parametrize("images", [np.zeros((32, 32, 3), np.uint8), Image.new("RGB", (9, 9))])
def test_a_single_image_is_refused_not_taken_for_many(classifier, images):
    with pytest.raises(TypeError, match="images are several"):
        classifier(images)


@pytest.mark.parametrize(
    "image, words",
    [("a.png", "not paths"), (np.zeros((8, 8, 3)), "float64"), (np.zeros(8, np.uint8), r"\[8\]")],
)
def test_what_is_no_image_is_named(classifier, image, words):
    with pytest.raises(TypeError, match=words):
        classifier([image])


def test_images_of_any_kind_are_answered(classifier, test_images):
    image = Image.fromarray(test_images[0])
    grey16 = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    kinds = [image, image.resize((320, 320)), image.convert("L"), image.convert("RGBA")]
    kinds += [image.convert("P"), image.convert("CMYK"), image.convert("1"), grey16]
    grey = Image.fromarray(np.asarray(image.convert("L")) / np.float32(255))
    kinds += [grey, image.convert("LA"), image.resize((1, 1)), image.resize((7, 300))]
    answers = classifier(kinds)
    np.testing.assert_allclose(answers.sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(answers[3], answers[0], atol=1e-6)
    np.testing.assert_allclose(answers[7:9], answers[[2, 2]], atol=1e-6)


def test_an_image_that_pillow_opens_and_cannot_decode_is_named(classifier, test_images, tmp_path):
    whole = io.BytesIO()
    Image.fromarray(test_images[0]).resize((200, 200)).save(whole, "jpeg")
    image = Image.open(io.BytesIO(whole.getvalue()[:-300]))
    with pytest.raises(UserError, match="image 1 cannot be read: image file is truncated"):
        classifier([test_images[0], image])


@pytest.mark.parametrize("shape", [(2, 0, 32, 3), (2, 32, 0, 3)])
def test_an_image_without_pixels_is_named(classifier, shape):
    with pytest.raises(UserError, match="image 0 cannot be read: it has no pixels"):
        classifier(np.zeros(shape, np.uint8))
    assert classifier(np.zeros((0, *shape[1:]), np.uint8)).shape == (0, 10)


def test_an_image_of_another_size_covers_the_shape_and_is_cropped_around_its_centre():
    wide = Image.new("RGB", (64, 32))
    wide.paste((255, 255, 255), (16, 0, 48, 32))
    assert (fit(wide, (32, 32, 3)) == 255).all()
    assert fit(wide, (8, 8, 1)).shape == (8, 8, 1)


def test_what_only_looks_like_an_image_is_left_out_of_a_directory_and_refused_by_name(
    predict, test_images, tmp_path
):
    Image.fromarray(test_images[0]).save(tmp_path / "a.png")
    Image.fromarray(test_images[0]).save(tmp_path / "._a.png")
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    result = predict(tmp_path)
    assert result.returncode == 0 and result.stderr == ""
    assert [line.split()[0] for line in result.stdout.splitlines()] == [str(tmp_path / "a.png")]
    (tmp_path / "broken.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    result = predict(tmp_path, tmp_path / "pipe.png", "/dev/zero", tmp_path / "empty")
    assert result.returncode == 1
    assert result.stderr.splitlines() == [
        f"error: {tmp_path}/broken.png does not exist",
        f"error: {tmp_path}/pipe.png cannot be read: it is no regular file",
        "error: /dev/zero cannot be read: it is no regular file",
        f"error: {tmp_path}/empty holds no image",
    ]


def test_files_that_cannot_be_read_are_named_and_the_others_answered(
    predict, test_images, tmp_path
):
    Image.fromarray(test_images[0]).save(tmp_path / "good.png")
    Image.fromarray(test_images[0]).resize((300, 300)).save(tmp_path / "whole.jpg")
    cut = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(cut[: len(cut) // 2])
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty.png").touch()
    (tmp_path / "page.pdf").touch()  # of a kind that Pillow only writes
    Image.new("1", (20_000, 20_000)).save(tmp_path / "huge.png")
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    result = predict(tmp_path, tmp_path / "missing.png", tmp_path / "good.png")
    assert result.returncode == 1
    assert [Path(line.split()[0]).name for line in result.stdout.splitlines()] == [
        "dot.png",
        "good.png",
        "whole.jpg",
        "good.png",
    ]
    errors = "\n".join(sorted(result.stderr.splitlines()))
    for words in (
        r"cut.jpg cannot be read: image file is truncated",
        "empty.png cannot be read: no image that Pillow knows",
        "huge.png cannot be read: it is too large: at most 89,478,485 pixels",
        "missing.png does not exist",
        "text.png cannot be read: no image that Pillow knows",
    ):
        assert words in errors
    assert len(errors.splitlines()) == 5 and "Traceback" not in errors


@pytest.mark.parametrize(
    "arguments, words",
    [
        ([], "no image is named"),
        (["--top_k=0", "a.png"], "--top_k"),
        (["--workdir=nowhere", "a.png"], "--workdir=nowhere holds no checkpoint"),
        (["--step=7", "a.png"], "--step=7: .* holds checkpoints of the steps 16, 24"),
        (["--tpo_k=2", "a.png"], "there is no flag --tpo_k: did you mean --top_k"),
        (["."], "holds no image"),
        (["--json", "--csv", "a.png"], "--json and --csv exclude each other"),
        (["--csv=a.csv", "a.png"], "--csv=a.csv: --csv is a switch, and takes no value"),
        (["--threshold=0.5", "a.png"], "--threshold=0.5 is of two classes, and the run has 10"),
    ],
)
def test_a_mistake_is_one_line(predict, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    result = predict(*arguments)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert re.search(words, line)


def test_a_platform_that_is_not_there_is_an_error(predict_apart, tmp_path):
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    result = predict_apart(tmp_path / "a.png", JAX_PLATFORMS="tpu")
    assert result.returncode == 2, result.stderr
    assert result.stderr.splitlines()[-1].startswith("error: JAX_PLATFORMS=tpu gives no device")
    assert "Traceback" not in result.stderr


def test_a_closed_pipe_ends_prediction_without_a_word(predict_apart, test_images, tmp_path):
    for i in range(300):
        Image.fromarray(test_images[0]).save(tmp_path / f"{i}.png")
    reader, writer = os.pipe()
    os.close(reader)
    result = predict_apart(tmp_path, stdout=writer)
    os.close(writer)
    assert result.returncode == -signal.SIGPIPE and result.stderr == ""


class Full(io.StringIO):
    """A stream to a full disk."""

    def flush(self):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_directory_that_can_be_listed_and_not_entered_is_named_file_by_file(
    predict, test_images, tmp_path, monkeypatch
):
    stat = os.stat

    def denied(path, **options):
        if str(path).endswith(".png"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return stat(path, **options)

    for name in "ab":
        Image.fromarray(test_images[0]).save(tmp_path / f"{name}.png")
    monkeypatch.setattr("os.stat", denied)
    result = predict(tmp_path)
    assert result.returncode == 1
    assert result.stderr.splitlines() == [
        f"error: {tmp_path}/{name}.png cannot be read: Permission denied" for name in "ab"
    ]


def test_answers_to_a_closed_output_are_an_error(predict_apart, test_images, tmp_path):
    Image.fromarray(test_images[0]).save(tmp_path / "a.png")
    with Path(
        "/dev/null"
    ).open() as unwritable:  # what the program finds in place of a closed output
        result = predict_apart(tmp_path / "a.png", stdout=unwritable)
    assert result.returncode == 2
    assert result.stderr.startswith("error: the answers cannot be written (Bad file descriptor)")


def test_answers_that_cannot_be_written_are_an_error(predict, test_images, tmp_path, monkeypatch):
    Image.fromarray(test_images[0]).save(tmp_path / "a.png")
    monkeypatch.setattr("sys.stdout", Full())
    result = predict(tmp_path / "a.png")
    assert result.returncode == 2
    assert result.stderr.startswith(
        "error: the answers cannot be written (No space left on device)"
    )


def test_the_package_exports_the_classifier_and_imports_jax_for_it_alone():
    program = "import sys, jaxcifar; assert 'jax' not in sys.modules; jaxcifar.Classifier"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0

"""Says what is on images, with a trained model.

jaxcifar predict --workdir=DIR [--json | --csv] [--top_k=K] [--threshold=P] IMAGE_OR_DIRECTORY ...

From Python: `from jaxcifar import Classifier; Classifier("runs/default")(images)`.
"""

import contextlib
import csv
import io
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from jaxcifar.host import output, terminal, waiting
from jaxcifar.host.signals import Stopping

if __name__ == "__main__":
    terminal.prepare()
    terminal.drop_what_cannot_be_written("stderr")
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # a closed pipe ends the program, without a word
    Stopping()  # before the imports that take a while

import numpy as np
from absl import flags

from jaxcifar.config.flag_help import definers, explain_error, help_of
from jaxcifar.data.images import find_images, read_image
from jaxcifar.errors import UserError
from jaxcifar.evaluation.classifier import MOST_AT_ONCE, Classifier
from jaxcifar.host.files import expanded


def _parse(argv: list[str]) -> tuple[flags.FlagValues, list[Path]]:
    values = flags.FlagValues()
    text, number, switch = definers(values)
    text("workdir", None, "directory of the run")
    number("step", None, "of the checkpoint; else the newest")
    number("top_k", 3, "how many classes to name, the likeliest first", lower_bound=1)
    text("convolutions", None, "on a CPU: auto, onednn or xla; else what the run's config says")
    switch("json", False, "print one JSON object an image")
    switch("csv", False, "print CSV: a line an image, with the probabilities of all classes")
    text(
        "threshold",
        None,
        "of two classes, name the one that is rarer in the training split from this probability on; "
        "validation: the threshold that the run's validation split has chosen",
    )
    switch("help", False, "show this", short_name="h")
    try:
        paths = values(argv)[1:]
    except flags.Error as error:
        raise explain_error(error, values) from error
    if not values.help:
        if values.workdir is None:
            raise UserError("--workdir is missing: the directory of a run, such as runs/default")
        if not paths:
            raise UserError("no image is named: name files, or directories that hold images")
        if values.json and values.csv:
            raise UserError("--json and --csv exclude each other: leave one of them out")
    return values, [Path(path) for path in paths]


def main(argv: list[str]) -> int:
    """Print predictions for every readable image, and return the exit code."""
    try:
        values, paths = _parse(argv)
        if values.help:
            print(f"{__doc__}\n{help_of(values)}", end="")
            return 0
        if output.on_terminal():  # standard output is for the answers
            waiting.show("restoring the network")
        classifier = Classifier(values.workdir, values.step, convolutions=values.convolutions)
        threshold = _threshold(values.threshold, classifier, Path(values.workdir))
        unread = _answer_all(classifier, list(find_images(paths)), values, threshold)
    except UserError as error:
        waiting.show("")
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    return 1 if unread else 0


def _threshold(given: str | None, classifier: Classifier, workdir: Path) -> float | None:
    """Return the threshold that the user names, as a number or as `validation`."""
    if given is None:
        return None
    if (count := len(classifier.class_names)) != 2:
        raise UserError(
            f"--threshold={given} is of two classes, and the run has {count}: leave it out"
        )
    if given == "validation":
        evaluation = expanded(workdir) / "evaluation.json"
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            found = json.loads(evaluation.read_text())
            threshold = float(found["two_classes"]["at_threshold"]["threshold"])
            if found["step"] == classifier.step:
                return threshold
            raise UserError(
                f"--threshold=validation: the threshold in {evaluation} is of the checkpoint of step "
                f"{found['step']}, and that of step {classifier.step} predicts: evaluate with "
                f"--workdir={workdir} --step={classifier.step} first, or name a number"
            )
        raise UserError(
            f"--threshold=validation: {workdir}/evaluation.json holds no threshold: name a number, or train "
            "with a validation split"
        )
    try:
        threshold = float(given)
    except ValueError:
        threshold = -1.0
    if not 0 <= threshold <= 1:
        raise UserError(
            f"--threshold={given}: it must be a probability from 0 to 1, as 0.25, or validation"
        )
    return threshold


def _answer_all(
    classifier: Classifier, files: list[Path], values: flags.FlagValues, threshold: float | None
) -> int:
    """Print the answers, and return how many files could not be read."""
    unread = 0
    width = max(map(len, map(str, files)))
    if values.csv:
        _write(_csv_line("file", "prediction", *classifier.class_names))
    for start in range(0, len(files), MOST_AT_ONCE):
        read = []
        for path in files[start : start + MOST_AT_ONCE]:
            try:
                read.append((path, read_image(path, classifier.image_shape)))
            except UserError as error:
                waiting.show("")
                print("error:", error, file=sys.stderr)
                unread += 1
        answers = classifier([image for _, image in read])
        waiting.show("")
        for (path, _), probabilities in zip(read, answers, strict=True):
            prediction = _prediction(classifier, probabilities, threshold)
            best = np.argsort(-probabilities, kind="stable")[: values.top_k]
            named = [(classifier.class_names[i], float(probabilities[i])) for i in best]
            if values.json:
                answer = [{"class": name, "probability": share} for name, share in named]
                _write(
                    json.dumps({"file": str(path), "prediction": prediction, "predictions": answer})
                )
            elif values.csv:
                _write(_csv_line(path, prediction, *(f"{share:.6g}" for share in probabilities)))
            else:
                shares = "  ".join(f"{name} {share:.1%}" for name, share in named)
                said = "" if threshold is None else f"{prediction}:  "
                _write(f"{path!s:{width}}  {said}{shares}")
    _write("", end="", flush=True)
    return unread


def _prediction(classifier: Classifier, probabilities: np.ndarray, threshold: float | None) -> str:
    """Return the likeliest class; with a threshold, the one of two classes that it selects."""
    index = int(probabilities.argmax())
    if threshold is not None:
        rarer = classifier.rarer_class
        index = rarer if probabilities[rarer] >= threshold else 1 - rarer
    return classifier.class_names[index]


def _csv_line(*cells: Any) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue().removesuffix("\n")


def _write(line: str, **options: Any) -> None:
    try:
        print(line, **options)
    except OSError as error:
        raise UserError(
            f"the answers cannot be written ({error.strerror}): make room, or write them elsewhere"
        ) from error


if __name__ == "__main__":
    code = main(sys.argv)
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # at once: the interpreter would retry writes that have failed

"""Says what is on images, with a trained model.

python -m jaxcifar.predict --workdir=DIR [--json | --csv] [--top_k=K] [--threshold=P] IMAGE_OR_DIRECTORY ...

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

from jaxcifar.host import terminal, waiting
from jaxcifar.host.signals import Stopping

if __name__ == "__main__":
    terminal.prepare()
    terminal.drop_what_cannot_be_written("stderr")
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # a closed pipe ends the program, without a word
    Stopping()  # before the imports that take a while

import numpy as np
from absl import flags

from jaxcifar.config.command_line import definers
from jaxcifar.data.images import find_images, read_image
from jaxcifar.errors import UserError, first_line
from jaxcifar.evaluation.classifier import MOST_AT_ONCE, Classifier


def _parse(argv: list[str]) -> tuple[flags.FlagValues, list[Path]]:
    values = flags.FlagValues()
    text, number, switch = definers(values)
    text("workdir", None, "directory of the run")
    number("step", None, "of the checkpoint; else the newest")
    number("top_k", 3, "how many classes to name, the likeliest first", lower_bound=1)
    text("convolutions", None, "on a CPU: auto, onednn or xla; else what the run's config says")
    switch("json", False, "print one JSON object an image")
    switch("csv", False, "print CSV: the columns file, class and probability, top_k lines an image")
    threshold = "of two classes, name the rarer one of the training split from this probability on"
    flags.DEFINE_float("threshold", None, threshold, 0, 1, flag_values=values)
    switch("help", False, "show this", short_name="h")
    try:
        paths = values(argv)[1:]
    except flags.Error as error:
        raise UserError(f"{first_line(error)} (--help lists the flags)") from error
    if not values.help:
        if values.workdir is None:
            raise UserError("--workdir is missing: the directory of a run, such as runs/default")
        if not paths:
            raise UserError("no image is named: name files, or directories that hold images")
        if values.json and values.csv:
            raise UserError("--json and --csv exclude each other: leave one of them out")
    return values, [Path(path) for path in paths]


def main(argv: list[str]) -> int:
    """Answer for every image that can be read, and return the exit code."""
    try:
        values, paths = _parse(argv)
        if values.help:
            print(f"{__doc__}{values.get_help(include_special_flags=False)}")
            return 0
        if sys.stderr.isatty():  # standard output is for the answers
            waiting.show("restoring the network")
        classifier = Classifier(values.workdir, values.step, convolutions=values.convolutions)
        if values.threshold is not None and len(classifier.class_names) != 2:
            raise UserError(
                f"--threshold={values.threshold} is of two classes, and the run has "
                f"{len(classifier.class_names)}: leave it out"
            )
        unread = _answer_all(classifier, list(find_images(paths)), values)
    except UserError as error:
        waiting.show("")
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    return 1 if unread else 0


def _answer_all(classifier: Classifier, files: list[Path], values: flags.FlagValues) -> int:
    """Print the answers, and return how many files could not be read."""
    unread = 0
    width = max(map(len, map(str, files)))
    if values.csv:
        _write("file,class,probability")
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
            best = _ranking(classifier, probabilities, values.threshold)[: values.top_k]
            named = [(classifier.class_names[i], float(probabilities[i])) for i in best]
            if values.json:
                answer = [{"class": name, "probability": share} for name, share in named]
                _write(json.dumps({"file": str(path), "predictions": answer}))
            elif values.csv:
                lines = io.StringIO()
                csv.writer(lines, lineterminator="\n").writerows((path, *one) for one in named)
                _write(lines.getvalue(), end="")
            else:
                shares = "  ".join(f"{name} {share:.1%}" for name, share in named)
                _write(f"{path!s:{width}}  {shares}")
    _write("", end="", flush=True)
    return unread


def _ranking(
    classifier: Classifier, probabilities: np.ndarray, threshold: float | None
) -> list[int]:
    """Return the classes, the prediction first: the likeliest, or what the threshold says of two."""
    if threshold is None:
        return np.argsort(-probabilities, kind="stable").tolist()
    rarer = classifier.rarer_class
    return [rarer, 1 - rarer] if probabilities[rarer] >= threshold else [1 - rarer, rarer]


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
    os._exit(code)  # at once: the interpreter would try again to write what cannot be written

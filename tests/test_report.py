"""The report: what it shows, what it escapes, and that it asks for nothing outside itself."""

import html
import json
import re
import shutil
import struct
import subprocess
import sys
import time
import types

import numpy as np
import pytest
from PIL import Image
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

import jaxcifar
from jaxcifar.errors import UserError
from jaxcifar.evaluation import difference
from jaxcifar.host import files
from jaxcifar.report import (
    comparison,
    facts_section,
    results_section,
    run_figures,
    run_report,
    seeds_section,
)
from jaxcifar.report.workdir_files import Run
from tests.conftest import ROOT


@pytest.fixture
def make_run(tmp_path):
    """Return `make(name, names, …)`, which writes the files of a run on classes of these names, without one."""
    from configs import default
    from jaxcifar.data.datasets import Dataset
    from jaxcifar.evaluation.evaluation_files import write_evaluation
    from jaxcifar.host.files import write_arrays, write_json
    from jaxcifar.step.counts import Counts
    from jaxcifar.step.evaluation_step import Answers

    def make(
        name="run", names=tuple("abcdefghij"), evaluated=True, seed=0, examples=None, labels=None
    ):
        workdir = tmp_path / name
        workdir.mkdir(exist_ok=True)
        config = default.get_config()
        config.seed, config.num_epochs = seed, 20
        write_json(workdir / "config.json", config.to_dict())
        records = [
            {
                "step": step,
                "epoch": step / 10,
                "learning_rate": 0.1 / step,
                "images_per_second": 1000.0,
                "train/loss": 2 / step,
                "train/accuracy": 1 - 0.9 / step,
            }
            | ({"test/loss": 3 / step, "test/accuracy": 1 - 1 / step} if step % 10 == 0 else {})
            for step in range(1, 31)
        ]
        (workdir / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
        if not evaluated:
            return workdir
        classes = len(names)
        if labels is None:
            labels = np.arange(examples or 20 * classes) % classes
        labels, examples = np.array(labels, np.int32), len(labels)
        rng = np.random.default_rng(seed)
        scores = np.exp(rng.normal(size=(examples, classes)) + 3 * np.eye(classes)[labels])
        probabilities = (scores / scores.sum(1, keepdims=True)).astype(np.float32)
        losses = -np.log(probabilities[np.arange(examples), labels])
        mask = np.ones(examples, bool)
        images = rng.integers(0, 256, (examples, 32, 32, 3), np.uint8)
        answers = Answers(Counts.from_scores(probabilities, losses, labels, mask), probabilities)
        import jax

        write_evaluation(
            workdir,
            Dataset(images, labels, names, name="made_up", split="test"),
            jax.device_get(answers),
            augmented={},
            step=30,
        )
        augmented = rng.integers(0, 256, (4, 8, 32, 32, 3), np.uint8)
        write_arrays(workdir / "augmentation.npz", images=images[:8], augmented=augmented)
        return workdir

    return make


def text_of(page):
    """Return the words of a page, without its tags."""
    return re.sub(r"<[^>]*>", " ", page.read_text())


def test_the_report_of_a_real_run_says_what_the_evaluation_does(trained_run):
    evaluation = json.loads((trained_run / "evaluation.json").read_text())
    page = trained_run / "report/index.html"
    words = text_of(page)
    assert f"{evaluation['accuracy']:.2%}" in words and "95% interval" in words
    assert f"{evaluation['correct']:,} of {evaluation['examples']:,} examples" in words
    for title in ("Learning", "Confusion matrix", "most confident mistakes", "augmentation does"):
        assert title in words
    assert "parameters" in words and "versions" in words and "augmentation.cutout.size" in words
    assert page.read_text().count("data:image/png") > 40
    for name in ("accuracy", "loss", "learning_rate", "confusion", "classes", "reliability"):
        with Image.open(trained_run / f"report/{name}.png") as image:
            assert min(image.size) > 400


def test_the_report_is_made_again_without_jax_or_the_data(trained_run, tmp_path):
    shutil.copytree(trained_run, tmp_path / "run")
    shutil.rmtree(tmp_path / "run/report")
    shutil.rmtree(tmp_path / "run/checkpoints")
    program = "import sys; from jaxcifar import main; sys.exit(main.main(sys.argv) or 'jax' in sys.modules)"
    command = [sys.executable, "-c", program, "--mode=report", f"--workdir={tmp_path / 'run'}"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    again = tmp_path / "run/report/index.html"
    assert str(again) in result.stdout
    first, second = (
        text_of(page).replace(trained_run.name, "run")
        for page in (trained_run / "report/index.html", again)
    )
    assert first == second


def test_a_run_in_progress_is_reported_as_far_as_it_goes(make_run):
    workdir = make_run(evaluated=False)
    words = text_of(run_report.write_report(workdir))
    assert "Not evaluated yet: 3.0 of 20 epochs" in words and "Accuracy by epoch" in words
    assert "Confusion" not in words and "mistakes" not in words
    (workdir / "metrics.jsonl").unlink()
    assert "0.0 of 20 epochs" in text_of(run_report.write_report(workdir))


def test_class_names_are_escaped_everywhere(make_run):
    names = ("<script>alert(1)</script>", "a & b", "$x^2$", '"quoted"', "snow☃", "e")
    page = run_report.write_report(make_run(names=names)).read_text()
    assert "<script" not in page and "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "a &amp; b" in page and "$x^2$" in page and "snow☃" in page


def test_a_report_of_100_classes_names_them_all_and_keeps_small(make_run):
    names = tuple(f"class number {i}" for i in range(100))
    page = run_report.write_report(make_run(names=names))
    words = text_of(page)
    assert all(words.count(name) >= 3 for name in names)
    assert page.stat().st_size < 3e6


def test_a_report_of_1000_classes_takes_under_300_mb_and_20_seconds_and_shows_what_can_be_read(
    make_run,
):
    names = tuple(f"class number {i}" for i in range(1000))
    workdir = make_run(names=names, examples=10_000)
    assert (workdir / "evaluation.json").stat().st_size < 1e6
    start = time.monotonic()
    program = (
        "import sys; from jaxcifar.report.run_report import main; code = main(sys.argv[1:]);"
        "print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0]); sys.exit(code)"
    )
    command = [sys.executable, "-c", program, str(workdir)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0 and time.monotonic() - start < 20, result.stderr
    assert int(result.stdout.split()[-1]) < 300e3  # kB
    page = workdir / "report/index.html"
    words = text_of(page)
    assert page.stat().st_size < 3e6 and "could not be shown" not in words
    assert "5 × 5 classes" in words and "The scores of 1,000 classes" in words
    assert all(name in words for name in names)
    pair = json.loads((workdir / "evaluation.json").read_text())["confused_pairs"][0]["classes"]
    assert " / ".join(pair) in words
    for file in (workdir / "report").glob("*.png"):
        with Image.open(file) as image:
            assert max(image.size) < 3000


@pytest.mark.parametrize("classes", [1, 101])
def test_a_report_of_any_number_of_classes_is_whole(make_run, classes):
    names = tuple(f"{i}" * 60 for i in range(classes))
    words = text_of(run_report.write_report(make_run(names=names, examples=300)))
    assert "could not be shown" not in words and "Confusion matrix" in words


def test_a_part_that_fails_costs_that_part_alone_and_says_so(make_run, monkeypatch, capsys):
    def fail(*args):
        raise MemoryError("too many classes")

    monkeypatch.setattr("jaxcifar.report.plots.class_bars", fail)
    monkeypatch.setattr("jaxcifar.report.image_sections.mistakes", fail)
    workdir = make_run()
    page = run_report.write_report(workdir)
    words = text_of(page)
    for part in ("Scores by class", "Mistakes"):
        assert f"{part} could not be shown: MemoryError: too many classes" in words
    assert words.count("could not be shown") == 2
    assert "Confusion matrix" in words and "accuracy" in words and "The run" in words
    assert (workdir / "report/confusion.png").exists()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and all(line.startswith("warning: the part ") for line in lines)


def test_a_report_of_many_classes_by_an_earlier_version_is_of_limited_pixels_too(make_run):
    names = tuple(f"class number {i}" for i in range(250))
    workdir = make_run(names=names, examples=500)
    matrix = np.eye(250, dtype=int).tolist()  # that version kept it
    change_json(workdir / "evaluation.json", confusion_matrix=matrix)
    run_report.write_report(workdir)
    with Image.open(workdir / "report/confusion.png") as image:
        assert max(image.size) < 1500


def test_a_short_record_at_an_epochs_end_is_averaged_with_the_one_before():
    found = (50, 4.0), (100, 2.0), (106, 1.0), (156, 0.9), (166, 0.8), (212, 0.5)
    records = [{"step": s, "epoch": s / 106, "train/loss": loss} for s, loss in found]
    _, epochs, losses = run_figures._training(types.SimpleNamespace(records=records), "loss")
    assert epochs == [50 / 106, 1, 156 / 106, 166 / 106, 2]
    assert losses == [4.0, (2.0 * 50 + 1.0 * 6) / 56, 0.9, 0.8, 0.5]


def test_the_schedule_is_drawn_whole_however_few_its_records(make_run, trained_run):
    run = Run(trained_run)
    epochs, rates = run.schedule
    assert len(epochs) == 24 > len(run.records) and epochs[-1] == 3
    recorded = {record["step"]: record["learning_rate"] for record in run.records}
    assert all(rates[step - 1] == pytest.approx(rate) for step, rate in recorded.items())
    assert np.argmax(rates) == 7  # at the end of an epoch of warm-up
    earlier = Run(make_run())
    assert earlier.schedule == earlier.series("learning_rate")


def test_a_run_at_chance_is_said_not_to_have_learned(make_run):
    headline = lambda workdir: results_section.headline(Run(workdir))
    learned = "This does not show that the network has learned"
    assert learned not in headline(make_run())
    assert learned not in headline(make_run(names=("a",)))
    workdir = make_run(names=("a", "b"), examples=40)
    change_json(workdir / "evaluation.json", accuracy=0.5, accuracy_interval=[0.35, 0.65])
    assert learned in headline(workdir) and "accuracy of 50.00%" in headline(workdir)


def test_an_evaluation_that_was_cut_off_is_not_mixed_with_the_one_before(make_run, monkeypatch):
    workdir = make_run()
    assert "most confident mistakes" in text_of(run_report.write_report(workdir))

    def write_the_first(path, **arrays):
        if path.name != "predictions.npz":
            raise OSError("no space left")
        files.write_arrays(path, **arrays)

    monkeypatch.setattr("jaxcifar.evaluation.evaluation_files.write_arrays", write_the_first)
    with pytest.raises(OSError, match="no space left"):
        make_run(seed=1)
    words = text_of(run_report.write_report(workdir))
    assert "Not evaluated yet" in words and "most confident mistakes" not in words


def test_runs_side_by_side_show_results_and_only_what_differs(make_run, tmp_path):
    runs = [make_run("one", seed=1), make_run("two", seed=2), make_run("three", evaluated=False)]
    page = comparison.write_comparison(runs, tmp_path / "out/compared.html")
    words = text_of(page)
    assert "could not be shown" not in words
    assert all(run.name in words for run in runs) and "Accuracy on the test split" in words
    differing = words[words.index("What their configs differ in") :]
    assert "seed" in differing and "num_epochs" not in differing
    for run in runs[:2]:
        assert f"{json.loads((run / 'evaluation.json').read_text())['accuracy']:.2%}" in words


def test_what_is_no_run_is_left_out_of_a_comparison_and_named(make_run, tmp_path, capsys):
    runs = [make_run("one"), make_run("two", seed=1)]
    page = tmp_path / "a.html"
    (tmp_path / "notes.log").touch()
    assert run_report.main([*map(str, runs), f"{tmp_path}/notes.log", f"--out={page}"]) == 0
    assert f"warning: {tmp_path}/notes.log holds no run, and is left out" in capsys.readouterr().err
    assert run_report.main([str(runs[0]), f"{tmp_path}/notes.log", f"--out={page}"]) == 2
    assert "notes.log holds no run to report on" in capsys.readouterr().err


def change_json(file, **changes):
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_tensorboard_is_shown_the_config_and_the_confusion_matrix(make_run):
    workdir = make_run()
    for _ in range(2):
        run_report.write_report(workdir)
    (file,) = (workdir / "tensorboard").glob("summary.*")
    data, values = file.read_bytes(), {}
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        event, data = Event.FromString(data[12 : 12 + length]), data[16 + length :]
        values |= {value.tag: value for value in event.summary.value}
    png = (workdir / "report/confusion.png").read_bytes()
    assert values["confusion matrix"].image.encoded_image_string == png
    start = HParamsPluginData.FromString(
        values["_hparams_/session_start_info"].metadata.plugin_data.content
    ).session_start_info.hparams
    assert start["batch_size"].number_value == 128
    assert start["model.cnn.widths"].string_value == "[64, 128, 256, 256]"


def test_the_page_says_first_what_came_out_and_shows_what_is_right(make_run):
    workdir = make_run(names=("cat", "dog", "<fox>"), examples=100)
    page = run_report.write_report(workdir).read_text()
    evaluation = json.loads((workdir / "evaluation.json").read_text())
    accuracy = f"names the right class for <b>{evaluation['accuracy']:.1%}</b> of 100 images"
    assert accuracy in page and page.index(accuracy) < page.index('class="cards"')
    a, b = (html.escape(name) for name in evaluation["confused_pairs"][0]["classes"])
    assert f"It takes {a} and {b} for one another most often" in page
    assert page.count("taken for what it is") == 2 * 3
    assert re.search(r"On: alternating_flip, .*crop \(padding 3\)", page)
    # An earlier version kept the images of the mistakes alone.
    with np.load(workdir / "examples.npz") as saved:
        wrong = ~Run(workdir).predictions.right[saved["index"]]
        files.write_arrays(
            workdir / "examples.npz", images=saved["images"][wrong], index=saved["index"][wrong]
        )
    assert "taken for what it is" not in run_report.write_report(workdir).read_text()


def colours(page):
    """Return the colours of the lines of a page's first plot."""
    plot = page.read_text().partition("<svg")[2].partition("</svg>")[0]
    return set(re.findall(r"stroke: (#[0-9a-f]{6}); stroke-width: 1.5", plot))


def with_batch_size(workdir, batch_size):
    change_json(workdir / "config.json", batch_size=batch_size)
    return workdir


def test_runs_under_several_seeds_are_one_row_and_recipes_are_compared_over_seeds(
    make_run, tmp_path
):
    a = [make_run(f"a{seed}", seed=seed) for seed in range(3)]
    page = comparison.write_comparison(a, tmp_path / "a.html")
    accuracies = [json.loads((run / "evaluation.json").read_text())["accuracy"] for run in a]
    row = (
        f"a0, a1, a2</th><td>3</td><td>{np.mean(accuracies):.2%} ± {np.std(accuracies, ddof=1):.2%}"
    )
    assert row in page.read_text() and "more accuracy than" not in page.read_text()
    b = [with_batch_size(make_run(f"b{seed}", seed=seed + 9), 64) for seed in range(3)]
    words = text_of(comparison.write_comparison([*a, *b], tmp_path / "ab.html"))
    others = [json.loads((run / "evaluation.json").read_text())["accuracy"] for run in b]
    apart = (np.mean(accuracies) - np.mean(others)) * 100
    better, worse = ("a", "b") if apart > 0 else ("b", "a")
    named = [", ".join(f"{recipe}{seed}" for seed in range(3)) for recipe in (better, worse)]
    assert f"{named[0]} has  {abs(apart):.2f} points  more accuracy than {named[1]}" in words
    assert "Welch's test over 3 and 3 runs" in words and "could not be shown" not in words
    assert "The same in all:" in words and "examples 200" in words
    assert [len(colours(tmp_path / name)) for name in ("a.html", "ab.html")] == [3, 2]
    c = [with_batch_size(make_run(f"c{seed}", seed=seed + 20), 32) for seed in range(2)]
    settings = json.loads((c[0] / "config.json").read_text())
    settings["logging"]["every_steps"] = 7  # which does not make another config
    (c[0] / "config.json").write_text(json.dumps(settings))
    words = text_of(comparison.write_comparison([*a, *b, *c], tmp_path / "abc.html"))
    assert words.count("more accuracy than") == 2 and "Welch's test over 3 and 2 runs" in words
    assert "Of 2 comparisons each shows a difference only if p is below 5% / 2" in words
    with pytest.raises(UserError, match="a run is named twice"):
        comparison.write_comparison([a[0], a[0]], tmp_path / "a.html")


def test_results_on_unequal_classes_are_told_and_compared_by_the_balanced_accuracy(
    make_run, tmp_path
):
    names, runs = ("ripe", "unripe", "rotten"), []
    for seed, label in enumerate((40, 45)):
        workdir = make_run(f"run{seed}", names, seed=seed, labels=[0] * label + [1] * 50 + [2] * 8)
        runs.append(with_batch_size(workdir, 64 * (seed + 1)))
    evaluation = Run(runs[0]).evaluation
    assert evaluation["unequal_classes"]
    rotten = evaluation["per_class"][2]
    hits = round(rotten["recall"] * 8)
    alarms = round(hits / rotten["precision"]) - hits
    found = f"{hits} of 8, with {alarms} false alarm{'' if alarms == 1 else 's'}"
    words = text_of(run_report.write_report(runs[0]))
    lead = words[words.index("The balanced accuracy, in which") :]
    assert f"Of the rarest class, rotten, the network finds  {found}" in lead
    words = text_of(comparison.write_comparison(runs, tmp_path / "a.html"))
    assert f"{found} (rotten)" in words and "could not be shown" not in words
    assert "more balanced accuracy" not in words  # of other examples
    make_run("run1", names, seed=1, labels=[0] * 40 + [1] * 50 + [2] * 8)
    with_batch_size(runs[1], 128)
    words = text_of(comparison.write_comparison(runs, tmp_path / "a.html"))
    values = [Run(run).evaluation["balanced_accuracy"] for run in runs]
    better = int(values[1] > values[0])
    apart = f"{abs(values[0] - values[1]) * 100:.2f} points"
    assert f"run{better} has  {apart}  more balanced accuracy than run{1 - better}" in words
    assert "a test by class on the same examples" in words


def test_the_validation_accuracy_beside_a_result_is_that_of_the_evaluated_step(make_run):
    workdir = make_run()
    records = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    for record in records:
        record["validation/accuracy"] = record["step"] / 100
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    assert seeds_section.validation_accuracy(Run(workdir)) == 0.3
    change_json(workdir / "evaluation.json", step=20)
    assert seeds_section.validation_accuracy(Run(workdir)) == 0.2
    assert "The run has gone on to step 30 since" in results_section.headline(Run(workdir))


def test_a_repeated_seed_is_not_counted_and_different_code_of_one_config_is_told(
    make_run, tmp_path
):
    runs = [make_run(f"a{seed}", seed=seed) for seed in range(2)]
    shutil.copytree(runs[0], tmp_path / "copy")
    runs.append(tmp_path / "copy")
    words = text_of(comparison.write_comparison(runs, tmp_path / "a.html"))
    assert "copy: not counted, because another run has the same config and seed" in words
    assert "a0, a1 2 " in " ".join(words.split())
    for run, code in zip(runs[:2], ("1.0, commit aaa", "1.0, commit bbb")):
        (run / "run.json").write_text(json.dumps({"starts": [{"step": 0, "code": code}]}))
    with_code = [Run(run) for run in runs[:2]]
    assert "a0, a1: trained by different code" in seeds_section.warnings(with_code)
    for run, digest in zip(runs[:2], ("1", "2")):
        (run / "run.json").write_text(json.dumps({"modules": {"mine": digest}}))
    assert len(seeds_section.grouped([Run(run) for run in runs[:2]])) == 2


def test_two_runs_are_compared_by_the_examples_on_which_one_alone_is_right(make_run, tmp_path):
    runs = [make_run("one", seed=1), with_batch_size(make_run("two", seed=2), 64)]
    words = text_of(comparison.write_comparison(runs, tmp_path / "a.html"))
    right = [Run(run).predictions.right for run in runs]
    found = difference.of_examples(*right)
    assert f"{abs(found.value) * 100:.2f} points  more accuracy than" in words
    assert "McNemar's exact test on the same examples" in words
    assert "differ in the seed alone" not in words
    (runs[0] / "predictions.npz").unlink()
    assert "more accuracy" not in text_of(comparison.write_comparison(runs, tmp_path / "a.html"))


def test_runs_evaluated_on_other_examples_are_flagged_not_mixed(make_run, tmp_path, capsys):
    workdirs = [make_run("one"), two := make_run("two", seed=1)]
    mixed = lambda: comparison._mixed([Run(workdir) for workdir in workdirs])

    def evaluate(*splits, dataset, **options):
        for workdir, split in zip(workdirs, splits, strict=True):
            change_json(workdir / "evaluation.json", dataset=dataset, split=split)
        settings = json.loads((two / "config.json").read_text())
        settings["data"]["shapes"] |= options
        (two / "config.json").write_text(json.dumps(settings))

    evaluate("test", "test", dataset="cifar10")
    assert mixed() == "" and capsys.readouterr().err == ""
    # A drawn image depends on the size of its own split alone.
    evaluate("test", "test", dataset="shapes", train_examples=77)
    assert mixed() == ""
    evaluate("test", "test", dataset="shapes", test_examples=77)
    assert "not evaluated on the same examples" in mixed()
    evaluate("test", "test[:50%]", dataset="cifar10")
    capsys.readouterr()
    page = comparison.write_comparison(workdirs, tmp_path / "a.html")
    assert "not evaluated on the same examples" in text_of(page)
    assert "not evaluated on the same examples" in capsys.readouterr().err
    headlines = [results_section.headline(Run(workdir)) for workdir in workdirs]
    assert ["not the test split of the config" in each for each in headlines] == [False, True]


def test_errors_name_the_file_and_the_remedy(make_run, tmp_path, capsys):
    assert run_report.main([str(tmp_path / "none")]) == 2
    assert "holds no run to report on" in capsys.readouterr().err
    workdir = make_run()
    assert run_report.main([str(workdir), f"--out={tmp_path / 'page.html'}"]) == 2
    assert "--out is the page of a comparison" in capsys.readouterr().err
    (workdir / "report").write_text("mine")
    with pytest.raises(UserError, match="report cannot be written .*File exists"):
        run_report.write_report(workdir)
    (workdir / "config.json").write_text("{")
    with pytest.raises(UserError, match="config.json cannot be read"):
        run_report.write_report(workdir)


@pytest.mark.parametrize(
    "names, broken, shown",
    [
        (["predictions.npz", "augmentation.npz", "run.json"], b"", "Confusion matrix"),
        (
            ["examples.npz", "evaluations/a/evaluation.json", "profile.json"],
            b"PK\x03\x04",
            "Accuracy by confidence",
        ),
    ],
)
def test_a_damaged_file_costs_the_parts_that_need_it(make_run, capsys, names, broken, shown):
    workdir = make_run()
    for name in names:
        (workdir / name).parent.mkdir(parents=True, exist_ok=True)
        (workdir / name).write_bytes(broken)
    words = text_of(run_report.write_report(workdir))
    assert all(f"{name} cannot be read" in words for name in names)
    assert shown in words and f"{shown} could not be shown" not in words
    assert ("The config" in words) == ("run.json" not in names)
    assert all(line.startswith("warning: ") for line in capsys.readouterr().err.splitlines())


@pytest.fixture
def problems():
    """Return `problems(page)`, which returns what Chromium's console says of a page."""
    program = shutil.which("chromium") or shutil.which("google-chrome")

    def problems(page):
        command = [program, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
        command += ["--disable-background-networking", "--enable-logging=stderr", "--v=0"]
        command += ["--virtual-time-budget=2000", "--dump-dom", page.as_uri()]
        result = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert "</html>" in result.stdout, result.stderr
        return [line for line in result.stderr.splitlines() if "CONSOLE" in line]

    return problems


@pytest.mark.browser
def test_chromium_finds_no_error_in_the_page_and_no_request_that_leaves_it(
    make_run, problems, tmp_path
):
    # The page's own policy turns every request into an error.
    page = run_report.write_report(make_run())
    assert problems(page) == []
    runs = [page.parent.parent, make_run("other")]
    page = comparison.write_comparison(runs, tmp_path / "compared.html")
    assert problems(page) == []
    broken = tmp_path / "broken.html"
    outside = '<img src="https://example.org/a.png"><script>alert(1)</script></body>'
    broken.write_text(page.read_text().replace("</body>", outside))
    assert len(problems(broken)) == 2


def test_an_augmentation_that_was_switched_off_is_among_what_the_config_changes(make_run):
    workdir = make_run(evaluated=False)
    config = json.loads((workdir / "config.json").read_text())
    config["augmentation"]["cutout"]["enabled"] = False
    (workdir / "config.json").write_text(json.dumps(config))
    # What counts in a run does not hold the components that were not chosen.
    (workdir / "run.json").write_text(json.dumps({"config": {"seed": 0}}))
    changed = facts_section.config(Run(workdir)).partition("<details>")[0]
    row = "augmentation.cutout.enabled</th><td>false</td><td>true</td>"
    assert row in changed and changed.count("<tr>") == 2


def test_the_page_says_which_code_and_command_made_the_run_and_what_its_config_changes(trained_run):
    words = text_of(trained_run / "report/index.html")
    (start,) = Run(trained_run).summary["starts"]
    assert f"--workdir={trained_run}" in start["command"] and jaxcifar.__version__ in start["code"]
    assert "from step 0" in words and f"--workdir={trained_run}" in words
    changed = words[words.index("configs/default.py") : words.index("The config")]
    assert "num_epochs 3 15" in " ".join(changed.split())
    assert "label_smoothing" not in changed and "label_smoothing" in words

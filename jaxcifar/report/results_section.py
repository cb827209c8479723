"""The top of the page: what was trained, and the scores on the evaluated split."""

from html import escape

from jaxcifar.evaluation.by_class import at_chance
from jaxcifar.host.output import counted
from jaxcifar.report.workdir_files import Run


def title(run: Run) -> str:
    """Return the run's name, what was trained and, once it is known, the accuracy."""
    accuracy = f", {run.evaluation['accuracy']:.2%}" if run.evaluation else ""
    return f"{run.name}: {_trained(run)}{accuracy}"


def subtitle(run: Run) -> str:
    """Return what was trained, how, and for how long."""
    return (
        f"<p>{escape(_trained(run))}, {escape(run.config['optimizer']['name'])}, "
        f"{counted(run.config['num_epochs'], 'epoch')}, seed {run.config['seed']}</p>"
    )


def _trained(run: Run) -> str:
    network, preset = run.config["model"]["name"], run.summary.get("preset")
    return f"{network}{f' ({preset})' if preset else ''} on {run.config['data']['name']}"


def headline(run: Run) -> str:
    """Return score cards and notes on them; before the evaluation, the run's progress."""
    if not run.evaluation:
        done = run.records[-1]["epoch"] if run.records else 0
        return (
            f'<p class="note">Not evaluated yet: {done:.1f} of {run.config["num_epochs"]} epochs '
            f"are done (step {run.step}).</p>"
        )
    found = run.evaluation
    low, high = found["accuracy_interval"]
    cards = [
        *_scores_alike(found),
        (
            "accuracy",
            f"{found['accuracy']:.2%}",
            f"95% interval {low:.2%} to {high:.2%}{_of_the_commonest(found)}",
        ),
        ("top 5", f"{found['top_5_accuracy']:.2%}", "label among the five likeliest"),
        ("loss", f"{found['loss']:.4f}", "cross-entropy, nats"),
        ("calibration error", f"{found['calibration_error']:.2%}", "expected, 15 bins"),
    ]
    if len(found["class_names"]) <= 10:
        cards = [card for card in cards if card[0] != "top 5"]
    if two := found.get("two_classes"):
        cards.append(
            ("area under the ROC curve", f"{two['roc_area']:.4f}", f"of {escape(two['positive'])}")
        )
    for name, augmented in found["test_time_augmentation"].items():
        label = f"under test-time augmentation ({escape(name)})"
        cards.append(("accuracy", f"{augmented['accuracy']:.2%}", label))
    shown = "".join(
        f'<div class="card"><span>{name}</span><strong>{value}</strong><small>{note}</small></div>'
        for name, value, note in cards
    )
    notes = [
        f"{escape(found['dataset'])}, split {escape(found['split'])}: {found['correct']:,} of "
        f"{found['examples']:,} examples right, with the parameters of step {found['step']:,}."
    ]
    if not run.on_own_test_split:
        data = run.config["data"]
        notes.append(
            f"<b>This is not the test split of the config</b>, which is {escape(data['name'])}, split "
            f"{escape(data['test_split'])}."
        )
    if found["step"] < run.step:
        notes.append(f"The run has gone on to step {run.step:,} since.")
    if chance := at_chance(found):
        notes.append(f"<b>This does not show that the network has learned</b>: {chance}.")
    return (
        f'<p class="lead">{_sentence(found)}</p><div class="cards">{shown}</div>'
        f'<p class="note">{" ".join(notes)}</p>'
    )


def _sentence(found: dict) -> str:
    """Return the result in words."""
    if found.get("unequal_classes"):
        low, high = found["balanced_accuracy_interval"]
        rarest, hits = rarest_class(found)
        text = (
            "The balanced accuracy, in which every class counts alike, is "
            f"<b>{found['balanced_accuracy']:.1%}</b> (95% interval {low:.1%} to {high:.1%}). Of the rarest "
            f"class, {escape(rarest)}, the network finds <b>{hits}</b>. It names the right class for "
            f"{found['accuracy']:.1%} of {found['examples']:,} images"
        )
    else:
        low, high = found["accuracy_interval"]
        text = (
            f"The network names the right class for <b>{found['accuracy']:.1%}</b> of {found['examples']:,} "
            f"images (95% interval {low:.1%} to {high:.1%})"
        )
    if (pairs := found.get("confused_pairs")) and len(found["class_names"]) > 2:
        a, b = map(escape, pairs[0]["classes"])
        count = sum(pairs[0]["counts"])
        times = "once" if count == 1 else counted(count, "time")
        text += f". It takes {a} and {b} for one another most often, {times}"
    return f"{text}."


def rarest_class(found: dict) -> tuple[str, str]:
    """Return the class with the fewest examples, and in words how many were found, with false alarms."""
    scores = [score for score in found["per_class"] if score["examples"]]
    rarest = min(scores, key=lambda score: score["examples"])
    hits = round(rarest["recall"] * rarest["examples"])
    words = f"{hits:,} of {rarest['examples']:,}"
    if hits:
        alarms = round(hits / rarest["precision"]) - hits
        words += f", with {counted(alarms, 'false alarm')}"
    return rarest["name"], words


def _of_the_commonest(found: dict) -> str:
    """Return the accuracy of always naming the commonest class, if the classes are unequal."""
    if not found.get("unequal_classes"):
        return ""
    return f"; naming the commonest class always: {found['majority_accuracy']:.2%}"


def _scores_alike(found: dict) -> list[tuple[str, str, str]]:
    """Return the cards of the scores that weight every class equally, if the classes are unequal."""
    if not found.get("unequal_classes"):
        return []
    cards = []
    for name, score in (("balanced accuracy", "balanced_accuracy"), ("macro-F1", "macro_f1")):
        low, high = found[f"{score}_interval"]
        cards.append((name, f"{found[score]:.2%}", f"95% interval {low:.2%} to {high:.2%}"))
    return cards

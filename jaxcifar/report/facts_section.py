"""The part of a run's report on the run itself: its size, machine, versions, time and config."""

from datetime import UTC, datetime

from jaxcifar.config.config_file import get_config
from jaxcifar.host.output import counted
from jaxcifar.report import html_pieces, workdir_files
from jaxcifar.report.workdir_files import Run


def facts(run: Run) -> str:
    """Return a table of what the run is made of, and of what it took."""
    summary = run.summary
    found = {}
    if summary:
        height, width, channels = summary["image_shape"]
        found = {
            "parameters": f"{summary['parameters']:,}",
            "MFLOP an image, forward": run.fact("forward_flops", workdir_files.mega),
            "training images": f"{summary['train_examples']:,} of {height}×{width}×{channels}",
            "steps": f"{counted(summary['epochs'], 'epoch')} of {summary['steps_per_epoch']:,}",
            "precision": summary["precision"],
            "devices": summary["devices"],
            "processor": run.fact("processor"),
            "versions": run.fact(
                "versions", lambda each: ", ".join(f"{k} {v}" for k, v in each.items())
            ),
        }
        for start in summary.get("starts", ()):  # an earlier version has kept none
            found[f"from step {start['step']:,}"] = f"{start['code']}: {start['command']}"
    if run.records:
        if "time" in run.records[-1]:
            ended = datetime.fromtimestamp(run.records[-1]["time"], UTC)
            found["last step"] = f"{ended:%Y-%m-%d %H:%M} UTC"
        found["time in training steps"] = html_pieces.duration(run.training_seconds)
        rate = run.step * run.config["batch_size"] / run.training_seconds
        found["training rate"] = f"{rate:,.0f} images a second"
    return html_pieces.table((name, [value]) for name, value in found.items())


def config(run: Run) -> str:
    """Return the config's fields that differ from `configs/default.py`, and then all fields."""
    default = workdir_files.as_fields(get_config("default").to_dict())
    switches = {
        name: value
        for name, value in run.all_fields.items()
        if name.startswith("augmentation.") and name.endswith(".enabled")
    }
    changed = [
        (name, [value, default.get(name, "–")])
        for name, value in (run.fields | switches).items()
        if value != default.get(name)
    ]
    fields = ((name, [value]) for name, value in run.fields.items())
    return (
        html_pieces.table(changed, ["this run", "configs/default.py"])
        + f"<details><summary>The config</summary>{html_pieces.table(fields)}</details>"
    )

"""Trains to the end for several seeds and prints accuracy and time; `--peer=torch` needs `bench`.

python -m benchmarks.time_to_accuracy --config=configs/fast.py [--seeds=0,1,2] [--peer=torch] [--out=FILE]
    [--peer_config=benchmarks/airbench94.py]

Every run of jaxcifar is a process of its own, the program as a user starts it, the first with an empty
compilation cache; it evaluates only at the end. With `--peer=torch` the recipe of `--peer_config`, with Adam,
SGD or Muon, runs in PyTorch in turn with jaxcifar, seed by seed, on the same images. PyTorch is eager on a
CPU, where that is faster, and compiled on a GPU. A network of `torch_zoo` begins with the weights that
jaxcifar draws from the same seed. Both evaluate the test split plainly and with test-time augmentation, and
the time includes all of this.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

from benchmarks import machine
from benchmarks.timing import config_arguments

_CONFIG = config_flags.DEFINE_config_file("config", "configs/fast.py", lock_config=True)
_SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "of the runs")
_PEER = flags.DEFINE_enum("peer", None, ["torch"], "what to run in turn with jaxcifar")
_PEER_CONFIG = config_flags.DEFINE_config_file(
    "peer_config", "benchmarks/airbench94.py", "the recipe of the peer", lock_config=True
)
_OUT = flags.DEFINE_string("out", None, "JSON file for the figures")
_TORCH_SEED = flags.DEFINE_integer(
    "torch_seed", None, "what this process runs; set by the one above"
)


def run(command: list[str], environment: dict[str, str], first_step: str) -> tuple[dict, str]:
    """Run a side, and return the seconds to its end, from its launch and from its first step.

    Args:
      first_step: text in the line that it prints when its first step is done.

    Returns:
      The seconds, and the last line.
    """
    began = time.perf_counter()
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    printed = []
    for line in process.stdout:
        printed.append(line)
        if first_step in line:
            first = time.perf_counter()
    ended = time.perf_counter()
    if process.wait():
        last = "".join(printed[-20:])
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}:\n{last}")
    return {"seconds": ended - began, "seconds_after_first_step": ended - first}, printed[-1]


def run_jaxcifar(arguments: list[str], seed: int, cache: str) -> dict:
    """Train once and return accuracies and seconds."""
    with tempfile.TemporaryDirectory() as workdir:
        command = [sys.executable, "-m", "jaxcifar.main", *arguments, f"--config.seed={seed}"]
        environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": cache}
        seconds, _ = run([*command, f"--workdir={workdir}"], environment, "first step after")
        evaluation = json.loads((Path(workdir) / "evaluation.json").read_text())
    augmented = evaluation["test_time_augmentation"]["mirror_translate"]
    return {
        "accuracy": evaluation["accuracy"],
        "augmented_accuracy": augmented["accuracy"],
    } | seconds


def run_torch(config, seed: int) -> dict:
    """Do the same in PyTorch, in this process, and return the accuracies."""
    import jax
    import torch
    from torch.nn import functional

    from benchmarks import torch_peer, torch_zoo
    from jaxcifar.config.reader import read_config
    from jaxcifar.experiment.setup import load_split, set_up, start_layout
    from jaxcifar.step.order import epoch_order
    from jaxcifar.training.overview import learning_rates
    from tests import zoo

    torch.manual_seed(seed)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    read = read_config(config)
    setup, train = set_up(read, start_layout(read))
    test, facts = load_split(read, "test_split"), setup.experiment.facts
    chosen = read.model.component
    mean, std = (torch.tensor(x, device=device).view(3, 1, 1) for x in (facts.mean, facts.std))
    mean, std = mean.float(), std.float()

    def placed(dataset):
        pixels = torch.from_numpy(dataset.images).permute(0, 3, 1, 2)
        labels = torch.from_numpy(dataset.labels).long().to(device)
        return pixels.to(device, memory_format=torch.channels_last), labels

    (pixels, labels), (test_pixels, test_labels) = placed(train), placed(test)
    if chosen.name in torch_zoo.MODELS:
        model = torch_zoo.MODELS[chosen.name](**chosen.options)
        init_key, _ = jax.random.split(jax.random.key(seed))  # as the stepper of a run does
        state = setup.new_state(train, init_key)
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        torch_zoo.load(model, zoo.named(jax.device_get(variables)))
    else:
        model = torch_peer.MODELS[chosen.name](**chosen.options)
    model = model.to(device, memory_format=torch.channels_last)
    if chosen.name == "speednet":
        torch_peer.whiten(model, (pixels[:5000] / 255 - mean) / std)
    optimizers = torch_peer.optimizers(model, config.optimizer)
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    peaks = [group["lr"] for group in groups]
    rates = learning_rates(setup) / config.optimizer.learning_rate
    forward = torch.compile(model, mode="max-autotune") if device == "cuda" else model
    precision = torch_peer.in_the_precision_of(_CONFIG.value, device)
    rows = len(pixels) // config.batch_size
    total = rows * config.num_epochs
    flips = torch.rand(len(pixels), device=device) < 0.5
    for step in range(total):
        epoch, row = divmod(step, rows)
        if row == 0:
            order = torch.from_numpy(epoch_order(seed, epoch, len(pixels), config.batch_size))
            order = order.long().to(device)
        index = order[row]
        mirrored = flips[index] ^ bool(epoch % 2)
        images = torch_peer.augmented(pixels[index] / 255, config.augmentation, mirrored)
        images = ((images - mean) / std).contiguous(memory_format=torch.channels_last)
        with precision:
            logits = forward(images)
        smoothing = config.label_smoothing
        loss = functional.cross_entropy(logits.float(), labels[index], label_smoothing=smoothing)
        loss.backward()
        for group, peak in zip(groups, peaks, strict=True):
            group["lr"] = peak * float(rates[step])
        for optimizer in optimizers:
            optimizer.step()
        model.zero_grad(set_to_none=True)
        if step == 0:
            loss.item()
            print("first step", flush=True)
    model.eval()
    correct = augmented_correct = 0
    with torch.inference_mode(), precision:
        for images, answers in zip(test_pixels.split(1000), test_labels.split(1000), strict=True):
            images = (images / 255 - mean) / std
            correct += (model(images).argmax(1) == answers).sum().item()
            augmented = torch_peer.logits_of_views(model, images)
            augmented_correct += (augmented.argmax(1) == answers).sum().item()
    return {
        "accuracy": correct / len(test_pixels),
        "augmented_accuracy": augmented_correct / len(test_pixels),
    }


def spread(results: list[dict], name: str) -> str:
    """Return mean and standard deviation of a share, in percent."""
    percent = [100 * run[name] for run in results]
    deviation = statistics.stdev(percent) if len(percent) > 1 else float("nan")
    return f"{statistics.mean(percent):.2f}% ± {deviation:.2f}"


def main(argv):
    del argv
    if _TORCH_SEED.value is not None:
        print(json.dumps(run_torch(_PEER_CONFIG.value, _TORCH_SEED.value)))
        return
    if _PEER.value:
        machine.require_torch()
    arguments = config_arguments()
    at_the_end = [
        f"--config.evaluation.every_epochs={_CONFIG.value.num_epochs}",
        "--config.evaluation.test_time_augmentation=mirror_translate",
    ]
    runs = {"jaxcifar": []} | ({"torch": []} if _PEER.value else {})
    with tempfile.TemporaryDirectory() as cache:
        for seed in map(int, _SEEDS.value):
            runs["jaxcifar"].append(run_jaxcifar(arguments + at_the_end, seed, cache))
            print(f"jaxcifar, seed {seed}: {runs['jaxcifar'][-1]}", flush=True)
            if _PEER.value:
                command = [sys.executable, "-m", "benchmarks.time_to_accuracy", *sys.argv[1:]]
                seconds, last = run(
                    [*command, f"--torch_seed={seed}"], dict(os.environ), "first step"
                )
                runs["torch"].append(json.loads(last) | seconds)
                print(f"torch, seed {seed}: {runs['torch'][-1]}", flush=True)
    for side, results in runs.items():
        print(
            f"{side:9} accuracy {spread(results, 'accuracy')}, under test-time augmentation "
            f"{spread(results, 'augmented_accuracy')} (standard deviation of {len(results)} seeds), "
            "seconds "
            + ", ".join(f"{run['seconds']:.1f}" for run in results)
            + "; after the first step "
            + ", ".join(f"{run['seconds_after_first_step']:.1f}" for run in results)
        )
    described = machine.describe()
    print(f"{' '.join(arguments)}; {described['machine']}; {described['versions']}")
    if _OUT.value:
        result = {"arguments": arguments, "runs": runs} | described
        Path(_OUT.value).write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    app.run(main)

"""The import graph."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "jaxcifar"

# From the top down; a module may import what stands below it, and nothing beside or above.
LAYERS = [
    "main",
    "command_line",
    "config_fields",
    "predict",
    "saved_config",
    "train",
    "trainer",
    "evaluate_run",
    "report",
    "comparison",
    "run_images",
    "run_files",
    "pages",
    "plots",
    "overview",
    "restore",
    "loop",
    "experiment",
    "config_checks",
    "evaluate",
    "analysis",
    "steps",
    "parallel",
    "state",
    "metrics",
    "optim",
    "augment",
    "datasets",
    "shapes",
    "tfds_reader",
    "array_cache",
    "models",
    "models.cnn",
    "models.resnet",
    "models.speednet",
    "models.convolution",
    "models.layers",
    "onednn",
    "onednn_library",
    "foreign",
    "machine",
    "runtime",
    "checkpoint",
    "progress",
    "stopping",
    "laps",
    "paths",
    "errors",
]


def modules():
    names = {}
    for path in PACKAGE.rglob("*.py"):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        names[name.removesuffix("__init__").rstrip(".")] = path
    return names


def imports(path):
    """Return what a file imports from the package, wherever in the file: names below `jaxcifar`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively, which this test cannot place"
            names = [f"{node.module}.{alias.name}" for alias in node.names] + [node.module]
        else:
            continue
        for name in names:
            below = name.removeprefix("jaxcifar.")
            if name.startswith("jaxcifar.") and below in modules():
                yield below


def test_every_module_has_a_layer():
    assert sorted(modules()) == sorted(["", *LAYERS])


def test_imports_point_downward():
    wrong = [
        f"{name} imports {other}"
        for name, path in modules().items()
        if name
        for other in imports(path)
        if other != name and LAYERS.index(other) <= LAYERS.index(name)
    ]
    assert not wrong


def test_the_graph_is_seen():
    assert {"train", "errors"} <= set(imports(modules()["main"]))


def test_only_parallel_maps_over_devices_and_only_batch_norm_speaks_to_the_others():
    maps = ("pmap", "shard_map", "psum", "pmean", "axis_index")
    found = {
        name
        for name, path in modules().items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in maps
    }
    assert found == {"parallel", "models.layers"}


def test_configs_are_read_in_few_places():
    readers = {
        name
        for name, path in modules().items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Name) and node.id == "config"
    }
    assert readers <= {
        "command_line",
        "config_fields",
        "main",
        "predict",
        "saved_config",
        "train",
        "trainer",
        "evaluate_run",
        "restore",
        "experiment",
        "config_checks",
    }

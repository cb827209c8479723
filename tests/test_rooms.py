"""The rooms of the package, and which may import from which."""

import ast
import graphlib
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "jaxcifar"

# From the top down: a room may import from the rooms below it.
ROOMS = [
    "doors",
    "report",
    "training",
    "evaluation",
    "experiment",
    "config",
    "step",
    "optim",
    "augment",
    "models",
    "cpu",
    "data",
    "devices",
    "host",
    "options",
    "errors",
]
REGISTRIES = {"models", "optim", "augment", "data"}
"""Rooms whose `__init__.py` may import: it holds the table of the components."""


def modules():
    """Return the file of each module, by its dotted name below `jaxcifar`; packages end in `__init__`."""
    return {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
        for path in PACKAGE.rglob("*.py")
    }


def room(module):
    """Return the room of a module: its folder, or at the package's top `errors`, `options` or `doors`."""
    return module.split(".")[0] if "." in module or module in ("errors", "options") else "doors"


def imports(path):
    """Return the modules that a file imports from the package, wherever in the file."""
    known = modules()
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively, which this test cannot place"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if not name.startswith("jaxcifar."):
                continue
            below = name.removeprefix("jaxcifar.")
            # A module, a package, or a name in one of these.
            parent = below.rpartition(".")[0]
            candidates = (below, f"{below}.__init__", parent, f"{parent}.__init__", "__init__")
            found.add(next(module for module in candidates if module in known))
    return found


def test_the_package_has_at_most_18_entries_and_every_one_is_a_room_or_a_door():
    entries = {path.name for path in PACKAGE.iterdir() if path.name != "__pycache__"}
    assert len(entries) <= 18
    rooms = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert rooms | {"doors", "errors", "options"} == set(ROOMS)
    files = {"__init__.py", "__main__.py", "main.py", "predict.py", "errors.py", "options.py"}
    assert entries - rooms <= files


def test_imports_between_rooms_point_downward():
    wrong = [
        f"{name} imports {other}"
        for name, path in modules().items()
        for other in imports(path)
        if room(other) != room(name) and ROOMS.index(room(other)) < ROOMS.index(room(name))
    ]
    assert not wrong


def test_there_is_no_circle_inside_a_room():
    graph = {name: imports(path) for name, path in modules().items()}
    order = list(graphlib.TopologicalSorter(graph).static_order())  # raises for a circle
    assert order.index("errors") < order.index("main")


def test_the_imports_are_seen():
    known = modules()
    assert {"errors", "host.signals", "training.run"} <= imports(known["main"])
    assert "models.__init__" in imports(known["config.components"])


def test_only_convolution_knows_of_onednn():
    outside = {name: imports(path) for name, path in modules().items() if room(name) != "cpu"}
    knows = {name for name, others in outside.items() if "cpu" in map(room, others)}
    assert knows == {"models.convolution"}


def test_a_room_imports_nothing_before_it_is_asked_to():
    for name, path in modules().items():
        if name.endswith(".__init__") and room(name) not in REGISTRIES:
            nodes = ast.walk(ast.parse(path.read_text()))
            assert not any(isinstance(node, ast.Import | ast.ImportFrom) for node in nodes), name


def test_one_room_maps_over_devices_and_only_batch_norm_speaks_to_the_others_beside_it():
    maps = ("pmap", "shard_map", "psum", "pmean", "axis_index")
    found = {
        name
        for name, path in modules().items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in maps
    }
    assert found == {"devices.collectives", "devices.mapping", "models.layers"}


def test_configs_are_read_in_few_rooms():
    readers = {
        room(name)
        for name, path in modules().items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Name) and node.id == "config"
    }
    # The doors pass on what a program gives to `train` and `evaluate`.
    assert readers == {"training", "evaluation", "experiment", "config", "doors"}

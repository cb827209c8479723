"""The network families: their sizes, and that they compute what independent implementations in PyTorch do.

`tests/fixtures/` holds what PyTorch computes; `benchmarks/make_fixtures.py` says what and how.
"""

import functools
import importlib.util
import inspect
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcifar.models import MODELS, PRESETS
from jaxcifar.models.compute import Compute
from jaxcifar.models.convolution import library
from jaxcifar.options import options_of, read
from jaxcifar.training.flops import count_flops
from tests import zoo
from tests.conftest import ROOT

A, B = {"shortcut": "A"}, {"shortcut": "B"}
PARAMETERS = [
    ("resnet20", A, 269_722),  # akamaster/pytorch_resnet_cifar10
    ("resnet32", A, 464_154),
    ("resnet44", A, 658_586),
    ("resnet56", A, 853_018),
    ("resnet110", A, 1_727_962),
    ("resnet20", B, 272_474),  # chenyaofo/pytorch-cifar-models
    ("resnet32", B, 466_906),
    ("resnet44", B, 661_338),
    ("resnet56", B, 855_770),
    ("resnet110", B, 1_730_714),  # bearpaw/pytorch-classification
    ("resnet18", {}, 11_173_962),  # kuangliu/pytorch-cifar; torchvision and timm with this stem
    ("resnet34", {}, 21_282_122),
    ("resnet50", {}, 23_520_842),
    ("wrn_16_4", {}, 2_748_890),  # xternalz/WideResNet-pytorch, bearpaw/pytorch-classification
    ("wrn_28_10", {}, 36_479_194),
    ("densenet_bc_100_12", {}, 769_162),  # bearpaw, gpleiss/efficient_densenet_pytorch
    ("densenet121", {}, 6_956_298),  # kuangliu
    ("vgg16_bn", {}, 14_728_266),  # kuangliu
    ("mobilenet_v2_x0_5", {}, 700_490),  # chenyaofo, torchvision, timm
    ("mobilenet_v2_x1_0", {}, 2_236_682),
    ("shufflenet_v2_x0_5", {}, 352_042),  # kuangliu, chenyaofo, torchvision
    ("shufflenet_v2_x1_0", {}, 1_263_854),
    ("vit_tiny", {}, 5_362_762),  # timm, for images of 32 pixels and patches of 4
    ("resnet8", {}, 78_186),  # mlcommons/tiny; 78,666 is with the 480 running statistics
]
"""Preset, options, trainable parameters with ten classes. A comment names the implementations with the
same count; it stands on the first line that it is for."""


DOCUMENTED = {
    preset: (family, int(count.replace(",", "")), mflop.replace(",", ""))
    for preset, family, count, mflop in re.findall(
        r"^\| `(\w+)` \| `(\w+)`.*? \| ([\d,]+) \| ([\d,.]+) \|",
        (ROOT / "docs/models.md").read_text(),
        flags=re.MULTILINE,
    )
}
"""Of each preset in the documentation's table: family, parameters and MFLOP."""


@pytest.mark.parametrize("preset, changes, count", PARAMETERS)
def test_a_preset_has_as_many_parameters_as_elsewhere_and_is_documented(preset, changes, count):
    family, options = PRESETS[preset]
    model = MODELS[family](classes=10, compute=Compute(), **{**options, **changes})
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    init = functools.partial(model.init, train=False)
    shapes = jax.eval_shape(init, jax.random.key(0), images)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])) == count
    if changes != B:
        mflop = f"{count_flops(init, jax.random.key(0), images) / 1e6:.1f}"
        assert DOCUMENTED[preset] == (family, count, mflop)


def test_no_two_families_have_a_preset_of_the_same_name_and_none_is_called_as_a_family():
    names = [name for model in MODELS.values() for name in getattr(model, "presets", ())]
    assert len({*names, *MODELS}) == len(names) + len(MODELS)


def test_every_preset_is_counted_documented_and_named_in_the_default_config():
    assert {preset for preset, *_ in PARAMETERS} == PRESETS.keys() == DOCUMENTED.keys()
    config = (ROOT / "configs/default.py").read_text()
    named = config.partition("or a preset: ")[2].partition("config.model.cnn")[0]
    assert set(re.findall(r"\w+", named)) == PRESETS.keys()


def test_each_family_is_compared_with_pytorch():
    with_tests_of_their_own = {"cnn", "speednet"}
    assert {case.family for case in zoo.CASES.values()} == MODELS.keys() - with_tests_of_their_own
    assert {path.stem for path in zoo.FIXTURES.glob("*.npz")} == zoo.CASES.keys()


each_case = pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in zoo.VARIANTS else [])
        for name in zoo.CASES
    ],
)


def fixture(name):
    with np.load(zoo.FIXTURES / f"{name}.npz") as arrays:
        return dict(arrays)


def run(function, *arrays):
    """Return a function's result for arrays, and the text of its program."""
    lowered = jax.jit(function).lower(*arrays)
    return jax.tree.map(np.asarray, lowered.compile()(*arrays)), lowered.as_text()


def assert_near(ours, theirs, tolerance):
    """Compare logits; the tolerance is relative to their differences between examples."""
    assert np.linalg.norm(ours - theirs) < tolerance * np.linalg.norm(theirs - theirs.mean(0))


@each_case
def test_logits_statistics_and_gradients_equal_pytorch_s_in_float64(name):
    expected, (variables, images) = fixture(name), zoo.drawn(name)
    weights = zoo.draw("weights", expected["logits"].shape)

    def compute(variables, images, weights):
        model = zoo.CASES[name].model(Compute(jnp.float64))
        logits = model.apply(variables, images, train=False)

        def loss(params, images):
            statistics = {"batch_stats": variables.get("batch_stats", {})}
            logits, updated = model.apply(
                {"params": params} | statistics, images, train=True, mutable=["batch_stats"]
            )
            return zoo.loss(logits, weights), (logits, updated)

        gradient = jax.grad(loss, (0, 1), has_aux=True)
        (grads, image_grads), (training_logits, updated) = gradient(variables["params"], images)
        return logits, training_logits, updated, {"params": grads}, image_grads

    with jax.enable_x64(True):
        results, _ = run(compute, variables, images, weights)
    logits, training_logits, updated, gradients, image_gradients = results
    assert_near(logits, expected["logits"], 1e-9)
    assert_near(training_logits, expected["training_logits"], 1e-9)
    statistics = np.concatenate([*zoo.named(updated).values(), []])
    np.testing.assert_allclose(statistics, expected["statistics"], rtol=1e-9, atol=1e-12)

    gradients = zoo.named(gradients) | {"images": image_gradients}
    largest = expected["gradients"][:, 0].max()
    for (path, gradient), theirs in zip(gradients.items(), expected["gradients"], strict=True):
        # Some gradients are zero except for rounding, such as that of a bias before BatchNorm.
        size = theirs[0] if theirs[0] > 1e-9 * largest else largest
        error = np.abs(zoo.products(path, gradient) - theirs).max()
        assert error < 1e-9 * size, path


@pytest.mark.parametrize("convolutions", ["onednn", "xla"])
@each_case
def test_logits_equal_pytorch_s_in_float32(name, convolutions):
    if convolutions == "onednn" and library("auto", jnp.float32) != "onednn":
        pytest.skip("needs oneDNN")
    expected, (variables, images) = fixture(name), zoo.drawn(name)
    model = zoo.CASES[name].model(Compute(convolutions=convolutions))

    def compute(variables, images):
        logits = model.apply(variables, images, train=False)
        return logits, model.apply(variables, images, train=True, mutable=["batch_stats"])[0]

    (logits, training_logits), text = run(compute, variables, images)
    assert ("jaxcifar_onednn_" in text) == (convolutions == "onednn")
    assert_near(logits, expected["logits"], 1e-4)
    assert_near(training_logits, expected["training_logits"], 1e-4)


needs_pytorch = pytest.mark.skipif(
    importlib.util.find_spec("timm") is None, reason="needs PyTorch, torchvision and timm"
)


@needs_pytorch
@pytest.mark.parametrize("preset, changes, count", PARAMETERS)
def test_pytorch_s_network_takes_our_options_and_has_as_many_parameters(preset, changes, count):
    import torch

    from benchmarks import torch_zoo

    family, options = PRESETS[preset]
    build = torch_zoo.MODELS[family]
    ours = options_of(MODELS[family])
    assert inspect.signature(build).parameters.keys() - {"classes"} == ours.keys()
    with torch.device("meta"):
        model = build(**read(MODELS[family], {**options, **changes}, family))
    assert sum(parameter.numel() for parameter in model.parameters()) == count


def test_fixtures_take_little_room():
    assert sum(path.stat().st_size for path in zoo.FIXTURES.iterdir()) < 300_000


@needs_pytorch
@pytest.mark.parametrize("name", zoo.CASES)
def test_a_fixture_holds_what_pytorch_computes(name):
    from benchmarks import make_fixtures

    computed, expected = make_fixtures.reference(name), fixture(name)
    assert computed.keys() == expected.keys()
    for part in expected:
        np.testing.assert_allclose(computed[part], expected[part], rtol=1e-9, atol=1e-9)

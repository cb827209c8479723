"""What the report shows of the inside of a network."""

import types

import flax.linen as nn
import jax
import numpy as np
import pytest

from configs import default
from jaxcifar.evaluation import inside
from jaxcifar.models import MODELS
from jaxcifar.models.compute import Compute
from jaxcifar.report import inside_section
from jaxcifar.report.workdir_files import Run

FACTS = types.SimpleNamespace(mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), np.uint8)


def variables_of(network, images):
    return network.init(jax.random.key(0), images / np.float32(255), train=False)


class Averaged(nn.Module):
    """Convolutions, and a head at 2 × 2 positions whose outputs are averaged: its Grad-CAM is known."""

    @nn.compact
    def __call__(self, images, *, train):
        x = nn.Conv(5, (3, 3), name="first")(images)
        x = nn.relu(nn.Conv(6, (3, 3), name="last")(x))
        halves = x.shape[1] // 2, x.shape[2] // 2
        return nn.Conv(3, (1, 1), name="head")(nn.avg_pool(x, halves, halves)).mean((1, 2))


def test_where_it_looked_is_the_class_activation_map_of_the_class_that_is_named(images):
    network = Averaged()
    variables = variables_of(network, images)
    found = inside.look(network, variables, FACTS, images)
    normalised = (images / np.float32(255) - np.float32(FACTS.mean)) / np.float32(FACTS.std)
    logits, kept = network.apply(
        variables, normalised, train=False, capture_intermediates=True, mutable="intermediates"
    )
    last = kept["intermediates"]["last"]["__call__"][0]
    head = variables["params"]["head"]["kernel"][0, 0][:, logits.argmax(1)]  # [channel, image]
    slopes = (last > 0) * head.T[:, None, None]  # of the mean, up to a factor
    expected = np.maximum((slopes.mean((1, 2), keepdims=True) * last).sum(-1), 0)
    expected /= expected.max((1, 2), keepdims=True)
    np.testing.assert_allclose(found["attention"], expected, atol=1e-5)
    first = kept["intermediates"]["first"]["__call__"][0][0]
    np.testing.assert_allclose(found["maps"], np.moveaxis(first, -1, 0), atol=1e-5)
    np.testing.assert_array_equal(found["filters"], variables["params"]["first"]["kernel"])


IN_THE_SUITE = ("cnn", "vit")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in IN_THE_SUITE else pytest.mark.slow) for name in MODELS],
)
def test_every_family_shows_what_it_has(name, images):
    small = {
        "cnn": {"widths": (4, 6), "convs_per_block": (1, 2)},
        "speednet": {"widths": (4, 6)},
        "resnet": {"widths": (4, 6), "blocks_per_stage": (1, 1)},
        "cifar_resnet": {"widths": (4, 6), "blocks_per_stage": (1, 1)},
        "mlperf_resnet": {"widths": (4, 6)},
        "wide_resnet": {"depth": 10, "widening_factor": 1},
        "densenet": {"growth_rate": 4, "layers_per_block": (1, 1)},
        "vgg": {"widths": (4, 6), "convs_per_block": (1, 1)},
        "mobilenet_v2": {"widths": (4,) * 7, "blocks_per_stage": (1,) * 7, "last_width": 8},
        "shufflenet_v2": {"widths": (4, 6, 8), "blocks_per_stage": (1, 1, 1), "last_width": 8},
        "vit": {"width": 12, "depth": 1},
    }
    options = default.get_config().model[name].to_dict() | small[name]
    network = MODELS[name](classes=3, compute=Compute(), **options)
    images = np.concatenate([images, images], 1).repeat(2, 2)[:, :, :16]
    found = inside.look(network, variables_of(network, images), FACTS, images)
    assert ("attention" in found) == (name != "vit")
    assert ("filters" in found) == (name != "speednet")  # whose first layer is a fixed whitening
    assert found["maps"].ndim == 3
    if name != "vit":
        assert found["attention"].shape[0] == 4
        assert found["attention"].min() >= 0 and found["attention"].max() <= 1


def test_a_network_that_fails_under_the_eye_is_a_warning(images, capsys):
    setup = types.SimpleNamespace(experiment=types.SimpleNamespace(model=object(), facts=FACTS))
    state = types.SimpleNamespace(params={}, batch_stats={})
    assert inside.looker(setup, state)(images) == {}
    assert "warning: the report shows nothing of the network's inside (" in capsys.readouterr().err


def test_the_page_shows_where_it_looked_and_the_first_layer(trained_run):
    page = (trained_run / "report/index.html").read_text()
    assert page.count("where the network looked when it named") == 2 * 8
    assert "filters of the first layer" in page and "Where it looked" in page
    run = Run(trained_run)
    with np.load(trained_run / "examples.npz") as saved:
        earlier = {name: saved[name] for name in ("images", "index")}
    run.__dict__["examples"] = earlier
    assert "An earlier version evaluated this run" in inside_section.attention(run)
    assert inside_section.first_layer(run) == ""

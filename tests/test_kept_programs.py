"""Programs that are kept from one start to the next."""

import dataclasses
import os
import subprocess
import sys
import types

import jax
import numpy as np
import pytest

from jaxcifar.devices.kept_programs import KeptPrograms
from jaxcifar.experiment import fingerprint
from jaxcifar.experiment.setup import set_up
from jaxcifar.step.batch import map_step
from jaxcifar.step.counts import Counts
from jaxcifar.step.order import epoch_order
from tests.conftest import ROOT, SHORT
from tests.test_faults import assert_same_end
from tests.test_step import NO_AUGMENTATION, layout


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/jaxcifar/programs"


class Counted:
    """A function that counts how often it is traced."""

    times = 0

    def __call__(self, x, y):
        self.times += 1
        return {"sum": x + y, "product": x * y}


ONES = (np.ones(3, np.float32), np.ones(3, np.float32))


def test_a_function_is_traced_once_for_arguments_of_a_form(cache):
    function, kept = Counted(), KeptPrograms("a")
    for _ in range(2):
        product, total = kept.flat("f", function, ONES)(*ONES)
        assert (product == 1).all() and (total == 2).all()
    assert function.times == 1
    kept.flat("f", function, (np.ones(4, np.float32),) * 2)
    kept.flat("g", function, ONES)
    kept.of("part").flat("f", function, ONES)
    KeptPrograms("b").flat("f", function, ONES)
    assert function.times == 5
    assert kept.array("f", lambda: np.float32([0.1])) == kept.array("f", lambda: 1 / 0)


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-1], lambda data: data[:40] + b"x" + data[41:]]
)
def test_a_program_that_is_damaged_is_made_anew(cache, damage):
    function, kept = Counted(), KeptPrograms("a")
    kept.flat("f", function, ONES)
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    assert (kept.flat("f", function, ONES)(*ONES)[1] == 2).all()
    assert function.times == 2 and len(file.read_bytes()) == len(whole)
    kept.flat("f", function, ONES)
    assert function.times == 2


def test_where_nothing_can_be_kept_a_function_is_traced_each_time(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    function = Counted()
    for _ in range(2):
        assert (KeptPrograms("a").flat("f", function, ONES)(*ONES)[1] == 2).all()
    assert function.times == 2


def prints(x, y):
    jax.debug.print("{x}", x=x[0])
    return x + y


@jax.jit
def calls(x, y):
    return jax.ffi.ffi_call("somewhere_else", jax.ShapeDtypeStruct(x.shape, x.dtype))(x) + y


@pytest.mark.parametrize("function", [prints, calls])
def test_a_function_that_cannot_be_exported_is_traced_each_time(cache, function):
    flat = KeptPrograms("a").flat("f", function, ONES)
    assert not cache.exists()
    lowered = jax.jit(flat).lower(*ONES)
    if function is prints:
        assert (lowered.compile()(*ONES)[0] == 2).all()


def test_an_error_of_a_function_of_the_user_s_own_is_raised_as_it_is(cache):
    flat = KeptPrograms("a").flat("f", lambda x, y: x @ y[:2], ONES)
    with pytest.raises(TypeError, match="dot_general"):
        jax.jit(flat).lower(*ONES)


def test_the_oldest_programs_are_removed(cache, monkeypatch):
    monkeypatch.setattr("jaxcifar.devices.kept_programs._MOST", 3)
    for number in range(5):
        KeptPrograms("a").array(str(number), lambda: number)
    assert len(list(cache.iterdir())) == 3


@pytest.mark.parametrize("devices", [pytest.param(1, marks=pytest.mark.slow), 8])
def test_a_kept_training_program_is_the_one_that_is_traced_and_is_donated_its_state(
    cache, tiny_config, devices
):
    some = layout(devices)
    setup, dataset = set_up(tiny_config(NO_AUGMENTATION), some)
    experiment, states = setup.experiment, []
    order = epoch_order(0, 0, len(dataset), setup.config.batch_size)
    data, order, key = some.put(((dataset.images, dataset.labels), order, jax.random.key(1)))
    for kept in (
        None,
        KeptPrograms("a", fingerprint.convolution.foreign_calls()),
        KeptPrograms("a"),
    ):
        state = setup.new_state(dataset, jax.random.key(0))
        options = {"updates_state": True, "sums": Counts.empty(), "kept": kept}
        run = map_step(experiment.train_step, some, **options)
        program = run.lower(1, state, data, order, key)()
        donated = program.memory_analysis().alias_size_in_bytes
        assert donated >= sum(leaf.nbytes for leaf in jax.tree.leaves(state.params))
        states.append(jax.device_get(run(state, data, order, 0, 1, key)))
    jax.tree.map(np.testing.assert_array_equal, *states[:2])
    jax.tree.map(np.testing.assert_array_equal, *states[1:])
    assert len(list(cache.iterdir())) == 1


def kept_for(monkeypatch, config, facts):
    """Return the `KeptPrograms` that `main` would use."""
    spec = types.SimpleNamespace(name="jaxcifar.main")
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", spec)
    compute = fingerprint.Compute()
    return fingerprint.kept_programs(config, facts, compute, layout())


def test_programs_differ_by_config_data_and_source_and_not_by_seed(
    tiny_config, tmp_path, monkeypatch
):
    setup, _ = set_up(tiny_config(), layout())
    facts = setup.experiment.facts
    assert fingerprint.kept_programs(setup.config, facts, fingerprint.Compute(), layout()) is None
    first = kept_for(monkeypatch, tiny_config(), facts)
    same = {"seed": 3, "logging.every_steps": 7, "checkpoint.keep": 9}
    assert kept_for(monkeypatch, tiny_config(same), facts) == first
    for changes in ({"label_smoothing": 0.3}, {"model.cnn.widths": (4, 6, 9)}, {"num_epochs": 9}):
        assert kept_for(monkeypatch, tiny_config(changes), facts) != first
    other = dataclasses.replace(facts, mean=(0.1, 0.2, 0.3))
    assert kept_for(monkeypatch, tiny_config(), other) != first
    source = tmp_path / "source.py"
    source.write_text("x = 1\n")
    os.utime(source, (0, 0))
    monkeypatch.setattr(fingerprint, "_sources", lambda own: [source])
    one = kept_for(monkeypatch, tiny_config(), facts)
    source.write_text("x = 2\n")
    os.utime(source, (0, 0))
    assert kept_for(monkeypatch, tiny_config(), facts) != one
    source.touch()  # after it was imported
    assert kept_for(monkeypatch, tiny_config(), facts) is None


def test_the_sources_are_the_package_s_and_those_of_modules_that_are_not_installed():
    sources = set(fingerprint._sources())
    assert ROOT / "jaxcifar/models/cnn.py" in sources and ROOT / "tests/conftest.py" in sources
    assert not [source for source in sources if "site-packages" in source.parts]


@pytest.mark.slow
def test_a_second_run_traces_nothing_until_a_line_of_an_own_component_changes(
    own, run_program, tmp_path
):
    parts = own / "my_parts.py"
    helper = own / "my_helper.py"
    helper.write_text("import sys\ndef tell():\n    print('traced', file=sys.stderr)\n")
    text = parts.read_text().replace(
        "    chosen = jax.vmap(", "    my_helper.tell()\n    chosen = jax.vmap("
    )
    parts.write_text(f"import my_helper\n{text}")
    environment = {"PYTHONPATH": f"{ROOT}:{own}", "XDG_CACHE_HOME": str(tmp_path / "cache")}

    def traced(name):
        result = run_program(
            f"--config={own / 'my_config.py'}", *SHORT, f"--workdir={own / name}", **environment
        )
        assert result.returncode == 0, result.stderr
        return result.stderr.count("traced\n")

    checked = 1  # its form is checked at every start
    assert traced("first") > checked
    assert traced("second") == checked
    assert_same_end(own / "first", own / "second")
    helper.write_text(helper.read_text() + "factor = 2\n")
    assert traced("third") > checked
    parts.write_text(parts.read_text() + "# another line\n")
    assert traced("fourth") > checked


@pytest.mark.slow
def test_a_run_is_the_same_bit_for_bit_where_nothing_is_kept(run_program, tiny_flags, tmp_path):
    kept, not_kept = tmp_path / "kept", tmp_path / "not kept"
    assert run_program(*tiny_flags, f"--workdir={kept}").returncode == 0
    call = "import sys; from jaxcifar import main; sys.exit(main.main(sys.argv))"
    command = [sys.executable, "-c", call, *tiny_flags, f"--workdir={not_kept}"]
    one_device = {"XLA_FLAGS": "--xla_force_host_platform_device_count=1"}
    subprocess.run(command, cwd=ROOT, check=True, env=os.environ | one_device)
    assert_same_end(kept, not_kept)

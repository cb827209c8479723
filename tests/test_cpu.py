"""Convolutions in oneDNN, and the calls to them from XLA's programs."""

import ctypes
import functools
import os
import platform
import re
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcifar.cpu import foreign, onednn
from jaxcifar.devices.cpu_facts import bfloat16_is_quicker, multiplies_bfloat16
from jaxcifar.models import convolution
from jaxcifar.models.convolution import Window, convolve, convolve_and_finish, library
from jaxcifar.models.layers import gelu, identity, relu, relu6
from tests.test_models import compiled, relative, seconds

ONE = Window(pads=((1, 1), (1, 1)))


def convolve_by(library):
    return lambda images, kernel: convolve(images, kernel, ONE, library)


by_onednn = convolve_by("onednn")


def gradients(images, kernel):
    return jax.grad(lambda *x: (by_onednn(*x) ** 2).sum(), (0, 1))(images, kernel)


def test_the_default_install_has_it_on_linux_on_x86():
    linux_on_x86 = sys.platform == "linux" and platform.machine() == "x86_64"
    assert onednn.available(jnp.float32) == linux_on_x86
    assert onednn.available(jnp.bfloat16) == (linux_on_x86 and multiplies_bfloat16())
    assert not onednn.available(jnp.float64)


@pytest.fixture
def arrays():
    if not onednn.available(jnp.float32):
        pytest.skip("needs oneDNN")
    jax.clear_caches()  # of what was traced without it
    keys = jax.random.split(jax.random.key(0))
    return jax.random.normal(keys[0], (64, 32, 32, 32)), jax.random.normal(keys[1], (3, 3, 32, 32))


@pytest.mark.parametrize(
    "avx512, kernel_size, inward, outward, size, left",
    [
        (True, 3, 64, 64, 32, False),
        (False, 3, 64, 64, 32, True),
        (False, 1, 64, 64, 32, False),
        (False, 3, 48, 64, 32, False),
        (False, 3, 64, 48, 32, False),
        (False, 3, 64, 64, 4, False),
    ],
)
def test_nothing_is_left_to_xla_but_large_kernels_gradients_without_avx_512(
    arrays, monkeypatch, avx512, kernel_size, inward, outward, size, left
):
    monkeypatch.setattr(convolution, "has_avx512", lambda: avx512)
    images = jnp.ones((32, size, size, inward))
    kernel = jnp.ones((kernel_size, kernel_size, inward, outward))
    text = compiled(gradients, images, kernel).as_text()
    assert all(f'"jaxcifar_onednn_{kind}"' in text for kind in ("forward", "images"))
    assert (" convolution(" in text) == left


FORMS = {
    "plain": (16, 24, 3, Window(1, ((1, 1), (1, 1)))),
    "one pixel": (16, 24, 1, Window(2)),
    "a stem": (3, 16, 7, Window(2, ((3, 3), (3, 3)))),
    "groups": (12, 24, 3, Window(1, ((1, 1), (1, 1)), 3)),
    "groups, strided": (32, 16, 3, Window(2, ((0, 1), (0, 1)), 2)),
    "depthwise": (24, 24, 3, Window(1, ((1, 1), (1, 1)), 24)),
    "depthwise, strided": (17, 17, 3, Window(2, ((1, 1), (1, 1)), 17)),
    "depthwise, several": (8, 16, 5, Window(1, ((2, 2), (2, 2)), 8)),
}


@pytest.mark.usefixtures("arrays")
@pytest.mark.parametrize("size", [(8, 8), (9, 11), (3, 2)])
@pytest.mark.parametrize("form", FORMS)
def test_in_onednn_a_convolution_with_bias_and_its_gradients_are_near_xla_s_in_float64(form, size):
    inward, outward, kernel_size, window = FORMS[form]
    random = np.random.default_rng(0)
    kernel_shape = (kernel_size, kernel_size, inward // window.groups, outward)
    shapes = ((5, *size, inward), kernel_shape, (outward,))
    given = [random.normal(size=shape) for shape in shapes]

    def value_and_grads(library, images, kernel, bias):
        def loss(*x):
            result = convolve(*x[:2], window, library, x[2])
            return (result * jnp.sin(jnp.arange(result.size)).reshape(result.shape)).sum(), result

        return jax.value_and_grad(loss, (0, 1, 2), has_aux=True)(images, kernel, bias)

    ours = jax.jit(functools.partial(value_and_grads, "onednn"))
    given32 = [x.astype(np.float32) for x in given]
    text = ours.lower(*given32).as_text()
    calls = set(re.findall(r"@jaxcifar_onednn_(\w+)", text))
    assert {"biased", "images"} <= calls and calls & {"kernel", "forward"}
    assert "stablehlo.convolution" not in text
    with jax.enable_x64(True):
        exact = jax.jit(functools.partial(value_and_grads, "xla"))(*given)
        assert {leaf.dtype for leaf in jax.tree.leaves(exact)} == {jnp.dtype("float64")}
        exact = jax.device_get(exact)
    for our, expected in zip(*map(jax.tree.leaves, (ours(*given32)[1:], exact[1:])), strict=True):
        assert relative(our, expected) < 1e-5
    ((_, result), _), ((_, expected), _) = ours(*given32), exact
    assert relative(result, expected) < 1e-6


def test_a_depthwise_convolution_in_onednn_is_many_times_quicker_than_xla_s_own(arrays):
    images, window = jnp.tile(arrays[0][:16], (1, 1, 1, 2)), ONE._replace(groups=64)
    kernel = jnp.ones((3, 3, 1, 64))

    def gradients(images, kernel, convolve=lambda *x: convolve(*x, window, "onednn")):
        return jax.grad(lambda *x: (convolve(*x) ** 2).sum(), (0, 1))(images, kernel)

    plain = functools.partial(
        gradients,
        convolve=lambda images, kernel: jax.lax.conv_general_dilated(
            *(images, kernel, (1, 1), "SAME"),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=64,
        ),
    )
    products = functools.partial(gradients, convolve=lambda *x: convolve(*x, window, "xla"))
    by_onednn, by_products, by_xla = (
        seconds(compiled(function, images, kernel), images, kernel)
        for function in (gradients, products, plain)
    )
    assert 10 * by_onednn < by_xla and 3 * by_products < by_xla


def test_the_kernel_s_gradient_is_quicker_than_xla_s_default_and_as_quick_in_a_loop(arrays):
    images, kernel = arrays

    def gradient(kernel, images, convolve=by_onednn):
        return jax.vjp(lambda kernel: convolve(images, kernel), kernel)[1](images)[0]

    def twice_in_a_loop(kernel, images):
        return jax.lax.fori_loop(0, 2, lambda _, kernel: kernel + gradient(kernel, images), kernel)

    alone, looped = (compiled(function, kernel, images) for function in (gradient, twice_in_a_loop))
    by_xla = lambda *x: gradient(*x, convolve=convolve_by("xla"))
    plain = jax.jit(by_xla).lower(kernel, images).compile()
    assert seconds(alone, kernel, images) < seconds(plain, kernel, images)
    assert seconds(looped, kernel, images) < 2 * 2 * seconds(alone, kernel, images)


def test_what_falls_on_the_padding_of_small_images_is_left_out(arrays, monkeypatch):
    images = jnp.tile(arrays[0][:, :2, :2], (8, 1, 1, 8))
    kernel = jnp.tile(arrays[1], (1, 1, 8, 8))
    left_out = compiled(gradients, images, kernel)
    monkeypatch.setattr(onednn, "_padding_share", lambda *window: 0)
    jax.clear_caches()
    whole = compiled(gradients, images, kernel)
    assert seconds(left_out, images, kernel) < 0.8 * seconds(whole, images, kernel)


def test_bfloat16_is_left_to_xla_where_the_processor_does_not_multiply_it(arrays, monkeypatch):
    monkeypatch.setattr(onednn, "multiplies_bfloat16", lambda: False)
    assert library("auto", jnp.bfloat16) == "xla" and library("auto", jnp.float32) == "onednn"


@pytest.mark.parametrize("activation", [identity, relu, relu6, gelu])
def test_what_follows_a_convolution_is_done_in_the_same_pass(arrays, activation):
    images, kernel = arrays
    line = jax.random.normal(jax.random.key(2), (2, 32))
    finish = lambda images: convolve_and_finish(images, kernel, line, activation, ONE, "onednn")
    text = compiled(finish, images).as_text()
    assert '"jaxcifar_onednn_finished"' in text
    assert "fusion" not in text and '"jaxcifar_onednn_forward"' not in text
    exact = activation(by_onednn(images, kernel) * line[0] + line[1])
    assert relative(finish(images), exact) < 1e-6
    if onednn.available(jnp.bfloat16):
        rounded = finish(images.astype(jnp.bfloat16))
        assert rounded.dtype == jnp.bfloat16
        # Images, kernel and result are rounded.
        assert relative(rounded.astype(jnp.float32), exact) < 2**-7


@pytest.mark.skipif(not multiplies_bfloat16(), reason="needs AVX512-BF16")
def test_bfloat16_is_as_near_to_float32_as_its_last_digit_and_quicker_where_it_is_chosen(arrays):
    narrow = tuple(x.astype(jnp.bfloat16) for x in arrays)
    wide = tuple(x.astype(jnp.float32) for x in narrow)  # the same numbers
    results = [
        (by_onednn(*pair), *jax.vjp(by_onednn, *pair)[1](pair[0])) for pair in (narrow, wide)
    ]
    for rounded, exact in zip(*results, strict=True):
        assert rounded.dtype == jnp.bfloat16
        assert relative(rounded.astype(jnp.float32), exact) < 2**-8
    mixed = jax.vjp(lambda kernel: by_onednn(narrow[0], kernel), wide[1])[1](narrow[0])[0]
    assert relative(mixed, results[1][2]) < 1e-5  # a kernel in float32 has its gradient unrounded
    programs = [compiled(gradients, *pair) for pair in (narrow, wide)]
    took_narrow, took_wide = (seconds(p, *x) for p, x in zip(programs, (narrow, wide), strict=True))
    assert (took_narrow < took_wide) == bfloat16_is_quicker()


@pytest.mark.parametrize(
    "mapped, size",  # the smaller images are convolved by pixel
    [((0, None), 8), ((None, 0), 2), ((0, 0), 8)],
)
def test_mapped_over_images_kernels_or_both_each_result_equals_that_of_a_loop(arrays, mapped, size):
    images = arrays[0][..., :size, :size, :16].reshape(2, 2, 16, size, size, 16)
    kernels = arrays[1].reshape(3, 3, 2, 2, 16, 16).transpose(2, 3, 0, 1, 4, 5)
    like_images, like_kernel = (
        jax.ShapeDtypeStruct(x.shape[2:], x.dtype) for x in (images, kernels)
    )
    line = (jnp.ones(16), jnp.ones(16))

    def results(images, kernel, grad):
        return (
            onednn.convolve(images, kernel, ONE.strides, ONE.pads),
            onednn.images_grad(kernel, grad, like_images, ONE.strides, ONE.pads),
            onednn.kernel_grad(images, grad, like_kernel, ONE.strides, ONE.pads),
            convolve_and_finish(images, kernel, line, relu, ONE, "onednn"),
            gradients(images, kernel),
        )

    mapped = (*mapped, 0)
    given = [
        x if axis == 0 else x[0, 0]
        for x, axis in zip((images, kernels, images[::-1]), mapped, strict=True)
    ]
    nested = jax.jit(jax.vmap(jax.vmap(results, mapped), mapped))(*given)
    for i, j in np.ndindex(2, 2):
        some = [x if axis is None else x[i, j] for x, axis in zip(given, mapped, strict=True)]
        expected = jax.jit(results)(*some)
        errors = jax.tree.map(lambda x, one, at=(i, j): relative(x[at], one), nested, expected)
        assert max(jax.tree.leaves(errors)) < 1e-6


def python(script, **environment):
    command = [sys.executable, "-c", textwrap.dedent(script)]
    environment = os.environ | environment
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


def test_many_callers_share_one_team_of_threads(arrays):
    script = """
        import os, threading, jax, jax.numpy as jnp
        from jaxcifar.models.convolution import Window, convolve, library
        by = (Window(pads=((1, 1), (1, 1))), library("onednn", jnp.float32))
        images, kernel = jnp.ones((8, 8, 8, 16)), jnp.ones((3, 3, 16, 16))
        program = jax.jit(lambda *arrays: convolve(*arrays, *by).sum())
        threads = lambda: len(os.listdir("/proc/self/task"))
        def from_threads(count):
            callers = [threading.Thread(target=lambda: program(images, kernel).block_until_ready())
                       for _ in range(count)]
            for caller in callers: caller.start()
            for caller in callers: caller.join()
        from_threads(1)
        before = threads()
        from_threads(20)
        print(threads() - before)
    """
    result = python(script, OMP_NUM_THREADS="5", XLA_FLAGS="")
    assert int(result.stdout) < 4, result.stderr


@pytest.mark.parametrize("broken", ["not installed", "another C library"])
def test_without_the_library_convolutions_are_xla_s(monkeypatch, tmp_path, broken):
    if broken == "not installed":
        monkeypatch.setattr(onednn, "PACKAGE", "no-such-package")
    else:
        (tmp_path / "libdnnl.so.3").write_text("not a library")
        found = [
            type("File", (), {"name": "libdnnl.so.3", "locate": lambda: tmp_path / "libdnnl.so.3"})
        ]
        monkeypatch.setattr(onednn.importlib.metadata, "files", lambda package: found)
    assert onednn._start.__wrapped__() is False


def test_the_version_answered_is_one_of_which_the_installed_jaxlib_is_an_extension():
    header = Path(jax.ffi.include_dir(), "xla", "ffi", "api", "c_api.h").read_text()
    major, minor = (
        int(re.search(rf"#define XLA_FFI_API_{part} (\d+)", header)[1])
        for part in ("MAJOR", "MINOR")
    )
    assert foreign.VERSION[0] == major
    assert foreign.VERSION[1] <= minor


@pytest.mark.parametrize("refused", [(0, 99), (9, 0)])
def test_where_xla_refuses_the_version_it_convolves_and_one_line_says_so(
    monkeypatch, capsys, refused
):
    monkeypatch.setattr(foreign, "VERSION", refused)
    monkeypatch.setattr(onednn, "_target", lambda kind: f"test_refused_{kind}")
    monkeypatch.setattr(onednn, "_start", functools.cache(onednn._start.__wrapped__))
    jax.clear_caches()
    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(library, ["auto"] * 16, [jnp.float32] * 16)) == {"xla"}
    said = capsys.readouterr().err
    assert re.fullmatch(r"warning: XLA's foreign function .*\(\d\.\d+\).*: XLA convolves\n", said)
    assert "{}.{}".format(*refused) in said


def test_a_function_that_xla_refuses_does_not_keep_the_backend_from_starting():
    """A starting backend asks for the versions of all registered functions, and fails if it refuses one."""
    script = """
        from jaxcifar.cpu import foreign
        foreign.VERSION = (9, 0)
        try:
            foreign.register("test_early", print)
        except Exception as error:
            print(type(error).__name__)
        import jax
        print(jax.devices()[0].platform)
    """
    result = python(script)
    assert result.stdout.split() == ["JaxRuntimeError", "cpu"], result.stderr


@pytest.mark.parametrize("missing", [8, 0])
def test_a_frame_that_ends_early_is_an_error_and_is_not_read_on(missing):
    called, errors = [], []
    foreign.register("test_frame" + "_short" * bool(missing), lambda *call: called.append(call))
    create_error = foreign._CREATE_ERROR(lambda error: errors.append(error.contents.message) or 1)
    api = foreign._Api(create_error=create_error)
    frame = foreign._Frame(size_of_struct=ctypes.sizeof(foreign._Frame) - missing)
    frame.api = ctypes.pointer(api)
    numbers = foreign._Numbers()
    frame.attributes.values = (ctypes.c_void_p * 1)(ctypes.addressof(numbers))
    foreign._handlers[-1](ctypes.byref(frame))
    assert bool(called) == (not missing)
    assert errors == ([b"test_frame_short: XLA's frame has 160 bytes, not 168"] if missing else [])


def test_a_program_that_ends_while_it_convolves_ends_in_peace(arrays):
    """The dispatch is under way when the interpreter begins to shut down."""
    script = """
        import jax, jax.numpy as jnp
        from jaxcifar.models.convolution import Window, convolve, library
        by = (Window(pads=((1, 1), (1, 1))), library("onednn", jnp.float32))
        images, kernel = jnp.ones((256, 32, 32, 32)), jnp.ones((3, 3, 32, 32))
        @jax.jit
        def many(images, kernel):
            for _ in range(10):
                images = convolve(images, kernel, *by)
            return images
        many(images, kernel).block_until_ready()
        many(images, kernel)
    """
    result = python(script)
    assert (result.returncode, result.stdout) == (0, ""), result.stderr


def test_an_exception_in_a_call_is_an_error_of_the_program():
    def wrong(arguments, results, numbers):
        raise ValueError(f"{arguments[0].shape} and {list(numbers)}")

    foreign.register("test_wrong", wrong)
    call = jax.ffi.ffi_call("test_wrong", jax.ShapeDtypeStruct((2,), jnp.float32))
    with pytest.raises(jax.errors.JaxRuntimeError, match=r"ValueError: \(2, 3\) and \[7, 8\]"):
        call(jnp.ones((2, 3)), numbers=np.array([7, 8], np.int64)).block_until_ready()


def test_an_impossible_convolution_is_an_error_of_the_program(arrays):
    images, kernel = arrays
    with pytest.raises(jax.errors.JaxRuntimeError, match="dnnl_convolution_forward"):
        onednn.convolve(images, kernel[:, :, :5], ONE.strides, ONE.pads).block_until_ready()
    assert relative(*(onednn.convolve(*arrays, ONE.strides, ONE.pads) for _ in range(2))) == 0

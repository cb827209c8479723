"""Counts the floating-point operations of a function, from its jaxpr."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.extend import core


def count_flops(function: Callable, *args: Any) -> int:
    """Return the floating-point operations of the convolutions and matrix products in `function(*args)`.

    A multiplication and an addition are two. Products with padding and with the zeros of a dilation are
    left out. A `cond` counts as its most expensive branch, a `scan` as its body times its length, and
    the body of a `while` once. The count is the same on every platform.

    Args:
      function: to be traced.
      args: arrays, or `jax.ShapeDtypeStruct`.
    """
    return _jaxpr_flops(jax.make_jaxpr(function)(*args).jaxpr)


def _jaxpr_flops(jaxpr: core.Jaxpr) -> int:
    return sum(_equation_flops(equation) for equation in jaxpr.eqns)


def _equation_flops(equation: Any) -> int:
    match equation.primitive.name:
        case "conv_general_dilated":
            return _convolution_flops(equation)
        case "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            depth = math.prod(shape[axis] for axis in contracted)
            return 2 * depth * math.prod(equation.outvars[0].aval.shape)
        case "cond":
            return max(_jaxpr_flops(branch.jaxpr) for branch in equation.params["branches"])
    inner = sum(map(_jaxpr_flops, _jaxprs_in(equation.params.values())))
    return inner * (equation.params["length"] if equation.primitive.name == "scan" else 1)


def _jaxprs_in(values: Any) -> Iterator[core.Jaxpr]:
    for value in values:
        if isinstance(value, core.ClosedJaxpr):
            yield value.jaxpr
        elif isinstance(value, core.Jaxpr):
            yield value
        elif isinstance(value, list | tuple):
            yield from _jaxprs_in(value)


def _convolution_flops(equation: Any) -> int:
    params = equation.params
    images, kernel = (variable.aval.shape for variable in equation.invars)
    output = equation.outvars[0].aval.shape
    numbers = params["dimension_numbers"]
    products = output[numbers.out_spec[0]] * output[numbers.out_spec[1]]
    products *= kernel[numbers.rhs_spec[1]]  # input channels of one group
    windows = zip(
        (images[axis] for axis in numbers.lhs_spec[2:]),
        (kernel[axis] for axis in numbers.rhs_spec[2:]),
        (output[axis] for axis in numbers.out_spec[2:]),
        params["window_strides"],
        params["padding"],
        params["lhs_dilation"],
        params["rhs_dilation"],
        strict=True,
    )
    for size, taps, count, stride, (low, _), image_dilation, kernel_dilation in windows:
        at = stride * np.arange(count)[:, None] + kernel_dilation * np.arange(taps) - low
        is_pixel = (at >= 0) & (at < size * image_dilation) & (at % image_dilation == 0)
        products *= int(is_pixel.sum())
    return 2 * products

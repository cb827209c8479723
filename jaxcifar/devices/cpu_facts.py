"""The processor: its name, and what it computes quickly."""

import functools
import os
import platform
from pathlib import Path

from jaxcifar.host.output import counted


def describe() -> str:
    """Return the processor's name, its vectors and how many cores this program may use."""
    name = platform.processor() or platform.machine()
    if (info := Path("/proc/cpuinfo")).exists():
        lines = info.read_text().splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        name = names[0] if names else name
    vectors = " (AVX-512)" if has_avx512() else ""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}{vectors}, {counted(count or 1, 'core')}"


def multiplies_bfloat16() -> bool:
    """Return whether the processor multiplies bfloat16 itself (AVX512-BF16)."""
    return "avx512_bf16" in _words()


def bfloat16_is_quicker() -> bool:
    """Return whether the processor multiplies bfloat16 faster than float32.

    With AMD's AVX512-BF16 it does; with Intel's, oneDNN convolves at half the rate. With AMX it is
    assumed to; this has not been measured.
    """
    return "amx_bf16" in _words() or (multiplies_bfloat16() and "AuthenticAMD" in _words())


def has_avx512() -> bool:
    """Return whether the processor has vectors of 512 bits."""
    return "avx512f" in _words()


@functools.cache  # asked for each convolution; the file is long where there are many cores
def _words():
    info = Path("/proc/cpuinfo")
    return frozenset(info.read_text().split()) if info.exists() else frozenset()

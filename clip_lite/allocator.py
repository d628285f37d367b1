"""How the C library hands out memory to training on a CPU."""

from __future__ import annotations

import ctypes
import ctypes.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h
DEFAULTS = {M_TRIM_THRESHOLD: 128 * 1024, M_MMAP_MAX: 65536}
KEEPING = {M_TRIM_THRESHOLD: 2**31 - 1, M_MMAP_MAX: 0}


@contextmanager
def kept_memory() -> Iterator[None]:
    """Inside, glibc keeps what tensors free; at the end it gives all of it back to the system.

    Activations and gradients of a step have the sizes of the last step's. By default large blocks go back
    to the system when they are freed, and each new one is cleared page by page as it is first touched; that
    was a fifth of a training step. Other C libraries are left as they are.
    """
    libc = _glibc()
    if libc is None:
        yield
        return
    _set(libc, KEEPING)
    try:
        yield
    finally:
        _set(libc, DEFAULTS)
        libc.malloc_trim(0)


def _set(libc: Any, options: dict[int, int]) -> None:
    for option, value in options.items():
        libc.mallopt(option, value)


def _glibc() -> Any | None:
    """The C library, if it is one that can be told."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        libc = ctypes.CDLL(ctypes.util.find_library("c"))
        libc.mallopt, libc.malloc_trim  # noqa: B018
    except (AttributeError, OSError, TypeError):
        return None
    return libc

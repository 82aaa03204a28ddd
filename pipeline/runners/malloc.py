"""How the C library keeps freed memory (glibc's malloc; with another one, all of this does nothing).

Beam's runner and its workers have some twenty threads each, which hand references and rows on, megabytes at
a time. glibc gives each thread an arena of its own, and no other can use what is free in that.
"""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # from malloc.h
_LARGEST_THRESHOLD = 1 << 25


def share_freed_memory() -> None:
    """One arena for all threads, of this process and of those that it starts from now on."""
    _set(_ARENA_MAX, 1)
    os.environ["MALLOC_ARENA_MAX"] = "1"


@contextmanager
def freed_memory_given_back() -> Iterator[None]:
    """For a process that hands on and does not compute: torch would take twice the time meanwhile."""
    _set(_MMAP_THRESHOLD, 1 << 20)
    try:
        yield
    finally:  # what glibc itself arrives at where large blocks are freed
        _set(_MMAP_THRESHOLD, _LARGEST_THRESHOLD)
        _set(_TRIM_THRESHOLD, 2 * _LARGEST_THRESHOLD)


def _set(parameter: int, value: int) -> None:
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(parameter, value)

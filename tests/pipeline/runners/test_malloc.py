"""In processes of their own: what is set stays set."""

import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")

ARENAS = """
import ctypes, tempfile, threading
from pipeline.runners.malloc import share_freed_memory
if {shared}: share_freed_memory()
held, all_hold = [], threading.Barrier(8)
def hold():
    all_hold.wait()
    held.append([bytes(5_000) for _ in range(100)])
    all_hold.wait()
threads = [threading.Thread(target=hold) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
with tempfile.NamedTemporaryFile("r") as report:
    file = ctypes.c_void_p(libc.fopen(report.name.encode(), b"w"))
    libc.malloc_info(0, file)
    libc.fclose(file)
    print(report.read().count("<heap "))
"""

MAPPED = """
import ctypes
from pipeline.runners.malloc import freed_memory_given_back
class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "arena ordblks smblks hblks hblkhd a b c d e".split()]
libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Info
def mapped():
    before = libc.mallinfo2().hblkhd
    block = bytearray(2 << 20)
    return libc.mallinfo2().hblkhd - before >= len(block)
with freed_memory_given_back():
    print(mapped())
print(mapped())
"""


def printed(script: str) -> list[str]:
    command = [sys.executable, "-c", script]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


def test_threads_share_an_arena(monkeypatch: pytest.MonkeyPatch) -> None:
    # Set where a test before this one has compressed something in this process.
    monkeypatch.delenv("MALLOC_ARENA_MAX", raising=False)
    assert int(printed(ARENAS.format(shared=False))[0]) > 1
    assert printed(ARENAS.format(shared=True)) == ["1"]


def test_large_blocks_are_given_back_meanwhile_and_kept_afterwards() -> None:
    assert printed(MAPPED) == ["True", "False"]

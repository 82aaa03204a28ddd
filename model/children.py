"""Child processes that work for the threads of this one, and messages between both, in bytes: no pickle."""

import os
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Generic, TypeVar

import model

_LENGTH = struct.Struct(">Q")
_MOST_PART = 1 << 30


class BrokenMessageError(ConnectionError):
    """The other side has ended, or says what it never should."""


def send(stream: IO[bytes], *parts: bytes | memoryview) -> None:
    """Writes one message: some parts, each after its length."""
    for part in parts:
        stream.write(_LENGTH.pack(len(part)))
        stream.write(part)
    stream.flush()


def receive(stream: IO[bytes], most: int = _MOST_PART) -> bytearray:
    """Reads one part.

    Raises:
        BrokenMessageError: it is cut off, or longer than `most`.
    """
    (length,) = _LENGTH.unpack(_exactly(stream, _LENGTH.size))
    if length > most:
        raise BrokenMessageError(f"{length} bytes, where at most {most} are expected")
    return _exactly(stream, length)


def _exactly(stream: IO[bytes], length: int) -> bytearray:
    content = bytearray(length)
    view, position = memoryview(content), 0
    while position < length:
        count = stream.readinto(view[position:])  # type: ignore[attr-defined]
        if not count:
            raise BrokenMessageError(f"cut off after {position} of {length} bytes")
        position += count
    return content


class Child:
    """A process that runs a module of this package. One thread uses it at a time.

    It is no `multiprocessing` process: those import the program that started them once more.

    Args:
        module: reads requests from its standard input until that ends, and answers to the file descriptor
            that is its first argument. Whatever prints to standard output spoils no answer.
        arguments: the module's others.
    """

    def __init__(self, module: str, *arguments: str) -> None:
        search = [str(Path(model.__file__ or "").parents[1]), os.environ.get("PYTHONPATH", "")]
        few_threads = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        answers, its_answers = os.pipe()
        self.process = subprocess.Popen(
            # -P: whatever is in the current folder
            [sys.executable, "-P", "-m", module, str(its_answers), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **few_threads, "PYTHONPATH": os.pathsep.join(filter(None, search))},
            pass_fds=[its_answers],
            start_new_session=True,  # Ctrl-C is meant for the run
        )
        os.close(its_answers)
        assert self.process.stdin is not None
        self.requests, self.answers = self.process.stdin, os.fdopen(answers, "rb")

    def is_fit(self) -> bool:
        """Whether it may be used again."""
        return self.process.poll() is None

    def close(self) -> None:
        """Ends it."""
        self.process.kill()
        self.process.wait()
        for stream in (self.requests, self.answers):
            with suppress(OSError):  # what could not be written
                stream.close()


AnyChild = TypeVar("AnyChild", bound=Child)


class Children(Generic[AnyChild]):
    """As many children as threads ask at a time.

    Args:
        start: makes one.
    """

    def __init__(self, start: Callable[[], AnyChild]) -> None:
        self._start = start
        self._idle = deque[AnyChild]()  # whose `append` and `pop` are safe in threads

    def take(self) -> AnyChild:
        """One for this thread, until it gives it back."""
        with suppress(IndexError):  # none is idle
            while not (child := self._idle.pop()).is_fit():
                child.close()
            return child
        return self._start()

    def give_back(self, child: AnyChild) -> None:
        """For other threads, unless it is not fit any more."""
        if child.is_fit():
            self._idle.append(child)
        else:
            child.close()

    def close(self) -> None:
        """Ends those that are idle."""
        while self._idle:
            self._idle.pop().close()

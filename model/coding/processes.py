"""`range_coder` in child processes: here it would hold Python's lock, which the threads that feed a GPU need.

What goes to a child and comes back, in parts (see `model.children`):

    "encode", then of each step distances and shapes, at the end ""      the stream
    "decode", the stream                                                 an error or ""
              then of each step shapes, at the end ""                    an error or "", distances
"""

import atexit
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import IO, TypeVar

import numpy as np

from model.children import Child, Children, receive, send
from model.coding.range_coder import Integers, StreamReader
from model.coding.range_coder import encode as encode_here

_ENCODE, _DECODE = b"encode", b"decode"
Result = TypeVar("Result")


def encode(steps: Sequence[tuple[Integers, Integers]]) -> bytes:
    """`range_coder.encode` in a child of this process.

    Raises:
        RuntimeError: two children ended over it.
    """
    return _pool(os.getpid()).work(lambda child: _encode_there(child, steps))


def decode(stream: bytes, work: Callable[["RemoteReader"], Result]) -> Result:
    """What some work reads from a stream, in a child of this process; once more where that ends.

    Raises:
        ValueError: see `StreamReader`.
        RuntimeError: two children ended over it.
    """
    return _pool(os.getpid()).work(lambda child: work(RemoteReader(child, stream)))


class RemoteReader:
    """A `StreamReader` in a child."""

    def __init__(self, child: Child, stream: bytes) -> None:
        self._child = child
        send(child.requests, _DECODE, stream)
        self._check()

    def read(self, shape: Integers) -> Integers:
        """See `StreamReader`."""
        send(self._child.requests, _buffer(shape))
        self._check()
        return np.frombuffer(receive(self._child.answers), np.int16)

    def finish(self) -> None:
        """See `StreamReader`."""
        send(self._child.requests, b"")
        self._check()

    def _check(self) -> None:
        if error := receive(self._child.answers):
            raise ValueError(error.decode())


class CoderPool(Children[Child]):
    """As many children as threads ask at a time, but no more than there are processors."""

    def __init__(self) -> None:
        super().__init__(lambda: Child("model.coding.processes"))
        self._free = threading.Semaphore(os.cpu_count() or 1)

    def work(self, task: Callable[[Child], Result]) -> Result:
        """Does a task with a child; see `decode`."""
        with self._free:
            with suppress(ConnectionError):  # the system may have killed it for others' memory
                return self._try(task)
            try:
                return self._try(task)
            except ConnectionError as error:
                raise RuntimeError(f"two coder processes ended, the second: {error}") from error

    def _try(self, task: Callable[[Child], Result]) -> Result:
        child = self.take()
        try:
            return task(child)
        except BaseException:
            child.close()  # it may wait for the rest of a stream
            raise
        finally:
            self.give_back(child)


@lru_cache(maxsize=1)
def _pool(_process: int) -> CoderPool:
    """The pool of one process: one that was forked must not talk to its parent's children."""
    pool = CoderPool()
    atexit.register(pool.close)
    return pool


def _encode_there(child: Child, steps: Sequence[tuple[Integers, Integers]]) -> bytes:
    send(child.requests, _ENCODE)
    for distance, shape in steps:
        if len(distance):  # nothing stands for the end
            send(child.requests, _buffer(distance), _buffer(shape))
    send(child.requests, b"")
    return bytes(receive(child.answers))


def _buffer(numbers: Integers) -> memoryview:
    """To be sent as it is: pickling would hold the lock."""
    return np.ascontiguousarray(numbers).data.cast("B")


def main() -> None:
    """Of the child: ends with its parent, whose end of the pipes closes then."""
    requests, answers = sys.stdin.buffer, os.fdopen(int(sys.argv[1]), "wb")
    with suppress(ConnectionError):
        while True:
            if receive(requests) == _ENCODE:
                send(answers, encode_here(_steps(requests)))
            else:
                _decode_for(requests, answers)


def _steps(requests: IO[bytes]) -> Iterator[tuple[Integers, Integers]]:
    while distance := receive(requests):
        yield np.frombuffer(distance, np.int16), np.frombuffer(receive(requests), np.int16)


def _decode_for(requests: IO[bytes], answers: IO[bytes]) -> None:
    try:
        reader = StreamReader(bytes(receive(requests)))
        send(answers, b"")
        while shape := receive(requests):
            distances = reader.read(np.frombuffer(shape, np.int16))
            send(answers, b"", _buffer(distances))
        reader.finish()
        send(answers, b"")
    except ValueError as error:
        send(answers, str(error).encode())


if __name__ == "__main__":
    main()

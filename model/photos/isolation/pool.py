"""A few child processes that decode photos, for the threads of this process."""

import atexit
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import model
from model.format.limits import MAX_PIXELS
from model.photos.errors import UnreadablePhotoError
from model.photos.isolation.messages import BrokenMessageError, receive_photo, send
from model.photos.reading import DecodedPhoto

# The largest photo takes some 16 bytes a pixel on its way: 134 megapixels, 2.1 GB.
MEMORY_BYTES = 4 << 30
SECONDS = float(os.environ.get("RGC_DECODE_SECONDS", "120"))
_PHOTOS_A_CHILD = 1000  # what leaks in decoders goes with their process
_MODULE = "model.photos.isolation.child"


class _ChildEndedError(UnreadablePhotoError):
    """Attributes: is_late: it was ended, since it took too long."""

    def __init__(self, reason: str, is_late: bool) -> None:
        super().__init__(reason)
        self.is_late = is_late


class _Child:
    """One process, used by one thread at a time."""

    def __init__(self, memory_bytes: int, seconds: float) -> None:
        self._seconds = seconds
        self._photos = 0
        search = [str(Path(model.__file__ or "").parents[1]), os.environ.get("PYTHONPATH", "")]
        few_threads = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", _MODULE, str(memory_bytes), str(int(seconds))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **few_threads, "PYTHONPATH": os.pathsep.join(filter(None, search))},
            start_new_session=True,  # Ctrl-C is meant for the run
        )

    def is_fresh(self) -> bool:
        """Whether the last photo was its first one."""
        return self._photos == 1

    def is_fit(self) -> bool:
        return self._process.poll() is None and self._photos < _PHOTOS_A_CHILD

    def read(self, data: bytes) -> DecodedPhoto:
        """Raises UnreadablePhotoError, a _ChildEndedError if it was not the child that said so."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._photos += 1
        is_late = threading.Event()

        def end() -> None:
            is_late.set()
            self._process.kill()

        timer = threading.Timer(self._seconds, end)
        timer.start()
        try:
            send(self._process.stdin, data)
            answer = receive_photo(self._process.stdout, MAX_PIXELS)
        except (BrokenMessageError, OSError) as error:
            raise self._ended(is_late.is_set()) from error
        except BaseException:  # what is left of the answer must not be the next photo's
            self._process.kill()
            raise
        finally:
            timer.cancel()
        if isinstance(answer, str):
            raise UnreadablePhotoError(answer)
        return answer

    def _ended(self, is_late: bool) -> _ChildEndedError:
        self._process.kill()
        status = self._process.wait()
        if is_late or status == -signal.SIGXCPU:
            reason = f"its decoder took more than {self._seconds:g} seconds and was ended"
            return _ChildEndedError(reason, is_late=True)
        name = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        return _ChildEndedError(f"its decoder crashed ({name})", is_late=False)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(OSError):  # what could not be written
                    stream.close()


class DecoderPool:
    """As many children as threads ask at a time.

    Args:
        memory_bytes, seconds: what one photo may take, of a child's memory and of time.
    """

    def __init__(self, memory_bytes: int = MEMORY_BYTES, seconds: float = SECONDS) -> None:
        self._limits = memory_bytes, seconds
        self._idle = deque[_Child]()  # whose `append` and `pop` are safe in threads

    def read(self, data: bytes) -> DecodedPhoto:
        """`read_photo` in a child.

        Raises:
            UnreadablePhotoError: as `read_photo`; or the decoder crashed, or took too much time or memory.
        """
        child = self._take()
        while True:
            try:
                return child.read(data)
            except _ChildEndedError as error:
                # The system may have killed it for others' memory, while it was idle for one.
                if child.is_fresh() or error.is_late:
                    raise
            finally:
                self._give_back(child)
            child = _Child(*self._limits)

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    def _take(self) -> _Child:
        with suppress(IndexError):  # none is idle
            while not (child := self._idle.pop()).is_fit():
                child.close()
            return child
        return _Child(*self._limits)

    def _give_back(self, child: _Child) -> None:
        if child.is_fit():
            self._idle.append(child)
        else:
            child.close()


def read_photo_in_child(data: bytes) -> DecodedPhoto:
    """`DecoderPool.read` of a pool that this process keeps until it ends."""
    return _pool(os.getpid()).read(data)


@lru_cache(maxsize=1)
def _pool(_process: int) -> DecoderPool:
    """The pool of one process: one that was forked must not talk to its parent's children."""
    pool = DecoderPool()
    atexit.register(pool.close)
    return pool

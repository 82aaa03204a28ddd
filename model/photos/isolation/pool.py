"""A few child processes that decode photos, for the threads of this process."""

import atexit
import os
import signal
import threading
from functools import lru_cache, partial

from model.children import Child, Children, send
from model.format.limits import MAX_PIXELS
from model.photos.errors import UnreadablePhotoError
from model.photos.isolation.messages import receive_photo
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


class _Child(Child):
    def __init__(self, memory_bytes: int, seconds: float) -> None:
        super().__init__(_MODULE, str(memory_bytes), str(int(seconds)))
        self._seconds = seconds
        self._photos = 0

    def is_fresh(self) -> bool:
        """Whether the last photo was its first one."""
        return self._photos == 1

    def is_fit(self) -> bool:
        return super().is_fit() and self._photos < _PHOTOS_A_CHILD

    def read(self, data: bytes) -> DecodedPhoto:
        """Raises UnreadablePhotoError, a _ChildEndedError if it was not the child that said so."""
        self._photos += 1
        is_late = threading.Event()

        def end() -> None:
            is_late.set()
            self.process.kill()

        timer = threading.Timer(self._seconds, end)
        timer.start()
        try:
            send(self.requests, data)
            answer = receive_photo(self.answers, MAX_PIXELS)
        except OSError as error:
            raise self._ended(is_late.is_set()) from error
        except BaseException:  # what is left of the answer must not be the next photo's
            self.process.kill()
            raise
        finally:
            timer.cancel()
        if isinstance(answer, str):
            raise UnreadablePhotoError(answer)
        return answer

    def _ended(self, is_late: bool) -> _ChildEndedError:
        self.process.kill()
        status = self.process.wait()
        if is_late or status == -signal.SIGXCPU:
            reason = f"its decoder took more than {self._seconds:g} seconds and was ended"
            return _ChildEndedError(reason, is_late=True)
        name = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        return _ChildEndedError(f"its decoder crashed ({name})", is_late=False)


class DecoderPool(Children[_Child]):
    """As many children as threads ask at a time.

    Args:
        memory_bytes, seconds: what one photo may take, of a child's memory and of time.
    """

    def __init__(self, memory_bytes: int = MEMORY_BYTES, seconds: float = SECONDS) -> None:
        super().__init__(partial(_Child, memory_bytes, seconds))

    def read(self, data: bytes) -> DecodedPhoto:
        """`read_photo` in a child.

        Raises:
            UnreadablePhotoError: as `read_photo`; or the decoder crashed, or took too much time or memory.
        """
        child = self.take()
        while True:
            try:
                return child.read(data)
            except _ChildEndedError as error:
                # The system may have killed it for others' memory, while it was idle for one.
                if child.is_fresh() or error.is_late:
                    raise
            finally:
                self.give_back(child)
            child = self._start()


def read_photo_in_child(data: bytes) -> DecodedPhoto:
    """`DecoderPool.read` of a pool that this process keeps until it ends."""
    return _pool(os.getpid()).read(data)


@lru_cache(maxsize=1)
def _pool(_process: int) -> DecoderPool:
    """The pool of one process: one that was forked must not talk to its parent's children."""
    pool = DecoderPool()
    atexit.register(pool.close)
    return pool

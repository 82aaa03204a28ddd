"""Ctrl-C and SIGTERM: once, a run stops after the photos at hand; twice, at once."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
EXIT_STATUS = 128 + signal.SIGINT


@contextmanager
def on_interrupt(first: Callable[[], None], second: Callable[[], None]) -> Iterator[None]:
    """Within its context, calls `first` on the first signal; on the second, `second`, then exits.

    Both are called in a thread of their own. Threads that libraries made may get the signal, and
    the main thread may be waiting in C: but whichever gets it, Python writes its number to a pipe.
    (A terminal sends Ctrl-C to worker processes too; they are started to ignore it: see `worker_command`.)
    Call it in the main thread.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    closed = b"\0"

    def watch() -> None:
        if os.read(reader, 1) == closed:
            return
        first()
        if os.read(reader, 1) == closed:
            return
        second()
        os._exit(EXIT_STATUS)

    handlers = [signal.signal(number, lambda *_: None) for number in _SIGNALS]
    wakeup = signal.set_wakeup_fd(writer)
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup)
        os.write(writer, closed)
        watcher.join()
        for number, handler in zip(_SIGNALS, handlers, strict=True):
            signal.signal(number, handler)
        os.close(reader)
        os.close(writer)

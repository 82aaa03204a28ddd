"""Ctrl-C and SIGTERM: once, a run stops after the photos in progress; twice, at once."""

import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

EXIT_STATUS = 128 + signal.SIGINT
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SECONDS_BETWEEN_LOOKS = 0.1
Result = TypeVar("Result")


def run_interruptibly(
    work: Callable[[], Result], first: Callable[[], None], second: Callable[[], None]
) -> Result:
    """Does `work` in a thread; calls `first` on the first signal; on the second, `second`, then exits.

    Python handles signals in the main thread, as soon as that is not in C code. So the main thread only
    waits, and wakes often: another thread may have got the signal. A terminal sends Ctrl-C to worker
    processes, too; they ignore it, see `worker_command`.
    """
    received = 0

    def handle(*_: object) -> None:
        nonlocal received
        received += 1
        if received == 1:
            first()
        else:
            second()
            os._exit(EXIT_STATUS)

    handlers = [signal.signal(number, handle) for number in _SIGNALS]
    try:
        with ThreadPoolExecutor(1) as thread:
            done = thread.submit(work)
            while not wait([done], _SECONDS_BETWEEN_LOOKS).done:
                pass
            return done.result()
    finally:
        for number, handler in zip(_SIGNALS, handlers, strict=True):
            signal.signal(number, handler)

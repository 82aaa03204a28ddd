"""A map whose function works in threads, beside what comes before and after it."""

import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms.window import GlobalWindows

from transforms.counters import WAITED, count_retries

PREFETCHED_PHOTOS = 2  # each holds its pixels in memory


class ThreadedMap(beam.DoFn):
    """Like `beam.Map`, but in threads: while a result is used, and while the next elements are made.

    Results come in the elements' order. One that is a `TaggedOutput` goes where its tag says. Elements are
    in the global window.

    Args:
        prefetch: elements that are started before their turn, each in a thread of its own; 0 for none, None
            for as many as the worker has processors.
        stop_path: once a file is there, elements are dropped.
    """

    def __init__(
        self, function: Callable[[Any], Any], prefetch: int | None, stop_path: str | None = None
    ) -> None:
        self._function = function
        self._wanted = prefetch
        self._stop_path = stop_path

    def setup(self) -> None:
        self._prefetch = (os.cpu_count() or 1) if self._wanted is None else self._wanted
        self._threads = ThreadPoolExecutor(max(self._prefetch, 1))

    def start_bundle(self) -> None:
        self._started: deque[Future[list[Any]]] = deque()

    def process(self, element: Any) -> Iterator[Any]:
        self._started.append(self._threads.submit(self._apply, element))
        if len(self._started) > self._prefetch:
            yield from self._next()

    def finish_bundle(self) -> Iterator[Any]:
        while self._started:
            yield from map(windowed, self._next())

    def teardown(self) -> None:
        self._threads.shutdown()

    def _apply(self, element: Any) -> list[Any]:
        stopped = self._stop_path is not None and os.path.exists(self._stop_path)
        return [] if stopped else [self._function(element)]

    def _next(self) -> list[Any]:
        started = time.monotonic()
        results = self._started.popleft().result()
        WAITED.inc(int((time.monotonic() - started) * 1e6))
        count_retries()
        return results


def windowed(result: Any) -> Any:
    """A result as Beam wants it of `finish_bundle`."""
    if isinstance(result, TaggedOutput):
        return TaggedOutput(result.tag, windowed(result.value))
    return GlobalWindows.windowed_value_at_end_of_window(result)

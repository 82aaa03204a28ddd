"""Work that is done in threads, ahead of where its results are needed."""

import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms.window import GlobalWindows

LOADED_AHEAD = 2  # photos; each holds its pixels in memory
WAITED = Metrics.counter("rgc", "microseconds_waited")


class MapAhead(beam.DoFn):
    """`function` of each element, in threads, while results before it are being used; in the elements' order.

    A result that is a `TaggedOutput` goes where its tag says. Elements are in the global window.

    Args:
        ahead: elements that are begun before their turn, each in a thread of its own; 0 for one at a time.
        stop_path: once a file is there, elements are passed over: nothing comes of them.
    """

    def __init__(self, function: Callable[[Any], Any], ahead: int, stop_path: str | None = None) -> None:
        self._function = function
        self._ahead = ahead
        self._stop_path = stop_path

    def setup(self) -> None:
        self._threads = ThreadPoolExecutor(max(self._ahead, 1))

    def start_bundle(self) -> None:
        self._begun: deque[Future[list[Any]]] = deque()

    def process(self, element: Any) -> Iterator[Any]:
        self._begun.append(self._threads.submit(self._apply, element))
        if len(self._begun) > self._ahead:
            yield from self._next()

    def finish_bundle(self) -> Iterator[Any]:
        while self._begun:
            yield from map(_at_the_end, self._next())

    def teardown(self) -> None:
        self._threads.shutdown()

    def _apply(self, element: Any) -> list[Any]:
        stopped = self._stop_path is not None and os.path.exists(self._stop_path)
        return [] if stopped else [self._function(element)]

    def _next(self) -> list[Any]:
        started = time.monotonic()
        results = self._begun.popleft().result()
        WAITED.inc(int((time.monotonic() - started) * 1e6))
        return results


def _at_the_end(result: Any) -> Any:
    """A result as Beam wants it of `finish_bundle`."""
    if isinstance(result, TaggedOutput):
        return TaggedOutput(result.tag, _at_the_end(result.value))
    return GlobalWindows.windowed_value_at_end_of_window(result)

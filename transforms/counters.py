"""The counters of a run, in Beam's metrics: every runner has them, while a job runs or once it has ended."""

import threading
from collections import Counter

from apache_beam.metrics import Metrics, MetricsFilter
from apache_beam.metrics.execution import MetricsEnvironment
from apache_beam.runners.runner import PipelineResult

_NAMESPACE = "rgc"
WAITED = Metrics.counter(_NAMESPACE, "microseconds_waited")
RETRIED = Metrics.counter(_NAMESPACE, "faults_retried")


def count_photos(status: str, photos: int, pixels: int, resumed: bool) -> None:
    """Counts photos by their row's status: "encoded", for one. Pixels are those of this run's work."""
    Metrics.counter(_NAMESPACE, status).inc(photos)
    if resumed:
        Metrics.counter(_NAMESPACE, "resumed").inc(photos)
    else:
        Metrics.counter(_NAMESPACE, "pixels").inc(pixels)


def read_counters(result: PipelineResult) -> Counter[str]:
    """The counters of a run that has ended, by name."""
    counters = result.metrics().query(MetricsFilter().with_namespace(_NAMESPACE))["counters"]
    counts: Counter[str] = Counter()
    for counter in counters:  # one for each stage that counts
        counts[counter.key.metric.name] += counter.result
    return counts


class _Faults:
    """Faults that threads of ours have met: Beam counts in its own threads only."""

    def __init__(self) -> None:
        self._count = 0
        self._lock = threading.Lock()

    def add(self) -> None:
        with self._lock:
            self._count += 1

    def take(self) -> int:
        with self._lock:
            count, self._count = self._count, 0
        return count


_FAULTS = _Faults()


def note_retry(_error: Exception) -> None:
    """Counts in any thread that something is tried again; in one of ours for the next `count_retries`."""
    if MetricsEnvironment.current_container() is None:
        _FAULTS.add()
    else:
        RETRIED.inc()


def count_retries() -> None:
    """In one of Beam's threads: counts what other threads of this process have noted since the last time."""
    if faults := _FAULTS.take():
        RETRIED.inc(faults)

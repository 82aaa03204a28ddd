"""The decompress pipeline: .rgc files to photos."""

import logging
from dataclasses import dataclass
from functools import partial

import apache_beam as beam
from apache_beam.metrics import Metrics, MetricsFilter
from apache_beam.ml.inference.base import RunInference
from apache_beam.runners.runner import PipelineResult

from pipeline.execution import Execution
from transforms.balance import Balance
from transforms.find import Source, list_source
from transforms.progress import ProgressEvent, report, report_found
from transforms.restore import DecodeHandler, RestoredFile, load_rgc, write_image
from transforms.threaded_map import ThreadedMap

_LOG = logging.getLogger(__name__)
_METRICS = "decompress"


@dataclass(frozen=True)
class DecompressJob:
    """One run: which .rgc files, where to, in which format, and how many iterations of each (None: all)."""

    source: Source
    output: str
    image_format: str
    iterations: int | None
    device: str = "auto"


def decompress(job: DecompressJob, pipeline: beam.Pipeline, execution: Execution) -> None:
    """Adds to `pipeline` what a job does. Its outcome is in Beam's counters: see `count_restored`."""
    progress, stop = execution.progress_path, execution.stop_path
    load = ThreadedMap(partial(load_rgc, iterations=job.iterations), execution.prefetch, stop)
    decode = RunInference(DecodeHandler(job.device, execution.threads))
    write = beam.Map(write_image, job.output, job.image_format, stop)
    _ = (
        pipeline
        | beam.Create([job.source])
        | "Find" >> beam.FlatMap(list_source, ".rgc")
        | "ReportFound" >> beam.Map(report_found, progress)
        | "Balance" >> Balance(execution.workers)
        | "Load" >> beam.ParDo(load).with_resource_hints(**execution.hints)
        | "Decode" >> decode.with_resource_hints(**execution.hints)
        | "Write" >> write.with_resource_hints(**execution.hints)
        | "Report" >> beam.Map(_report_restored, progress)
        # A stage without output would be waited for in vain where its worker process is killed (Beam 2.77).
        | "Count" >> beam.combiners.Count.Globally()
    )


def count_restored(result: PipelineResult) -> tuple[int, int]:
    """How many files a finished run has decoded, and how many failed."""
    counters = result.metrics().query(MetricsFilter().with_namespace(_METRICS))["counters"]
    counts = {counter.key.metric.name: counter.result for counter in counters}
    return counts.get("decoded", 0), counts.get("failed", 0)


def _report_restored(restored: RestoredFile, path: str | None) -> None:
    status = "failed" if restored.uri is None else "decoded"
    Metrics.counter(_METRICS, status).inc()
    if restored.uri is None and path is None:  # else the command line names it
        _LOG.error("%s", restored.error)
    photo, pixels, reason = restored.photo, restored.pixels, restored.error
    report(ProgressEvent(photo.uri, status, photo.size, pixels, reason=reason), path)

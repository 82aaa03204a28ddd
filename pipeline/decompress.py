"""The decompress pipeline: .rgc files to photos."""

import logging
from dataclasses import dataclass
from functools import partial

import apache_beam as beam
from apache_beam.metrics import Metrics, MetricsFilter
from apache_beam.ml.inference.base import RunInference
from apache_beam.options.pipeline_options import PipelineOptions

from pipeline.runners.dataflow import inference_hints
from pipeline.runners.runner import local_runner, local_workers, torch_threads
from transforms.ahead import LOADED_AHEAD, MapAhead
from transforms.balance import Balance
from transforms.find import find_files
from transforms.progress import Tick, report, report_found
from transforms.restore import DecodeHandler, RestoredFile, load_rgc, write_image

_LOG = logging.getLogger(__name__)
_METRICS = "decompress"


@dataclass(frozen=True)
class DecompressJob:
    """One run: from where to where, as what, and how many iterations of each file (None: all)."""

    source: str
    output: str
    image_format: str
    iterations: int | None
    device: str = "auto"
    progress_path: str | None = None
    stop_path: str | None = None


def run_decompress(job: DecompressJob, options: PipelineOptions) -> tuple[int, int]:
    """Runs the pipeline to its end; returns how many files were decoded, and how many failed.

    Raises:
        Exception: whatever a runner raises, with a worker's traceback in it.
    """
    handler = DecodeHandler(job.device, torch_threads(options))
    hints = inference_hints(options)
    progress, stop = job.progress_path, job.stop_path
    load = MapAhead(partial(load_rgc, iterations=job.iterations), LOADED_AHEAD, stop)
    write = beam.Map(write_image, job.output, job.image_format, stop)
    pipeline = beam.Pipeline(runner=local_runner(options, stop), options=options)
    _ = (
        pipeline
        | beam.Create([job.source])
        | "Find" >> beam.FlatMap(find_files, ".rgc")
        | "ReportFound" >> beam.Map(report_found, progress)
        | "Balance" >> Balance(local_workers(options))
        | "Load" >> beam.ParDo(load).with_resource_hints(**hints)
        | "Decode" >> RunInference(handler).with_resource_hints(**hints)
        | "Write" >> write.with_resource_hints(**hints)
        | "Report" >> beam.Map(_report_restored, progress)
        # A stage without output would be waited for in vain where its worker process is killed (Beam 2.77).
        | "Count" >> beam.combiners.Count.Globally()
    )
    result = pipeline.run()
    result.wait_until_finish()
    counters = result.metrics().query(MetricsFilter().with_namespace(_METRICS))["counters"]
    counts = {counter.key.metric.name: counter.result for counter in counters}
    return counts.get("decoded", 0), counts.get("failed", 0)


def _report_restored(restored: RestoredFile, path: str | None) -> None:
    status = "failed" if restored.uri is None else "decoded"
    Metrics.counter(_METRICS, status).inc()
    if restored.uri is None and path is None:  # else the command line names it
        _LOG.error("%s", restored.error)
    tick = Tick(restored.photo.uri, status, restored.photo.size, restored.pixels, reason=restored.error)
    report(tick, path)

"""The compress pipeline: photos to .rgc files and a manifest."""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from uuid import uuid4

import apache_beam as beam
from apache_beam.ml.inference.base import RunInference
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.runner import PipelineResult

from model.files import choose_device
from model.settings import Settings
from model.weights.loading import model_id, read_config
from pipeline.runners.dataflow import inference_hints
from pipeline.runners.runner import is_local, local_runner, local_workers, torch_threads
from transforms.ahead import LOADED_AHEAD, MapAhead
from transforms.balance import Balance
from transforms.encode import EncodeHandler
from transforms.find import FindPhotos, base_of
from transforms.load import LOADED, REJECTED, load_or_reject
from transforms.manifest.rows import Run, WriteManifest
from transforms.progress import report_found, report_row
from transforms.resume import DONE, TO_DO, SkipFinished
from transforms.write import write_rgc

# So many fill a GPU; a CPU is no faster for more, and each takes some 100 bytes of memory.
GPU_BATCH_PIXELS, CPU_BATCH_PIXELS = 1 << 22, 1 << 20


@dataclass(frozen=True)
class CompressJob:
    """One run: from where to where, to which settings, and how.

    Local paths are absolute: rows name photos by them, whoever wrote them from wherever. `given_up` are the
    URIs of photos that are `failed` untried. `max_batch_pixels` of None stands for `batch_pixels`.
    """

    source: str
    output: str
    settings: Settings
    run: Run
    device: str = "auto"
    max_batch_pixels: int | None = None
    progress_path: str | None = None
    stop_path: str | None = None
    loaded_ahead: int = LOADED_AHEAD
    given_up: frozenset[str] = frozenset()


def check_settings(target_ms_ssim: float | None, max_bpp: float | None, iterations: int | None) -> Settings:
    """Settings that the shipped model can meet.

    Raises:
        ValueError: see `Settings`; or more iterations are asked for than the model has.
    """
    most = read_config().iterations
    if iterations is not None and iterations > most:
        raise ValueError(f"iterations is {iterations}; the model has {most}")
    return Settings.from_options(target_ms_ssim, max_bpp, iterations)


def new_run(settings: Settings) -> Run:
    """A run that begins now; ids sort by time."""
    return Run(f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}-{uuid4().hex[:6]}", model_id(), settings.to_json())


def batch_pixels(device: str, options: PipelineOptions) -> int:
    """What a batch is bounded by, where nobody says."""
    on_cpu = is_local(options) and choose_device(device) == "cpu"
    return CPU_BATCH_PIXELS if on_cpu else GPU_BATCH_PIXELS


def run_compress(job: CompressJob, options: PipelineOptions) -> PipelineResult:
    """Runs the pipeline to its end. Its outcome is the manifest it leaves; Beam's result has its metrics.

    Raises:
        OSError: nothing is at `job.source`.
        Exception: whatever a runner raises, with a worker's traceback in it.
    """
    pixels = job.max_batch_pixels or batch_pixels(job.device, options)
    handler = EncodeHandler(job.settings, job.device, pixels, torch_threads(options))
    hints = inference_hints(options)
    run, progress, stop = job.run, job.progress_path, job.stop_path
    load = partial(load_or_reject, run=run, given_up=job.given_up, progress_path=progress)
    with beam.Pipeline(runner=local_runner(options, stop), options=options) as pipeline:
        found = (
            pipeline
            | "Find" >> FindPhotos(job.source, job.output)
            | "ReportFound" >> beam.Map(report_found, progress)
        )
        photos = found | "SkipFinished" >> SkipFinished(run, job.output, base_of(job.source), stop)
        loaded = (
            photos[TO_DO]
            | "Balance" >> Balance(local_workers(options))
            | "Load"
            >> beam.ParDo(MapAhead(load, job.loaded_ahead, stop))
            .with_resource_hints(**hints)
            .with_outputs(LOADED, REJECTED)
        )
        encoded = (
            loaded[LOADED]
            | "Encode" >> RunInference(handler).with_resource_hints(**hints)
            | "Write" >> beam.Map(write_rgc, run, job.settings, job.output, stop).with_resource_hints(**hints)
        )
        rows = (
            encoded | "ReportEncoded" >> beam.Map(report_row, False, progress),
            loaded[REJECTED] | "ReportRejected" >> beam.Map(report_row, False, progress),
            photos[DONE] | "ReportFinished" >> beam.Map(report_row, True, progress),
        )
        rows | "Manifest" >> WriteManifest(job.output, run.run_id, found)
    return pipeline.result

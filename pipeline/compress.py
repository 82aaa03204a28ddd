"""The compress pipeline: photos to .rgc files and a manifest."""

from dataclasses import dataclass

import apache_beam as beam
from apache_beam.ml.inference.base import RunInference
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.runner import PipelineResult

from model.settings import Settings
from pipeline.dataflow import inference_hints
from pipeline.runner import local_runner, local_workers, torch_threads
from transforms.balance import Balance
from transforms.decode import LOADED, REJECTED, LoadPhotos
from transforms.encode import EncodeHandler
from transforms.find import FindPhotos
from transforms.manifest import Run, WriteManifest
from transforms.progress import report_found, report_row
from transforms.resume import DONE, TO_DO, SkipFinished
from transforms.write import write_rgc

DEFAULT_BATCH_PIXELS = 1 << 22


@dataclass(frozen=True)
class CompressJob:
    """One run: from where to where, to which settings, and how."""

    source: str
    output: str
    settings: Settings
    run: Run
    device: str = "auto"
    max_batch_pixels: int = DEFAULT_BATCH_PIXELS
    progress_path: str | None = None
    stop_path: str | None = None


def run_compress(job: CompressJob, options: PipelineOptions) -> PipelineResult:
    """Runs the pipeline to its end. Its outcome is the manifest it leaves; Beam's result has its metrics."""
    handler = EncodeHandler(job.settings, job.device, job.max_batch_pixels, torch_threads(options))
    hints = inference_hints(options)
    run, progress = job.run, job.progress_path
    with beam.Pipeline(runner=local_runner(options), options=options) as pipeline:
        photos = (
            pipeline
            | "Find" >> FindPhotos(job.source, job.output)
            | "ReportFound" >> beam.Map(report_found, progress)
            | "SkipFinished" >> SkipFinished(run, job.output)
        )
        loaded = (
            photos[TO_DO]
            | "Balance" >> Balance(local_workers(options))
            | "Load"
            >> beam.ParDo(LoadPhotos(run, job.stop_path))
            .with_resource_hints(**hints)
            .with_outputs(LOADED, REJECTED)
        )
        encoded = (
            loaded[LOADED]
            | "Encode" >> RunInference(handler).with_resource_hints(**hints)
            | "Write" >> beam.Map(write_rgc, run, job.settings, job.output).with_resource_hints(**hints)
        )
        # Reported before they are flattened, which ends a fused stage: so while the run goes on.
        rows = (
            encoded | "ReportEncoded" >> beam.Map(report_row, False, progress),
            loaded[REJECTED] | "ReportRejected" >> beam.Map(report_row, False, progress),
            photos[DONE] | "ReportFinished" >> beam.Map(report_row, True, progress),
        )
        rows | "AllRows" >> beam.Flatten() | "Manifest" >> WriteManifest(job.output, run.run_id)
    return pipeline.result

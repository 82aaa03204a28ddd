"""The compress pipeline: photos to .rgc files and a manifest."""

from dataclasses import dataclass
from functools import partial

import apache_beam as beam
from apache_beam.ml.inference.base import RunInference

from model.settings import Settings
from model.weights.loading import DEFAULT_MODEL, read_config
from pipeline.execution import Execution
from transforms.attempts import Attempts
from transforms.balance import Balance
from transforms.encode import EncodeHandler
from transforms.find import FindFiles, Source
from transforms.load import LOADED, SETTLED, load_or_settle
from transforms.manifest.reading import run_folder
from transforms.manifest.rows import Run, new_run_id
from transforms.manifest.runs import RunRecord, begin_run
from transforms.manifest.writing import WriteManifest
from transforms.progress import report_finished, report_row
from transforms.resume import DONE, TO_DO, SkipFinished
from transforms.threaded_map import ThreadedMap
from transforms.write import write_rgc


@dataclass(frozen=True)
class CompressJob:
    """One run: which photos, where to, and to which settings.

    Local paths are absolute: rows name photos by them, whoever wrote them from wherever.

    Attributes:
        begun_as: the id of its first start, where it is started again.
    """

    source: Source
    output: str
    settings: Settings
    run: Run
    begun_as: str = ""


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
    return Run(new_run_id(), DEFAULT_MODEL, settings.to_json())


def begin(job: CompressJob) -> None:
    """Writes a run's record, so that the run is known even if it does not come to its end.

    Raises:
        OSError: OUTPUT cannot be written.
    """
    run = job.run
    record = RunRecord(run.run_id, job.source.uri, run.model, run.settings)
    begin_run(run_folder(job.output, run.run_id), record)


def compress(job: CompressJob, pipeline: beam.Pipeline, execution: Execution) -> None:
    """Adds to `pipeline` what a job does. Its outcome is the manifest that it leaves."""
    run, progress, stop = job.run, execution.progress_path, execution.stop_path
    attempts = Attempts(run_folder(job.output, job.begun_as or run.run_id)) if execution.tries_again else None
    handler = EncodeHandler(
        job.settings, execution.device, execution.batch_pixels, execution.threads, attempts
    )
    load = partial(load_or_settle, run=run, output=job.output)
    found = pipeline | "Find" >> FindFiles(job.source, output=job.output, progress_path=progress)
    photos = found | "SkipFinished" >> SkipFinished(run, job.output, job.source, stop)
    loaded = (
        photos[TO_DO]
        | "Balance" >> Balance(execution.workers)
        | "Load"
        >> beam.ParDo(ThreadedMap(load, execution.prefetch, stop))
        .with_resource_hints(**execution.hints)
        .with_outputs(LOADED, SETTLED)
    )
    write = partial(write_rgc, run=run, settings=job.settings, output=job.output, stop_path=stop)
    encoded = (
        loaded[LOADED]
        | "Encode" >> RunInference(handler).with_resource_hints(**execution.hints)
        | "Write" >> beam.ParDo(ThreadedMap(write, execution.writes)).with_resource_hints(**execution.hints)
    )
    rows = (
        encoded | "ReportEncoded" >> beam.Map(report_row, progress),
        loaded[SETTLED] | "ReportSettled" >> beam.Map(report_row, progress),
    )
    finished = photos[DONE] | "ReportFinished" >> beam.Map(report_finished, progress)
    regroup = execution.workers is None
    rows | "Manifest" >> WriteManifest(job.output, run.run_id, found, finished, regroup)

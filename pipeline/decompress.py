"""The decompress pipeline: .rgc files to photos."""

import logging
from dataclasses import dataclass, field
from functools import partial

import apache_beam as beam
from apache_beam.ml.inference.base import RunInference

from pipeline.execution import Execution
from transforms.balance import Balance
from transforms.find import FindFiles, Source
from transforms.manifest.restored import DONE, SCHEMA, TO_DO, RestoredRow, SkipRestored, Wanted, rows_folder
from transforms.manifest.rows import new_run_id
from transforms.manifest.runs import finish_run
from transforms.manifest.writing import WriteRows
from transforms.progress import ProgressEvent, count_and_report
from transforms.restore import DecodeHandler, load_rgc, write_image
from transforms.storage.files import join
from transforms.threaded_map import ThreadedMap

_LOG = logging.getLogger(__name__)

_BATCHES = 4  # of encoding, in one of decoding: several photos, which a GPU decodes at a time


@dataclass(frozen=True)
class DecompressJob:
    """One run: which .rgc files, where to, in which format, and how many iterations of each (None: all)."""

    source: Source
    output: str
    image_format: str
    iterations: int | None
    run_id: str = field(default_factory=new_run_id)


def decompress(job: DecompressJob, pipeline: beam.Pipeline, execution: Execution) -> None:
    """Adds to `pipeline` what a job does. Its outcome is in Beam's counters: see `read_counters`."""
    progress, stop = execution.progress_path, execution.stop_path
    wanted = Wanted(job.output, job.image_format, job.iterations, job.run_id)
    load = ThreadedMap(partial(load_rgc, iterations=job.iterations), execution.prefetch, stop)
    handler = DecodeHandler(execution.device, _BATCHES * execution.batch_pixels, execution.threads)
    decode = RunInference(handler)
    write = ThreadedMap(partial(write_image, wanted=wanted, stop_path=stop), execution.prefetch)
    found = pipeline | "Find" >> FindFiles(job.source, ".rgc", progress_path=progress)
    files = found | "SkipRestored" >> SkipRestored(wanted, stop)
    decoded = (
        files[TO_DO]
        | "Balance" >> Balance(execution.workers)
        | "Load" >> beam.ParDo(load).with_resource_hints(**execution.hints)
        | "Decode" >> decode.with_resource_hints(**execution.hints)
        | "Write" >> beam.ParDo(write).with_resource_hints(**execution.hints)
    )
    rows = (
        decoded | "Report" >> beam.Map(_report_restored, False, progress),
        files[DONE] | "ReportDone" >> beam.Map(_report_restored, True, progress),
    )
    folder = join(rows_folder(job.output), f"restored={job.run_id}")
    files = rows | "Rows" >> WriteRows(join(folder, "rows"), SCHEMA, regroup=execution.workers is None)
    _ = files | beam.combiners.ToList() | "Finish" >> beam.Map(finish_run, 0, folder)


def _report_restored(row: RestoredRow, resumed: bool, path: str | None) -> RestoredRow:
    if row.status == "failed" and path is None:  # else the command line names it
        _LOG.error("%s", row.reason)
    reason = row.reason or ""
    event = ProgressEvent(row.rgc_uri, row.status, row.rgc_bytes, row.pixels, reason=reason, resumed=resumed)
    count_and_report(event, path)
    return row

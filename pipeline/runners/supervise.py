"""A compress run on this machine, which is started again if something ends it early."""

from dataclasses import dataclass, replace
from functools import partial

from apache_beam.options.pipeline_options import PipelineOptions
from rich.console import Console

from pipeline.compress import CompressJob, begin, compress, new_run
from pipeline.execution import Execution
from pipeline.runners.progress import RunCounts, showing_progress
from pipeline.runners.run import run
from transforms.manifest.rows import Run
from transforms.progress import WORKER_ENDED

# Starts in a row that may encode nothing: so often a photo that ends its worker is tried, see `Attempts`.
_IDLE_STARTS = 2


class EndedEarlyError(RuntimeError):
    """Something ended a run, and starting it again did not help."""


@dataclass(frozen=True)
class Outcome:
    """How a run went: its last start's id and counts, and why it was asked to stop, if it was."""

    run: Run
    counts: RunCounts
    stopped: str = ""


def supervise(job: CompressJob, execution: Execution, options: PipelineOptions, console: Console) -> Outcome:
    """Runs a job to its end, and shows its progress on `console`.

    The system may kill a worker process for memory, or the GPU may fail. What is done stays done, so the job
    is started again, under a new id, as long as the last start has encoded something. If a worker was killed,
    two starts in a row may encode nothing: after these, a photo that ends its worker is `failed`. Once a
    worker was killed, photos are done one at a time, which takes less memory.

    Raises:
        EndedEarlyError: saying by what.
    """
    idle = 0
    while True:
        with showing_progress(console, "compress") as display:
            error = ""
            try:
                begin(job)
                display.run(partial(run, partial(compress, job), options=options), execution)
            except Exception as raised:
                error = last_line(raised)
        was_killed = display.stopped == WORKER_ENDED
        if not error and not was_killed:
            return Outcome(job.run, display.counts, display.stopped)
        error = ": ".join(filter(None, [display.stopped, error]))
        idle = 0 if display.counts.encoded else idle + 1
        if idle > (_IDLE_STARTS if was_killed else 0) or (display.stopped and not was_killed):
            raise EndedEarlyError(error)
        console.print(f"the run ended early: {error}; starting it again", highlight=False, markup=False)
        if was_killed:
            execution = replace(execution, batch_pixels=1, prefetch=0, writes=0)
        job = replace(job, run=new_run(job.settings), begun_as=job.begun_as or job.run.run_id)


def last_line(error: Exception) -> str:
    """The last line with a word in it: what a runner's error says after a worker's traceback."""
    lines = [line.strip() for line in str(error).splitlines() if any(map(str.isalnum, line))]
    return lines[-1] if lines else type(error).__name__

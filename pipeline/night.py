"""A compress run on this machine, which is started again where something ends it early."""

from dataclasses import dataclass, replace

from apache_beam.options.pipeline_options import PipelineOptions
from rich.console import Console

from pipeline.compress import CompressJob, new_run, run_compress
from pipeline.follow import Tally, followed
from transforms.manifest import Run
from transforms.progress import WORKER_ENDED

MOST_STARTS = 10


class EndedEarlyError(RuntimeError):
    """A run that something ended, and that it did not help to start again."""


@dataclass(frozen=True)
class Outcome:
    """How a run went: its last start's id and counts, and why it was asked to stop, if it was."""

    run: Run
    tally: Tally
    stopped: str = ""


def compress_here(job: CompressJob, options: PipelineOptions, console: Console) -> Outcome:
    """Runs a job to its end, following it on `console`.

    What a night brings need not be its end: a worker process that the system kills for memory, or an error
    of the GPU's. What is done stays done, so the job is started again, up to `MOST_STARTS` times in all, each
    time under an id of its own. But not where the last start encoded nothing: then it would not help.

    Raises:
        EndedEarlyError: saying by what.
    """
    for start in range(1, MOST_STARTS + 1):
        with followed(console, "compress") as follower:
            error = ""
            try:
                run_compress(replace(job, progress_path=follower.path, stop_path=follower.stop_path), options)
            except Exception as raised:
                error = last_line(raised)
        if not error and follower.stopped != WORKER_ENDED:
            return Outcome(job.run, follower.tally, follower.stopped)
        error = ": ".join(filter(None, [follower.stopped, error]))
        helps = follower.stopped in ("", WORKER_ENDED) and follower.tally.encoded
        if not helps or start == MOST_STARTS:
            break
        console.print(f"the run ended early: {error}; starting it again", highlight=False, markup=False)
        job = replace(job, run=new_run(job.settings))
    raise EndedEarlyError(error)


def last_line(error: Exception) -> str:
    """What a runner's error comes down to, after a worker's traceback: its last line with a word in it."""
    lines = [line.strip() for line in str(error).splitlines() if any(map(str.isalnum, line))]
    return lines[-1] if lines else type(error).__name__

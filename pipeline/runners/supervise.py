"""A compress run on this machine, which is started again where something ends it early."""

from dataclasses import dataclass, replace

from apache_beam.options.pipeline_options import PipelineOptions
from rich.console import Console

from pipeline.compress import CompressJob, new_run, run_compress
from pipeline.runners.progress import Tally, followed
from transforms.manifest.rows import Run
from transforms.progress import WORKER_ENDED


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

    What a night brings need not be its end: a worker process that the system kills for memory, or that a
    photo crashes, or an error of the GPU's. What is done stays done, so the job is started again, each time
    under an id of its own, for as long as that helps: the last start encoded something, or found out which
    photos a worker that was killed had in hand. After that each has one at a time, which also takes less
    memory; a photo that was so in hand twice is given up: no photo ends a night.

    Raises:
        EndedEarlyError: saying by what.
    """
    suspects: set[str] = set()
    while True:
        with followed(console, "compress") as follower:
            error = ""
            try:
                run_compress(replace(job, progress_path=follower.path, stop_path=follower.stop_path), options)
            except Exception as raised:
                error = last_line(raised)
        tally, killed = follower.tally, follower.killed
        if not error and killed is None:
            return Outcome(job.run, tally, follower.stopped)
        error = ": ".join(filter(None, [follower.stopped, error]))
        in_hand = tally.in_hand(killed)
        helps = tally.encoded or in_hand
        if not helps or follower.stopped not in ("", WORKER_ENDED):
            raise EndedEarlyError(error)
        console.print(f"the run ended early: {error}; starting it again", highlight=False, markup=False)
        if killed is not None:
            job = replace(
                job, max_batch_pixels=1, loaded_ahead=0, given_up=job.given_up | (suspects & in_hand)
            )
            suspects |= in_hand
        job = replace(job, run=new_run(job.settings))


def last_line(error: Exception) -> str:
    """What a runner's error comes down to, after a worker's traceback: its last line with a word in it."""
    lines = [line.strip() for line in str(error).splitlines() if any(map(str.isalnum, line))]
    return lines[-1] if lines else type(error).__name__

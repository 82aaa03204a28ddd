"""What `rgc compress` and `rgc decompress` have in common."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import typer
from apache_beam.options.pipeline_options import PipelineOptions

from pipeline.cli.options import Device, find_device, naming
from pipeline.cli.terminal import fail, stderr, stdout
from pipeline.runners.dataflow import choose_dataflow_options
from pipeline.runners.interruption import EXIT_STATUS
from pipeline.runners.names import check_runner, has_job_server, is_dataflow, is_local
from pipeline.runners.portable import wait_for_the_job
from pipeline.runners.progress import RunCounts
from pipeline.runners.supervise import last_line
from transforms.find import Source, find_source
from transforms.progress import INTERRUPTED
from transforms.storage.files import writing_to


def read_beam_options(arguments: list[str]) -> PipelineOptions:
    """Beam's options, from what the command itself does not know.

    Behind a job server a runner may have options that only it knows; Beam passes these on.

    Raises:
        typer.BadParameter: naming what Beam does not know either, where no job server might.
    """
    options = PipelineOptions(arguments)
    known = options.get_all_options()
    unknown = set(options.get_all_options(retain_unknown_options=True)) - set(known)
    misplaced = [argument for argument in arguments[:1] if not argument.startswith("-")]
    if misplaced or (unknown and not has_job_server(options)):
        names = ", ".join([*(f"--{name}" for name in sorted(unknown)), *misplaced])
        raise typer.BadParameter(f"neither rgc nor Beam knows {names}")
    return options


def check_run(source: str, device: Device, options: PipelineOptions) -> Source:
    """Finds out before the run what would make all of it fail; returns what INPUT names."""
    with naming("--runner"):
        check_runner(options)
    with naming(None):  # it names several
        choose_dataflow_options(options)
    with naming("--job_endpoint"):
        wait_for_the_job(options)
    if is_dataflow(options) and device == Device.CPU:
        raise typer.BadParameter("on Dataflow the codec runs on GPUs", param_hint="--device")
    with naming("INPUT"):
        found = find_source(source)
    if is_local(options) and find_device(device) == Device.CPU != device:
        stderr.print("no GPU here: the codec runs on the CPU")
    return found


@contextmanager
def writing_to_output(output: str, folders: Sequence[str]) -> Iterator[None]:
    with ExitStack() as stack:
        try:
            stack.enter_context(writing_to(output, folders))
        except OSError as error:
            raise typer.BadParameter(f"cannot be written: {error}", param_hint="OUTPUT") from error
        yield


@contextmanager
def waiting_for_a_run() -> Iterator[None]:
    """Says what becomes of a run that ends early, and of a remote job that Ctrl-C stops waiting for."""
    try:
        yield
    except KeyboardInterrupt:  # only on another runner: see `run_interruptibly`
        stderr.print(
            "not waiting any longer; a job that was submitted goes on, until it is cancelled where it runs"
        )
        stderr.print("on Dataflow: gcloud dataflow jobs cancel JOB --region REGION")
        raise typer.Exit(EXIT_STATUS) from None
    except Exception as error:  # whatever a runner raises
        then = "what is done is kept: the same command, run again, goes on"
        fail(f"the run ended early: {last_line(error)}; {then}")


def exit_if_stopped(why: str, counts: RunCounts) -> None:
    """Says how far a run came that was asked to stop, and exits; does nothing if `why` is empty."""
    if why:
        done = f"{counts.finished} of {counts.found} files are done"
        stdout.print(f"stopped: {why}; {done}: the same command, run again, goes on", highlight=False)
        raise typer.Exit(EXIT_STATUS if why == INTERRUPTED else 1)

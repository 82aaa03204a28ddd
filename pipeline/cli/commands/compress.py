from functools import partial
from typing import Annotated, NoReturn

import typer

from pipeline.audit.report import audit, print_failed, print_totals
from pipeline.cli import options
from pipeline.cli.running import (
    check_run,
    exit_if_stopped,
    read_beam_options,
    waiting_for_a_run,
    writing_to_output,
)
from pipeline.cli.terminal import stderr, stdout
from pipeline.compress import CompressJob, begin, new_run
from pipeline.compress import compress as compress_graph
from pipeline.runners.names import is_local
from pipeline.runners.progress import RunCounts
from pipeline.runners.run import choose_execution, run
from pipeline.runners.supervise import Outcome, supervise
from pipeline.runners.temporary import temporary_folder
from transforms.find import with_inventory
from transforms.manifest.reading import manifest_files, run_folder
from transforms.storage.files import OUTPUT_FOLDERS, absolute


def compress(
    context: typer.Context,
    source: Annotated[str, options.place("INPUT", "Folder, file, glob or gs:// prefix.")],
    output: Annotated[str, options.place("OUTPUT", "Folder or gs:// prefix; may lie in INPUT.")],
    target_ms_ssim: options.TargetMsSsim = None,
    max_bpp: options.MaxBpp = None,
    iterations: options.EncodeIterations = None,
    device: options.DeviceOption = options.Device.AUTO,
    inventory: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="Takes INPUT's objects from this CSV or Parquet file, or all in a folder: no listing.",
        ),
    ] = None,
    max_batch_pixels: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Photos are encoded together up to so many pixels.",
            show_default="16777216, on a CPU here 1048576",
        ),
    ] = None,
) -> None:
    """Recompress photos to .rgc files with a Parquet manifest. Beam's own options may follow."""
    beam_options = read_beam_options(context.args)
    settings = options.read_settings(target_ms_ssim, max_bpp, iterations)
    found, output = check_run(absolute(source), device, beam_options), absolute(output)
    if inventory is not None:
        with options.naming("--inventory"):
            found = with_inventory(found, absolute(inventory))
    job = CompressJob(found, output, settings, new_run(settings))
    execution = choose_execution(beam_options, device, max_batch_pixels)
    with writing_to_output(output, OUTPUT_FOLDERS), waiting_for_a_run():
        if is_local(beam_options):
            outcome = supervise(job, execution, beam_options, stderr)
        else:
            with temporary_folder():
                begin(job)
                run(partial(compress_graph, job), execution, beam_options)
            outcome = Outcome(job.run, RunCounts())
    _report(outcome, found.uri, output)


def _report(outcome: Outcome, source: str, output: str) -> NoReturn:
    """Prints the result of a run, and exits."""
    folder = run_folder(output, outcome.run.run_id)
    if not manifest_files(folder):
        exit_if_stopped(outcome.stopped, outcome.counts)
        raise typer.BadParameter(f"{source}: no files there but rgc's own", param_hint="INPUT")
    report = audit(folder)
    print_totals(report, stdout)
    if resumed := outcome.counts.resumed:
        new = report.totals["photos"] - resumed
        stdout.print(f"{resumed} of them were finished in an earlier run, {new} in this one")
    stdout.print(f"manifest: {folder}", highlight=False)
    print_failed(report, stderr)
    exit_if_stopped(outcome.stopped, outcome.counts)
    raise typer.Exit(1 if report.failed else 0)

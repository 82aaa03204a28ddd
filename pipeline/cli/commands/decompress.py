from functools import partial
from typing import Annotated

import typer

from pipeline.cli import options
from pipeline.cli.running import (
    check_run,
    exit_if_stopped,
    read_beam_options,
    waiting_for_a_run,
    writing_to_output,
)
from pipeline.cli.terminal import stderr, stdout
from pipeline.decompress import DecompressJob
from pipeline.decompress import decompress as decompress_graph
from pipeline.runners.names import is_local
from pipeline.runners.progress import showing_progress
from pipeline.runners.run import choose_execution, run
from pipeline.runners.temporary import temporary_folder
from transforms.counters import read_counters
from transforms.manifest.restored import rows_folder
from transforms.storage.files import absolute


def decompress(
    context: typer.Context,
    source: Annotated[str, options.place("INPUT", ".rgc files: folder, file, glob, gs://.")],
    output: Annotated[str, options.place("OUTPUT", "Folder or gs:// prefix.")],
    image_format: Annotated[
        options.ImageFormat, typer.Option("--format", help="Of the images.")
    ] = options.ImageFormat.PNG,
    iterations: options.DecodeIterations = None,
    device: options.DeviceOption = options.Device.AUTO,
) -> None:
    """Decode .rgc files to images. Beam's own options may follow."""
    beam_options = read_beam_options(context.args)
    found, output = check_run(absolute(source), device, beam_options), absolute(output)
    job = DecompressJob(found, output, image_format, iterations)
    execution = choose_execution(beam_options, device)
    run_job = partial(run, partial(decompress_graph, job), options=beam_options)
    here = showing_progress(stderr, "decompress") if is_local(beam_options) else temporary_folder()
    with writing_to_output(output, [""]), waiting_for_a_run(), here as display:
        result = run_job(execution) if display is None else display.run(run_job, execution)
        counts = read_counters(result)
    decoded, failed = counts["decoded"], counts["failed"]
    stdout.print(f"{decoded + failed} .rgc files: {decoded} decoded, {failed} failed")
    stdout.print(f"manifest: {rows_folder(output)}/restored={job.run_id}", highlight=False)
    if display is not None:
        if display.counts.resumed:
            stdout.print(f"{display.counts.resumed} of them were there from an earlier run")
        for event in display.counts.failures:
            stderr.print(f"failed: {event.reason}", highlight=False, markup=False)
        exit_if_stopped(display.stopped, display.counts)
    raise typer.Exit(1 if failed else 0)

"""The command line `rgc`."""

import json
import logging
import secrets
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from model.codec import Codec
from model.files import TargetOutOfReachError, encode_photo, to_image
from model.format.container import RgcError, read_rgc
from model.photos.errors import UnreadablePhotoError
from model.photos.names import NotAPhotoError
from model.weights.loading import DEFAULT_WEIGHTS
from pipeline.audit.manifests import WhereError, open_manifests
from pipeline.audit.report import print_audit, read_audit
from pipeline.audit.verify import verify
from pipeline.cli.options import (
    DecodeIterations,
    Device,
    DeviceOption,
    EncodeIterations,
    ImageFormat,
    MaxBpp,
    Overwrite,
    TargetMsSsim,
    check_destination,
    check_run,
    find_device,
    format_of,
    photos_to_verify,
    place,
    read_beam_options,
    read_settings,
    read_targets,
    writing_to_output,
)
from pipeline.cli.outcomes import (
    compare_and_exit,
    content_of,
    exit_if_stopped,
    fail,
    fail_if_skipped,
    print_findings,
    report_run,
    stderr,
    stdout,
    waiting_for_a_run,
    write_list,
)
from pipeline.compress import CompressJob, compress, new_run
from pipeline.decompress import DecompressJob, count_restored, decompress
from pipeline.estimate.costs import STORAGE_PRICE, Plan
from pipeline.estimate.sampling import estimate, print_estimate
from pipeline.runners.names import is_local
from pipeline.runners.progress import RunCounts, showing_progress
from pipeline.runners.run import choose_execution, run
from pipeline.runners.supervise import Outcome, supervise
from pipeline.runners.temporary import temporary_folder
from transforms.find import find_files
from transforms.load import load_photo
from transforms.restore import format_for, image_bytes, modified_of
from transforms.storage.files import (
    OUTPUT_FOLDERS,
    absolute,
    read_bytes,
    set_modified,
    write_bytes,
)

app = typer.Typer(
    help="Recompress photo archives with the Residual GRU codec.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_BEAM = {"allow_extra_args": True, "ignore_unknown_options": True}


@app.command("compress", context_settings=_BEAM)
def compress_command(
    context: typer.Context,
    source: Annotated[str, place("INPUT", "Folder, file, glob or gs:// prefix.")],
    output: Annotated[str, place("OUTPUT", "Folder or gs:// prefix.")],
    target_ms_ssim: TargetMsSsim = None,
    max_bpp: MaxBpp = None,
    iterations: EncodeIterations = None,
    device: DeviceOption = Device.AUTO,
    max_batch_pixels: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Photos are encoded together up to so many pixels. [default: 4 MP, on a CPU here 1 MP]",
        ),
    ] = None,
) -> None:
    """Recompress photos to .rgc files with a Parquet manifest. Beam's own options may follow."""
    options = read_beam_options(context.args)
    settings = read_settings(target_ms_ssim, max_bpp, iterations)
    found, output = check_run(absolute(source), device, options), absolute(output)
    job = CompressJob(found, output, settings, new_run(settings), device)
    execution = choose_execution(options, device, max_batch_pixels)
    with writing_to_output(output, OUTPUT_FOLDERS), waiting_for_a_run():
        if is_local(options):
            outcome = supervise(job, execution, options, stderr)
        else:
            with temporary_folder():
                run(partial(compress, job), execution, options)
            outcome = Outcome(job.run, RunCounts())
    report_run(outcome, found.uri, output)


@app.command("decompress", context_settings=_BEAM)
def decompress_command(
    context: typer.Context,
    source: Annotated[str, place("INPUT", ".rgc files: folder, file, glob, gs://.")],
    output: Annotated[str, place("OUTPUT", "Folder or gs:// prefix.")],
    image_format: Annotated[ImageFormat, typer.Option("--format", help="Of the images.")] = ImageFormat.PNG,
    iterations: DecodeIterations = None,
    device: DeviceOption = Device.AUTO,
) -> None:
    """Decode .rgc files to images. Beam's own options may follow."""
    options = read_beam_options(context.args)
    job = DecompressJob(check_run(source, device, options), output, image_format, iterations, device)
    execution = choose_execution(options, device)
    run_job = partial(run, partial(decompress, job), options=options)
    here = showing_progress(stderr, "decompress") if is_local(options) else temporary_folder()
    with writing_to_output(output, [""]), waiting_for_a_run(), here as display:
        result = run_job(execution) if display is None else display.run(run_job, execution)
        decoded, failed = count_restored(result)
    stdout.print(f"{decoded + failed} .rgc files: {decoded} decoded, {failed} failed")
    if display is not None:
        for event in display.counts.failures:
            stderr.print(f"failed: {event.reason}", highlight=False, markup=False)
        exit_if_stopped(display.stopped, display.counts)
    raise typer.Exit(1 if failed else 0)


@app.command()
def encode(
    photo: Annotated[str, place("PHOTO")],
    rgc: Annotated[str, place("RGC")],
    target_ms_ssim: TargetMsSsim = None,
    max_bpp: MaxBpp = None,
    iterations: EncodeIterations = None,
    device: DeviceOption = Device.AUTO,
    overwrite: Overwrite = False,
) -> None:
    """Encode one photo, without Beam."""
    settings = read_settings(target_ms_ssim, max_bpp, iterations)
    check_destination(photo, rgc, overwrite, "RGC")
    codec = Codec.load(find_device(device))
    try:
        found = list(find_files(photo))
        if len(found) != 1:
            fail(f"{photo}: {len(found)} files, not one; rgc compress takes folders")
        loaded = load_photo(found[0])
        file = encode_photo(codec, loaded.decoded, settings, loaded.source_record(settings))
        write_bytes(rgc, file.to_bytes())
    except (NotAPhotoError, UnreadablePhotoError, TargetOutOfReachError, OSError) as error:
        fail(f"{photo}: {error}")
    size = len(file.to_bytes())
    rate = size * 8 / (file.width * file.height)
    stdout.print(f"{rgc}: {size} bytes, {rate:.3f} bits per pixel, MS-SSIM {file.ms_ssim[-1]:.4f}")


@app.command()
def decode(
    rgc: Annotated[str, place("RGC")],
    photo: Annotated[str, place("PHOTO")],
    image_format: Annotated[
        ImageFormat | None, typer.Option("--format", help="[default: by PHOTO's suffix]")
    ] = None,
    iterations: DecodeIterations = None,
    device: DeviceOption = Device.AUTO,
    overwrite: Overwrite = False,
) -> None:
    """Decode one .rgc file, without Beam."""
    image_format = image_format or format_of(photo)
    check_destination(rgc, photo, overwrite, "PHOTO")
    codec = Codec.load(find_device(device))
    try:
        file = read_rgc(read_bytes(rgc), rgc)
        image = to_image(codec, file if iterations is None else file.first_iterations(iterations))
        data, could_not = image_bytes(file, image, format_for(file, image_format))
        write_bytes(photo, data)
        set_modified(photo, modified_of(file))
    except (OSError, ValueError) as error:
        fail(f"{rgc}: {error}" if rgc not in str(error) else str(error))
    if could_not:
        stderr.print(f"{photo} has no place for: {'; '.join(could_not)}", highlight=False, markup=False)


@app.command()
def info(
    rgc: Annotated[str, place("RGC")],
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Say what a .rgc file holds, without decoding it."""
    try:
        content = content_of(read_rgc(read_bytes(rgc), rgc))
    except (RgcError, OSError) as error:
        fail(str(error))
    if as_json:
        print(json.dumps(content))
        return
    for key, value in content.items():
        if key != "iterations":
            stdout.print(f"{key}: {value}", highlight=False, markup=False)
    for number, iteration in enumerate(content["iterations"], start=1):
        rate = iteration["bytes"] * 8 / (content["width"] * content["height"])
        quality = f"MS-SSIM {iteration['ms_ssim']:.4f}"
        stdout.print(f"iteration {number}: {iteration['bytes']} bytes, {rate:.3f} bits per pixel, {quality}")


@app.command("audit")
def audit_command(
    manifests: Annotated[
        list[str], typer.Argument(metavar="MANIFEST", help="Folders of manifests, of runs or OUTPUT.")
    ],
    as_json: Annotated[bool, typer.Option("--json")] = False,
    html: Annotated[str | None, typer.Option(metavar="FILE", help="Write a page.")] = None,
    where: Annotated[str | None, typer.Option(help="An SQL condition on the manifest's columns.")] = None,
    usd_per_gb_month: Annotated[
        float, typer.Option(min=0.0, help="Price of 2**30 bytes of storage; the default is of 2026-11.")
    ] = STORAGE_PRICE,
    run: Annotated[
        str | None, typer.Option("--compare", metavar="RUN", help="A run before it, by folder or by id.")
    ] = None,
    verified: Annotated[
        str | None, typer.Option("--verify", metavar="N|all", help="Read back and measure so many photos.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Chooses the photos for --verify.")] = None,
    safe_to_delete: Annotated[
        str | None, typer.Option(metavar="FILE", help="List the originals that may go. Deletes nothing.")
    ] = None,
    device: DeviceOption = Device.AUTO,
) -> None:
    """Sum up what manifests say, for people, machines or as a page; and verify it."""
    count = photos_to_verify(verified, safe_to_delete)
    if run is not None and (html or verified):
        raise typer.BadParameter("stands alone", param_hint="--compare")
    device_found = find_device(device)
    if safe_to_delete is not None:
        write_list(safe_to_delete, [])  # at once: whether it can be written, and none of an earlier call
    verification = None
    try:
        if run is not None:
            compare_and_exit(manifests, run, where, as_json)
        with open_manifests(manifests, where) as database:
            report = read_audit(database, usd_per_gb_month)
            if not as_json:
                print_audit(report, stdout)
            if html is not None:
                # Here, not above: the page's libraries would delay every other command.
                from pipeline.audit.page.write import write_page  # noqa: PLC0415

                write_page(database, report, html, manifests, where, device_found)
            if verified is not None:
                chosen_by = secrets.randbelow(1 << 32) if seed is None else seed
                verification = verify(database, Codec.load(device_found), count, chosen_by, stderr)
    except WhereError as error:
        raise typer.BadParameter(str(error), param_hint="--where") from error
    except (OSError, ValueError) as error:
        fail(str(error))
    print_findings(report, verification, safe_to_delete, as_json)
    fail_if_skipped(report.skipped)
    raise typer.Exit(1 if verification is not None and not verification.is_complete else 0)


@app.command("estimate")
def estimate_command(
    source: Annotated[str, place("INPUT", "Folder, file, glob or gs:// prefix.")],
    target_ms_ssim: TargetMsSsim = None,
    max_bpp: MaxBpp = None,
    iterations: EncodeIterations = None,
    device: DeviceOption = Device.AUTO,
    sample: Annotated[int, typer.Option(min=2, help="Photos to encode here.")] = Plan.sample,
    machine_price: Annotated[float, typer.Option(min=0, help="USD an hour.")] = Plan.machine_price,
    workers: Annotated[int, typer.Option(min=1, help="Dataflow workers.")] = Plan.workers,
    worker_price: Annotated[float, typer.Option(min=0, help="USD an hour of one.")] = Plan.worker_price,
    worker_speed: Annotated[
        float | None, typer.Option(min=0.001, help="Megapixels a second of one. [default: an L4's, assumed]")
    ] = None,
    storage_price: Annotated[float, typer.Option(min=0, help="USD a GB and month.")] = Plan.storage_price,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Say what compressing would take, cost and save, from a sample. Writes nothing."""
    settings = read_settings(target_ms_ssim, max_bpp, iterations)
    plan = Plan(sample, workers, worker_price, worker_speed, machine_price, storage_price)
    try:
        found = estimate(source, settings, find_device(device), plan, stderr)
    except OSError as error:
        raise typer.BadParameter(str(error), param_hint="INPUT") from error
    except ValueError as error:
        fail(str(error))
    if as_json:
        print(json.dumps(asdict(found)))
    else:
        print_estimate(found, stdout)


@app.command("evaluate")
def evaluate_command(
    images: Annotated[Path, typer.Argument(metavar="IMAGES", help="Folder of photos.", exists=True)],
    targets: Annotated[
        str | None, typer.Option(help="MS-SSIM of rgc's files.", show_default="nine from 0.85 to 0.995")
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="Codecs.", show_default="jpeg,webp,avif; jxl where its plugin is there")
    ] = None,
    reuse: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="JSON of before; other codecs are taken from it."),
    ] = None,
    published: Annotated[
        list[Path] | None,
        typer.Option(exists=True, dir_okay=False, help="File of a published curve; may be repeated."),
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all figures here.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Write a plot here, as PNG and as SVG.")] = None,
    weights: Annotated[
        Path, typer.Option(exists=True, dir_okay=False, help="Weights of another model.")
    ] = DEFAULT_WEIGHTS,
    device: DeviceOption = Device.AUTO,
) -> None:
    """Compare rate and quality with other codecs, on files written and read back."""
    # Here, not above: Matplotlib and SciPy would delay every other command.
    from pipeline.evaluate.codecs import CODECS  # noqa: PLC0415
    from pipeline.evaluate.curves import TARGETS, read_folder, read_published  # noqa: PLC0415
    from pipeline.evaluate.report import (  # noqa: PLC0415
        evaluate,
        plot_evaluation,
        print_evaluation,
        read_earlier,
        to_json,
    )

    names = list(CODECS) if against is None else [name for name in against.split(",") if name]
    if unknown := set(names) - set(CODECS):
        known = ", ".join(CODECS)
        raise typer.BadParameter(f"{', '.join(unknown)}: not one of {known}", param_hint="--against")
    for option, file in (("--json", json_file), ("--plot", plot)):
        if file is not None and not file.parent.is_dir():
            raise typer.BadParameter(f"{file.parent} is no folder", param_hint=option)
    wanted = TARGETS if targets is None else read_targets(targets)
    try:
        curves = read_published(published or [])
        photos = read_folder(images)
        if reuse is not None:
            earlier = read_earlier(reuse, photos)
            curves |= {name: earlier[name] for name in names if name in earlier}
        evaluation = evaluate(photos, wanted, names, curves, find_device(device), weights)
    except ValueError as error:
        fail(str(error))
    if json_file is not None:
        json_file.write_text(to_json(evaluation))
    print_evaluation(evaluation, stdout)
    if plot is not None:
        plot_evaluation(evaluation, plot)


@app.command()
def train(
    photos: Annotated[
        list[Path], typer.Argument(metavar="PHOTOS", help="Folders and .tar files.", exists=True)
    ],
    out: Annotated[Path, typer.Option(help="Folder for the checkpoint, the log and the weights.")],
    config: Annotated[
        Path, typer.Option(exists=True, dir_okay=False, help="TOML file, such as those in model/training.")
    ],
    evaluate_on: Annotated[Path | None, typer.Option(exists=True, help="Held-out photos.")] = None,
    start_from: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Weights to start from.")
    ] = None,
    device: DeviceOption = Device.AUTO,
) -> None:
    """Train a model, or go on from the checkpoint in --out."""
    from pipeline.cli.train import run_training  # noqa: PLC0415 - as above

    try:
        run_training(photos, out, config, evaluate_on, start_from, find_device(device), stdout)
    except ValueError as error:
        fail(str(error))


def main() -> None:
    # Beam's own warnings are about Beam; ours say what becomes of photos.
    logging.basicConfig(level=logging.ERROR, format="%(levelname)s %(name)s: %(message)s")
    for package in ("model", "transforms", "pipeline"):
        logging.getLogger(package).setLevel(logging.WARNING)
    sys.exit(app())


if __name__ == "__main__":
    main()

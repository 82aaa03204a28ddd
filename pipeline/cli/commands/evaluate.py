from pathlib import Path
from typing import Annotated

import typer

from model.weights.loading import DEFAULT_WEIGHTS
from pipeline.cli.options import Device, DeviceOption, find_device, read_targets
from pipeline.cli.terminal import fail, stdout


def evaluate(
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
    from pipeline.evaluate import report  # noqa: PLC0415
    from pipeline.evaluate.codecs import CODECS  # noqa: PLC0415
    from pipeline.evaluate.curves import TARGETS, read_folder, read_published  # noqa: PLC0415

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
            earlier = report.read_earlier(reuse, photos)
            curves |= {name: earlier[name] for name in names if name in earlier}
        evaluation = report.evaluate(photos, wanted, names, curves, find_device(device), weights)
    except ValueError as error:
        fail(str(error))
    if json_file is not None:
        json_file.write_text(report.to_json(evaluation))
    report.print_evaluation(evaluation, stdout)
    if plot is not None:
        report.plot_evaluation(evaluation, plot)

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from model.weights.loading import DEFAULT_WEIGHTS
from pipeline.cli.options import Device, DeviceOption, find_device
from pipeline.cli.terminal import fail, stdout


def evaluate(
    images: Annotated[Path, typer.Argument(metavar="IMAGES", help="Folder of photos.", exists=True)],
    against: Annotated[str, typer.Option(help="Codecs to compare with.")] = "jpeg,webp,avif",
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
    from pipeline.evaluate import curves  # noqa: PLC0415

    names = [name for name in against.split(",") if name]
    if unknown := set(names) - set(curves.AGAINST):
        known = ", ".join(curves.AGAINST)
        raise typer.BadParameter(f"{', '.join(unknown)}: not one of {known}", param_hint="--against")
    for option, file in (("--json", json_file), ("--plot", plot)):
        if file is not None and not file.parent.is_dir():
            raise typer.BadParameter(f"{file.parent} is no folder", param_hint=option)
    try:
        photos, others = list(curves.read_folder(images)), curves.read_curves(published or [])
        evaluation = curves.evaluate(photos, names, others, find_device(device), weights)
    except ValueError as error:
        fail(str(error))
    curves.print_evaluation(evaluation, stdout)
    if json_file is not None:
        json_file.write_text(json.dumps(asdict(evaluation)))
    if plot is not None:
        curves.plot_evaluation(evaluation, plot)

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.options import Device, DeviceOption, find_device
from pipeline.cli.terminal import fail, stdout


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
    # Here, not above: Matplotlib and SciPy would delay every other command.
    from pipeline.train import run_training  # noqa: PLC0415

    try:
        run_training(photos, out, config, evaluate_on, start_from, find_device(device), stdout)
    except ValueError as error:
        fail(str(error))

from pathlib import Path
from typing import Annotated

import typer

from model.codec import Codec
from model.files import to_image
from model.format.container import read_rgc
from model.photos.writing import image_bytes
from pipeline.cli import options
from pipeline.cli.terminal import fail
from transforms.storage.files import read_bytes, write_bytes


def decode(
    rgc: Annotated[str, options.place("RGC")],
    photo: Annotated[str, options.place("PHOTO")],
    image_format: Annotated[
        options.ImageFormat | None, typer.Option("--format", help="[default: by PHOTO's suffix]")
    ] = None,
    iterations: options.DecodeIterations = None,
    device: options.DeviceOption = options.Device.AUTO,
) -> None:
    """Decode one .rgc file, without Beam."""
    image_format = image_format or _format_of(photo)
    codec = Codec.load(options.find_device(device))
    try:
        file = read_rgc(read_bytes(rgc), rgc)
        image = to_image(codec, file if iterations is None else file.first_iterations(iterations))
        write_bytes(photo, image_bytes(image, image_format))
    except (OSError, ValueError) as error:
        fail(f"{rgc}: {error}" if rgc not in str(error) else str(error))


def _format_of(photo: str) -> options.ImageFormat:
    suffix = Path(photo).suffix.lower().removeprefix(".").replace("jpg", "jpeg")
    if suffix not in list(options.ImageFormat):
        known = ", ".join(options.ImageFormat)
        raise typer.BadParameter(f"{photo} ends in none of {known}; say which", param_hint="--format")
    return options.ImageFormat(suffix)

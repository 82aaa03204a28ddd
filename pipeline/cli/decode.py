"""`rgc decode`."""

from pathlib import Path
from typing import Annotated

import typer

from model.codec import Codec
from model.files import to_image
from model.format.container import read_rgc
from pipeline.cli.options import DecodeIterations, Device, DeviceOption, ImageFormat, find_device, place
from pipeline.cli.terminal import fail
from transforms.restore import image_bytes
from transforms.storage.files import read_bytes, write_bytes


def decode(
    rgc: Annotated[str, place("RGC")],
    photo: Annotated[str, place("PHOTO")],
    image_format: Annotated[
        ImageFormat | None, typer.Option("--format", help="[default: by PHOTO's suffix]")
    ] = None,
    iterations: DecodeIterations = None,
    device: DeviceOption = Device.AUTO,
) -> None:
    """Decode one .rgc file, without Beam."""
    image_format = image_format or _format_of(photo)
    codec = Codec.load(find_device(device))
    try:
        file = read_rgc(read_bytes(rgc), rgc)
        image = to_image(codec, file if iterations is None else file.first_iterations(iterations))
        write_bytes(photo, image_bytes(image, image_format))
    except (OSError, ValueError) as error:
        fail(f"{rgc}: {error}" if rgc not in str(error) else str(error))


def _format_of(photo: str) -> ImageFormat:
    suffix = Path(photo).suffix.lower().removeprefix(".").replace("jpg", "jpeg")
    if suffix not in list(ImageFormat):
        known = ", ".join(ImageFormat)
        raise typer.BadParameter(f"{photo} ends in none of {known}; say which", param_hint="--format")
    return ImageFormat(suffix)

from pathlib import Path
from typing import Annotated

import typer

from model.codec import Codec
from model.files import to_image
from model.format.container import read_rgc
from pipeline.cli import options
from pipeline.cli.terminal import fail, stderr, stdout
from transforms.restore import SUFFIXES, format_for, image_bytes, modified_of
from transforms.storage.files import read_bytes, set_modified, write_bytes


def decode(
    rgc: Annotated[str, options.place("RGC")],
    photo: Annotated[str, options.place("PHOTO")],
    image_format: Annotated[
        options.ImageFormat | None, typer.Option("--format", show_default="by PHOTO's suffix")
    ] = None,
    iterations: options.DecodeIterations = None,
    device: options.DeviceOption = options.Device.AUTO,
    overwrite: options.Overwrite = False,
) -> None:
    """Decode one .rgc file, without Beam."""
    image_format = image_format or _format_of(photo)
    options.check_destination(rgc, photo, overwrite, "PHOTO")
    codec = Codec.load(options.find_device(device))
    try:
        file = read_rgc(read_bytes(rgc), rgc)
        image = to_image(codec, file if iterations is None else file.first_iterations(iterations))
        data, could_not = image_bytes(file, image, format_for(file, image_format))
        write_bytes(photo, data)
        set_modified(photo, modified_of(file))
    except (OSError, ValueError) as error:
        fail(f"{rgc}: {error}" if rgc not in str(error) else str(error))
    used = min(iterations or len(file.codes), len(file.codes))
    size = f"{file.width}x{file.height} pixels"
    stdout.print(f"{photo}: {size}, from {used} of {len(file.ms_ssim)} iterations", highlight=False)
    if len(file.codes) < len(file.ms_ssim):
        whole = f"{len(file.codes)} of its {len(file.ms_ssim)} iterations are whole"
        stderr.print(f"{rgc} was cut off: {whole}, so {photo} is coarser", highlight=False, markup=False)
    if could_not:
        stderr.print(f"{photo} has no place for: {'; '.join(could_not)}", highlight=False, markup=False)


def _format_of(photo: str) -> options.ImageFormat:
    suffix = Path(photo).suffix.lower()
    for name, suffixes in SUFFIXES.items():
        if suffix in suffixes:
            return options.ImageFormat(name)
    known = ", ".join(SUFFIXES)
    raise typer.BadParameter(f"{photo} ends in none of {known}; say which", param_hint="--format")

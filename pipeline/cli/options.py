"""Options and arguments that several commands share: their types, and checks that name the one at fault."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Annotated, Any

import typer

from model.files import choose_device
from model.settings import DEFAULT_TARGET_MS_SSIM, Settings
from pipeline.compress import check_settings
from transforms.storage.files import find_status, is_remote, is_same_file


class ImageFormat(StrEnum):
    PNG = "png"
    JPEG = "jpeg"
    WEBP = "webp"
    TIFF = "tiff"
    HEIF = "heif"
    AVIF = "avif"
    ORIGINAL = "original"


class Device(StrEnum):
    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


@contextmanager
def naming(option: str | None) -> Iterator[None]:
    """Makes what is wrong with an option or argument a wrong call, which names it.

    Args:
        option: None where typer knows it.
    """
    try:
        yield
    except (OSError, ValueError) as error:
        raise typer.BadParameter(str(error), param_hint=option) from error


def _in_a_known_store(uri: str) -> str:
    with naming(None):
        is_remote(uri)
    return uri


def place(name: str, help_text: str | None = None) -> Any:
    """An argument that is a path or a gs:// URI."""
    return typer.Argument(metavar=name, help=help_text, callback=_in_a_known_store)


TargetMsSsim = Annotated[
    float | None,
    typer.Option(help="As few bytes as reach this MS-SSIM.", show_default=str(DEFAULT_TARGET_MS_SSIM)),
]
MaxBpp = Annotated[float | None, typer.Option(help="As good as fits into so many bits per pixel.")]
EncodeIterations = Annotated[int | None, typer.Option(help="So many iterations of the codec.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DecodeIterations = Annotated[int | None, typer.Option(min=1, help="Decode only so many iterations.")]
StoragePrice = Annotated[float, typer.Option(min=0, help="USD a month of 2**30 stored bytes, as of 2026-11.")]
DeviceOption = Annotated[Device, typer.Option(help="Where the codec runs.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Write over a file that is there.")]


def read_settings(target_ms_ssim: float | None, max_bpp: float | None, iterations: int | None) -> Settings:
    given = {"--target-ms-ssim": target_ms_ssim, "--max-bpp": max_bpp, "--iterations": iterations}
    names = [name for name, value in given.items() if value is not None]
    if len(names) > 1:
        raise typer.BadParameter(f"{' and '.join(names)} exclude each other")
    with naming(names[0] if names else None):
        return check_settings(target_ms_ssim, max_bpp, iterations)


def read_targets(text: str) -> list[float]:
    """Targets in MS-SSIM, from numbers between commas."""
    try:
        targets = [float(target) for target in text.split(",")]
    except ValueError:
        targets = []
    if not targets or not all(0 < target < 1 for target in targets):
        message = f"{text}: numbers above 0 and below 1 are needed, with commas between them"
        raise typer.BadParameter(message, param_hint="--targets")
    return targets


def find_device(device: Device) -> str:
    with naming("--device"):
        return choose_device(device)


def check_destination(source: str, destination: str, overwrite: bool, name: str) -> None:
    """Raises typer.BadParameter if the destination is there and must not be overwritten, or is the source."""
    with naming(name):
        if is_same_file(source, destination):
            raise ValueError(f"{destination} is {source} itself")
        if not overwrite and find_status(destination) is not None:
            raise ValueError(f"{destination} is there already; --overwrite writes over it")

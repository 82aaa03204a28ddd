"""The command line's options and arguments: their types, and the checks that name the one at fault."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from apache_beam.options.pipeline_options import PipelineOptions

from model.files import choose_device
from model.settings import DEFAULT_TARGET_MS_SSIM, Settings
from pipeline.compress import check_settings
from pipeline.runners.dataflow import choose_dataflow_options
from pipeline.runners.names import is_local
from pipeline.runners.portable import wait_for_the_job
from transforms.find import Source, find_source
from transforms.restore import SUFFIXES
from transforms.storage.files import find_status, is_remote, is_same_file, writing_to


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


def _in_a_known_store(uri: str) -> str:
    try:
        is_remote(uri)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    return uri


def place(name: str, help_text: str | None = None) -> Any:
    """An argument that is a path or a gs:// URI."""
    return typer.Argument(metavar=name, help=help_text, callback=_in_a_known_store)


TargetMsSsim = Annotated[
    float | None,
    typer.Option(help=f"Stop where MS-SSIM reaches this. [default: {DEFAULT_TARGET_MS_SSIM}]"),
]
MaxBpp = Annotated[float | None, typer.Option(help="As good as fits into so many bits per pixel.")]
EncodeIterations = Annotated[int | None, typer.Option(help="So many iterations of the codec.")]
DecodeIterations = Annotated[int | None, typer.Option(min=1, help="Decode only so many iterations.")]
DeviceOption = Annotated[Device, typer.Option(help="Where the codec runs.")]


def read_settings(target_ms_ssim: float | None, max_bpp: float | None, iterations: int | None) -> Settings:
    given = {"--target-ms-ssim": target_ms_ssim, "--max-bpp": max_bpp, "--iterations": iterations}
    names = [name for name, value in given.items() if value is not None]
    if len(names) > 1:
        raise typer.BadParameter(f"{' and '.join(names)} exclude each other")
    try:
        return check_settings(target_ms_ssim, max_bpp, iterations)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=names[0]) from error


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
    try:
        return choose_device(device)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--device") from error


Overwrite = Annotated[bool, typer.Option("--overwrite", help="Write over a file that is there.")]


def check_destination(source: str, destination: str, overwrite: bool, name: str) -> None:
    """Raises typer.BadParameter where a file is there that was not to be written over, or is the source."""
    try:
        if is_same_file(source, destination):
            raise typer.BadParameter(f"{destination} is {source} itself", param_hint=name)
        if not overwrite and find_status(destination) is not None:
            text = f"{destination} is there already; --overwrite writes over it"
            raise typer.BadParameter(text, param_hint=name)
    except (OSError, ValueError) as error:
        raise typer.BadParameter(str(error), param_hint=name) from error


def format_of(photo: str) -> ImageFormat:
    suffix = Path(photo).suffix.lower()
    for name, suffixes in SUFFIXES.items():
        if suffix in suffixes:
            return ImageFormat(name)
    known = ", ".join(SUFFIXES)
    raise typer.BadParameter(f"{photo} ends in none of {known}; say which", param_hint="--format")


def read_beam_options(arguments: list[str]) -> PipelineOptions:
    """Beam's options from what the command itself does not know.

    Raises:
        typer.BadParameter: naming what Beam does not know either.
    """
    options = PipelineOptions(arguments)
    known = options.get_all_options()
    unknown = set(options.get_all_options(retain_unknown_options=True)) - set(known)
    stray = [argument for argument in arguments[:1] if not argument.startswith("-")]
    if unknown or stray:
        names = ", ".join([*(f"--{name}" for name in sorted(unknown)), *stray])
        raise typer.BadParameter(f"neither rgc nor Beam knows {names}")
    return options


def check_run(source: str, device: Device, options: PipelineOptions) -> Source:
    """Finds out before the run what would make all of it fail; returns what INPUT names."""
    try:
        choose_dataflow_options(options)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    try:
        wait_for_the_job(options)
    except OSError as error:
        raise typer.BadParameter(str(error), param_hint="--job_endpoint") from error
    if is_local(options):
        find_device(device)
    try:
        return find_source(source)
    except OSError as error:
        raise typer.BadParameter(str(error), param_hint="INPUT") from error


@contextmanager
def writing_to_output(output: str, folders: Sequence[str]) -> Iterator[None]:
    with ExitStack() as stack:
        try:
            stack.enter_context(writing_to(output, folders))
        except OSError as error:
            raise typer.BadParameter(f"cannot be written: {error}", param_hint="OUTPUT") from error
        yield


def photos_to_verify(verified: str | None, safe_to_delete: str | None) -> int | None:
    """How many photos --verify asks for; None for all, or for no verification at all."""
    if safe_to_delete is not None and verified != "all":
        message = "nothing was written: without --verify all nothing can be promised"
        raise typer.BadParameter(message, param_hint="--safe-to-delete")
    if verified in (None, "all"):
        return None
    if not verified.isdecimal() or int(verified) < 1:
        raise typer.BadParameter(f"{verified}: neither a number from 1 nor all", param_hint="--verify")
    return int(verified)

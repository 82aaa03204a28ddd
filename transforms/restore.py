"""Decoding: .rgc files to photos."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.codec import Codec
from model.files import decode_pixels, view_of, with_alpha
from model.format.container import RgcError, RgcFile, read_rgc
from model.photos.names import PHOTO_SUFFIXES
from model.photos.writing import image_file
from transforms.elements import Photo
from transforms.encode import CodecHandler, raise_if_broken
from transforms.progress import stop_if_full
from transforms.storage.files import join, read_bytes, set_modified, write_over
from transforms.storage.status import ConflictError

_LOG = logging.getLogger(__name__)

ORIGINAL = "original"  # each image in the format that it came from
SUFFIXES = {
    "png": (".png",),
    "jpeg": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "webp": (".webp",),
    "tiff": (".tif", ".tiff"),
    "heif": (".heic", ".heif", ".hif"),
    "avif": (".avif",),
}


@dataclass(frozen=True)
class LoadedRgc:
    """A .rgc file's content, or why there is none."""

    photo: Photo
    file: RgcFile | None
    error: str = ""


@dataclass(frozen=True)
class Restored:
    """The decoded pixels, or why there are none."""

    photo: Photo
    file: RgcFile | None
    pixels: NDArray[np.uint8] | None
    error: str = ""


@dataclass(frozen=True)
class RestoredFile:
    """The image's URI, or why there is none; and what the image's format has no place for."""

    photo: Photo
    pixels: int
    uri: str | None
    error: str = ""
    could_not: tuple[str, ...] = ()


def load_rgc(photo: Photo, iterations: int | None) -> LoadedRgc:
    """Reads a .rgc file, and only its first `iterations` if given."""
    if photo.unreadable:
        return LoadedRgc(photo, None, f"{photo.uri}: {photo.unreadable}")
    try:
        file = read_rgc(read_bytes(photo.uri, fingerprint=photo.fingerprint), photo.uri)
    except Exception as error:  # one bad file never stops a run
        return LoadedRgc(photo, None, f"{photo.uri}: {error}" if photo.uri not in str(error) else str(error))
    return LoadedRgc(photo, file if iterations is None else file.first_iterations(iterations))


class DecodeHandler(CodecHandler):
    """`LoadedRgc`s to `Restored`, one at a time: batches would be no faster."""

    def __init__(self, device: str, threads: int | None) -> None:
        super().__init__(device, 1, _pixels, threads)

    def run_inference(
        self, batch: Sequence[LoadedRgc], model: Codec, inference_args: dict[str, Any] | None = None
    ) -> Iterable[Restored]:
        return [self._decode(model, loaded) for loaded in batch]

    def _decode(self, codec: Codec, loaded: LoadedRgc) -> Restored:
        if loaded.file is None:
            return Restored(loaded.photo, None, None, loaded.error)
        try:
            pixels = decode_pixels(codec, loaded.file)
        except RgcError as error:
            return Restored(loaded.photo, None, None, f"{loaded.photo.uri}: {error}")
        except Exception as error:  # one bad file never stops a run
            raise_if_broken(codec)
            _LOG.exception("%s: decoding failed", loaded.photo.uri)
            return Restored(loaded.photo, None, None, f"{loaded.photo.uri}: {type(error).__name__}: {error}")
        return Restored(loaded.photo, loaded.file, pixels)


def write_image(
    restored: Restored, output: str, image_format: str, stop_path: str | None = None
) -> RestoredFile:
    """Writes the image to `output`, named by `image_name`. An existing file stays; another one is an error.

    Args:
        stop_path: see `request_stop`; used if `output` is full.
    """
    if restored.file is None or restored.pixels is None:
        return RestoredFile(restored.photo, 0, None, restored.error)
    image_format = format_for(restored.file, image_format)
    uri = join(output, image_name(restored.photo.relative, image_format))
    try:
        data, could_not = image_bytes(restored.file, with_alpha(restored.file, restored.pixels), image_format)
        write_over(uri, data, None)
        set_modified(uri, modified_of(restored.file))
    except ConflictError as error:
        return RestoredFile(restored.photo, 0, None, f"{restored.photo.uri}: {error}, and is not overwritten")
    except Exception as error:  # one bad file never stops a run
        stop_if_full(error, stop_path)
        return RestoredFile(restored.photo, 0, None, f"{restored.photo.uri}: writing {uri}: {error}")
    pixels = restored.pixels.shape[0] * restored.pixels.shape[1]
    return RestoredFile(restored.photo, pixels, uri, could_not=tuple(could_not))


def image_name(relative: str, image_format: str) -> str:
    """`a.jpg.rgc` becomes `a.jpg` in JPEG, else `a.jpg.png`.

    No two photos get one name: `a.heic.rgc` becomes `a.heic.jpg`, so `a.heic.jpg.rgc` does not.
    """
    name = relative.removesuffix(".rgc")
    path = PurePosixPath(name)
    of_this_format = path.suffix.lower() in SUFFIXES[image_format]
    if of_this_format and PurePosixPath(path.stem).suffix.lower() not in PHOTO_SUFFIXES:
        return name
    return name + SUFFIXES[image_format][0]


def format_for(file: RgcFile, image_format: str) -> str:
    """The format to write: for "original" the source's own, or PNG if rgc does not write that."""
    if image_format != ORIGINAL:
        return image_format
    own = file.metadata.format.lower() if file.metadata is not None else ""
    return own if own in SUFFIXES else "png"


def modified_of(file: RgcFile) -> int | None:
    """When the source was last changed, nanoseconds since 1970, if that is known."""
    return None if file.source is None else file.source.modified_ns


def image_bytes(file: RgcFile, image: Image.Image, image_format: str) -> tuple[bytes, list[str]]:
    """The image in a format that people have programs for, with its metadata, and what that has no place for.

    Args:
        file: what the image was decoded from.
    """
    return image_file(image, image_format.upper(), file.metadata, view_of(file))


def _pixels(loaded: LoadedRgc) -> int:
    return loaded.file.width * loaded.file.height if loaded.file else 1

"""Decoding: .rgc files to photos."""

import hashlib
import logging
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.codec import Codec
from model.files import decode_pixels, view_of, with_alpha
from model.format.container import RgcError, RgcFile, read_rgc
from model.photos.errors import UnreadablePhotoError
from model.photos.isolation.pool import read_photo_in_child
from model.photos.names import PHOTO_SUFFIXES
from model.photos.writing import image_file
from transforms.elements import Photo
from transforms.encode import CodecHandler, end_if_broken
from transforms.manifest.restored import RestoredRow, Wanted
from transforms.progress import stop_if_full
from transforms.storage.files import find_status, join, read_bytes, set_modified, write_over
from transforms.storage.status import ConflictError

_LOG = logging.getLogger(__name__)

_SAME_PICTURE = 1.0  # grey levels, on average
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
class Restored:
    """A .rgc file's content and, once it is decoded, its pixels; or why there are none."""

    photo: Photo
    file: RgcFile | None
    pixels: NDArray[np.uint8] | None = None
    error: str = ""


def load_rgc(photo: Photo, iterations: int | None) -> Restored:
    """Reads a .rgc file, and only its first `iterations` if given."""
    if photo.unreadable:
        return Restored(photo, None, error=f"{photo.uri}: {photo.unreadable}")
    try:
        file = read_rgc(read_bytes(photo.uri, fingerprint=photo.fingerprint), photo.uri)
    except Exception as error:  # one bad file never stops a run
        why = f"{photo.uri}: {error}" if photo.uri not in str(error) else str(error)
        return Restored(photo, None, error=why)
    return Restored(photo, file if iterations is None else file.first_iterations(iterations))


class DecodeHandler(CodecHandler):
    """Decodes what `load_rgc` has read: one after the other, but on a GPU all of a batch at a time.

    There range decoding in other processes takes most of the time.
    """

    def __init__(self, device: str, max_batch_pixels: int, threads: int | None) -> None:
        super().__init__(
            device,
            max_batch_pixels,
            lambda loaded: loaded.file.width * loaded.file.height if loaded.file else 1,
            threads,
        )

    def run_inference(
        self, batch: Sequence[Restored], model: Codec, inference_args: dict[str, Any] | None = None
    ) -> Iterable[Restored]:
        at_once = os.cpu_count() if model.device.type == "cuda" else 1
        with ThreadPoolExecutor(at_once) as threads:
            return list(threads.map(partial(self._decode, model), batch))

    def _decode(self, codec: Codec, loaded: Restored) -> Restored:
        if loaded.file is None:
            return loaded
        try:
            return replace(loaded, pixels=decode_pixels(codec, loaded.file))
        except RgcError as error:
            return replace(loaded, error=f"{loaded.photo.uri}: {error}")
        except Exception as error:  # one bad file never stops a run
            end_if_broken(codec)
            _LOG.exception("%s: decoding failed", loaded.photo.uri)
            return replace(loaded, error=f"{loaded.photo.uri}: {type(error).__name__}: {error}")


def write_image(restored: Restored, wanted: Wanted, stop_path: str | None = None) -> RestoredRow:
    """Writes the image under the name that `image_name` gives, and returns the file's row.

    A file that is already there is replaced if an earlier run has made it of this .rgc file and nobody has
    changed it since. Any other file stays; if it is another picture, that is an error.

    Args:
        stop_path: where the run is asked to stop if OUTPUT is full.
    """
    photo = restored.photo
    row = RestoredRow(
        rgc_uri=photo.uri,
        status="failed",
        rgc_bytes=photo.size,
        rgc_fingerprint=photo.fingerprint,
        format=wanted.format,
        iterations=wanted.iterations,
        run_id=wanted.run_id,
        finished_at=datetime.now(UTC),
    )
    if restored.file is None or restored.pixels is None:
        return replace(row, reason=restored.error)
    image_format = format_for(restored.file, wanted.format)
    uri = join(wanted.output, image_name(photo.relative, image_format))
    try:
        data, could_not = image_bytes(restored.file, with_alpha(restored.file, restored.pixels), image_format)
        sha256 = _write_image(uri, data, photo.image_sha256)
        set_modified(uri, modified_of(restored.file))
        there = find_status(uri)
    except ConflictError:
        why = f"{uri} is there already, and is not what an earlier run has made of it"
        return replace(row, reason=f"{photo.uri}: {why}: it stays; move it away, or take another OUTPUT")
    except Exception as error:  # one bad file never stops a run
        stop_if_full(error, stop_path)
        return replace(row, reason=f"{photo.uri}: writing {uri}: {error}")
    return replace(
        row,
        status="decoded",
        image_uri=uri,
        image_fingerprint=None if there is None else there.fingerprint,
        image_sha256=sha256,
        pixels=restored.file.width * restored.file.height,
        left_out="; ".join(could_not) or None,
    )


def _write_image(uri: str, data: bytes, earlier_sha256: str) -> str | None:
    """The SHA-256 of what it has written; None if the same picture is there in other bytes, which stay.

    Args:
        earlier_sha256: of what may be replaced. The time of last change does not tell: it is the photo's own.

    Raises:
        ConflictError: another picture is there.
        OSError: it cannot be written.
    """
    try:
        write_over(uri, data, None)
    except ConflictError:
        if (there := find_status(uri)) is None:
            raise
        theirs = read_bytes(uri, there.fingerprint)
        if hashlib.sha256(theirs).hexdigest() == earlier_sha256:
            write_over(uri, data, there.fingerprint)
        elif _is_same_picture(theirs, data):
            return None
        else:
            raise
    return hashlib.sha256(data).hexdigest()


def _is_same_picture(there: bytes, data: bytes) -> bool:
    """Whether another device or another version of an encoder may have made the file that is there.

    A bundle that is tried again on another worker finds such.
    """
    try:
        theirs, ours = map(read_photo_in_child, (there, data))
    except UnreadablePhotoError:
        return False
    if theirs.pixels.shape != ours.pixels.shape or theirs.metadata != ours.metadata:
        return False
    return bool(np.abs(theirs.pixels.astype(np.int16) - ours.pixels).mean() < _SAME_PICTURE)


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

    Raises:
        OSError, ValueError: the format has no room for so large an image, or for metadata that no photo has.
    """
    seen = view_of(file)
    try:
        return image_file(image, image_format.upper(), file.metadata, seen)
    except (OSError, ValueError, MemoryError):
        raise
    except Exception as error:  # blocks of a crafted file may be anything
        what = f"{type(error).__name__}: {error}"
        raise RgcError(f"its metadata cannot be written as {image_format}: {what}") from error

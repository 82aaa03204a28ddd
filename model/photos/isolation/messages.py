"""What parent and child say to each other, in bytes. Nothing that the child says is trusted: no pickle."""

import json
import struct
from typing import IO, Any

import numpy as np

from model.format.metadata import MetadataBlocks
from model.photos.reading import DecodedPhoto

_LENGTH = struct.Struct(">Q")
_MOST_HEADER, _MOST_PART = 1 << 24, 1 << 30
_PARTS = ("exif", "icc_profile", "xmp", "alpha", "metadata")


class BrokenMessageError(ValueError):
    """The other side has ended, or says what it never should."""


def send(stream: IO[bytes], *parts: bytes | memoryview) -> None:
    """Writes one message: some parts, each after its length."""
    for part in parts:
        stream.write(_LENGTH.pack(len(part)))
        stream.write(part)
    stream.flush()


def receive(stream: IO[bytes], most: int = _MOST_PART) -> bytearray:
    """Reads one part.

    Raises:
        BrokenMessageError: it is cut off, or longer than `most`.
    """
    (length,) = _LENGTH.unpack(_exactly(stream, _LENGTH.size))
    if length > most:
        raise BrokenMessageError(f"{length} bytes, where at most {most} are expected")
    return _exactly(stream, length)


def _exactly(stream: IO[bytes], length: int) -> bytearray:
    content = bytearray(length)
    view, position = memoryview(content), 0
    while position < length:
        count = stream.readinto(view[position:])  # type: ignore[attr-defined]
        if not count:
            raise BrokenMessageError(f"cut off after {position} of {length} bytes")
        position += count
    return content


def send_photo(stream: IO[bytes], photo: DecodedPhoto, complaints: str) -> None:
    """Args: complaints: what decoders said on the way."""
    pixels = np.ascontiguousarray(photo.pixels[:, :, 0]) if photo.grey else photo.pixels
    header = {
        "size": photo.pixels.shape[:2],
        "grey": photo.grey,
        "format": photo.format,
        "notes": [*photo.notes, *([complaints] if complaints else [])],
    }
    metadata = b"" if photo.metadata is None else photo.metadata.to_bytes()
    parts = (photo.exif, photo.icc_profile, photo.xmp, photo.alpha, metadata)
    send(stream, json.dumps(header).encode(), pixels.data.cast("B"), *parts)


def send_error(stream: IO[bytes], reason: str) -> None:
    send(stream, json.dumps({"error": reason}).encode())


def receive_photo(stream: IO[bytes], most_pixels: int) -> DecodedPhoto | str:
    """A photo, or why there is none.

    Raises:
        BrokenMessageError: the child has ended, or sent what it never should.
    """
    try:
        header: dict[str, Any] = json.loads(receive(stream, _MOST_HEADER))
        if "error" in header:
            return str(header["error"])
        height, width, grey = *map(int, header["size"]), bool(header["grey"])
        if not (height > 0 and width > 0 and height * width <= most_pixels):
            raise BrokenMessageError(f"a photo of {width}x{height} pixels")
        pixels = np.frombuffer(receive(stream, 3 * most_pixels), np.uint8)
        shape = (height, width, 1) if grey else (height, width, 3)
        planes = pixels.reshape(shape)
        parts = {name: bytes(receive(stream)) for name in _PARTS}
        packed = parts.pop("metadata")
        return DecodedPhoto(
            pixels=np.repeat(planes, 3, axis=2) if grey else planes,
            grey=grey,
            format=str(header["format"]),
            notes=tuple(map(str, header["notes"])),
            metadata=MetadataBlocks.from_bytes(packed) if packed else None,
            **parts,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BrokenMessageError(f"{type(error).__name__}: {error}") from error

"""What parent and child say to each other, in bytes. Nothing that the child says is trusted: no pickle."""

import json
from typing import IO, Any

import numpy as np

from model.children import BrokenMessageError, receive, send
from model.format.metadata import MetadataBlocks
from model.photos.reading import DecodedPhoto

_MOST_HEADER = 1 << 24
_PARTS = ("exif", "icc_profile", "xmp", "alpha", "metadata")


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

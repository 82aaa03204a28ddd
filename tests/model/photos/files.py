"""Photos' files made piece by piece, for tests: of arbitrary metadata, of odd pixels, broken in one place."""

import io
import struct
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.photos.metadata.tiff_directories import Tag, structure

SIDES = (40, 24)  # pixels across and down


def picture(mode: str = "RGB") -> Image.Image:
    """A gradient with an L in a corner: no turn of it looks like another."""
    width, height = SIDES
    across, down = np.meshgrid(np.linspace(40, 200, width), np.linspace(20, 180, height))
    pixels = np.stack([across, down, (across + down) / 2], axis=2).astype(np.uint8)
    pixels[:8, :3] = pixels[6:8, :10] = 250
    return Image.fromarray(pixels).convert(mode)


def saved(image: Image.Image, image_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def with_segments(jpeg: bytes, segments: Iterable[tuple[int, bytes]]) -> bytes:
    """A JPEG with these segments, marker and content, ahead of its others."""
    added = (struct.pack(">BBH", 0xFF, marker, 2 + len(content)) + content for marker, content in segments)
    return jpeg[:2] + b"".join(added) + jpeg[2:]


def png_chunk(kind: bytes, content: bytes) -> bytes:
    body = kind + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def png(
    rows: NDArray[np.uint8] | NDArray[np.uint16],
    colour_type: int,
    bits: int,
    ahead: Sequence[tuple[bytes, bytes]] = (),
    after: Sequence[tuple[bytes, bytes]] = (),
) -> bytes:
    """A PNG of samples, (H, W) or (H, W, C), one to a byte if of 8 bits or fewer; and chunks around them."""
    height, width = rows.shape[:2]
    if bits == 16:
        packed = [row.astype(">u2").tobytes() for row in rows]
    elif bits == 8:
        packed = [row.tobytes() for row in rows]
    else:
        packed = [_packed(row, bits) for row in rows]
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in packed))
    chunks = [(b"IHDR", header), *ahead, (b"IDAT", pixels), *after, (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def _packed(row: NDArray[Any], bits: int) -> bytes:
    ones = np.unpackbits(row.astype(np.uint8)[:, None], axis=1)[:, 8 - bits :]
    return np.packbits(ones.ravel()).tobytes()


def tiff(
    pixels: bytes, layout: dict[int, int | tuple[int, ...]], tags: Sequence[Tag] = (), order: str = "<"
) -> bytes:
    """A TIFF of one strip; `layout` are its tags of 16-bit numbers, sizes among them."""

    def number(tag: int, value: int | tuple[int, ...]) -> Tag:
        values = value if isinstance(value, tuple) else (value,)
        return Tag(tag, 3, struct.pack(f"{order}{len(values)}H", *values))

    usual: dict[int, int | tuple[int, ...]] = {
        256: SIDES[0],
        257: SIDES[1],
        258: 8,
        259: 1,
        262: 1,
        277: 1,
        278: SIDES[1],
    }
    strips = [Tag(273, 4, struct.pack(f"{order}I", 8)), Tag(279, 4, struct.pack(f"{order}I", len(pixels)))]
    numbers = [number(tag, value) for tag, value in (usual | layout).items()]
    return structure(order, [*numbers, *strips, *tags], pixels)


def exif_structure(entries: Sequence[tuple[int, int, int]], order: str = "<") -> bytes:
    """EXIF of whole numbers: tag, type (1 byte, 3 short, 4 long) and value, in that order."""
    body = struct.pack(f"{order}H", len(entries))
    for tag, kind, value in entries:
        code = {1: "Bxxx", 3: "Hxx", 4: "I"}[kind]
        body += struct.pack(f"{order}HHI{code}", tag, kind, 1, value)
    return (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8) + body + bytes(4)


GREY, RGB = np.array(picture("L")), np.array(picture())
EXIF, XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"  # what begins a JPEG's segments of either
SIX = exif_structure([(274, 3, 6)])

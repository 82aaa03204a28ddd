"""WebP: the chunks of its RIFF file beside the pixels."""

import struct
from collections.abc import Iterable, Iterator

from model.format.metadata import Block, MetadataBlocks
from model.photos.metadata import exif, xmp
from model.photos.metadata.common import Found, View, size

_STORAGE = {b"VP8 ", b"VP8L", b"VP8X", b"ALPH"}
_FRAMES = {b"ANIM", b"ANMF"}
_PIXELS = "VP8X"  # as a block, without bytes: where the pixels stand among the others
_FLAGS = {"ICCP": 0x20, "EXIF": 0x08, "XMP ": 0x04}
_ALPHA = 0x10


def chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of each chunk that is whole."""
    position, end = 12, min(8 + int.from_bytes(data[4:8], "little"), len(data))
    while position + 8 <= end:
        kind, length = struct.unpack_from("<4sI", data, position)
        if position + 8 + length > end:
            return
        yield kind, data[position + 8 : position + 8 + length]
        position += 8 + length + length % 2


def read(data: bytes) -> Found:
    found = Found()
    pixels_seen = False
    for kind, content in chunks(data):
        if kind in (b"VP8 ", b"VP8L", b"ANMF") and not pixels_seen:
            found.blocks.append(Block(_PIXELS, b""))
            pixels_seen = True
        if kind in _STORAGE or kind in _FRAMES:
            continue
        if kind.isascii():
            found.blocks.append(Block(kind.decode(), content))
        else:
            found.left_out.append(f"an unknown chunk, {kind!r}")
    if (rest := data[8 + int.from_bytes(data[4:8], "little") :]).strip(b"\0"):
        found.left_out.append(f"{size(rest)} after the picture")
    return found


def orientation(blocks: Iterable[Block]) -> int:
    """The orientation in EXIF, else in XMP."""
    blocks = list(blocks)
    found = [exif.orientation(block.data) for block in blocks if block.kind == "EXIF"]
    found += [xmp.orientation(block.data) for block in blocks if block.kind == "XMP "]
    return exif.first_turn(found)


def turned(blocks: Iterable[Block], applied: int) -> list[Block]:
    """The blocks of a picture whose pixels were turned: see `exif.turned`."""
    return [block if applied == 1 else _turned(block, applied) for block in blocks]


def _turned(block: Block, applied: int) -> Block:
    if block.kind == "EXIF":
        return Block(block.kind, exif.turned(block.data, applied))
    if block.kind == "XMP ":
        return Block(block.kind, xmp.reset_orientation(block.data))
    return block


def without_profile(blocks: Iterable[Block]) -> list[Block]:
    return [block for block in blocks if block.kind != "ICCP"]


def view(metadata: MetadataBlocks) -> View:
    exifs = [exif.structure(data) for data in metadata.of_kind("EXIF")]
    profiles, packets = list(metadata.of_kind("ICCP")), list(metadata.of_kind("XMP "))
    known = (_PIXELS, *_FLAGS)
    others = [f"{size(b.data)} of {b.kind}" for b in metadata.blocks if b.kind not in known]
    return View.of_first(exifs, packets, profiles, others)


def blocks_of(view: View) -> tuple[list[Block], list[str]]:
    """The chunks that hold what came from another container, and what they cannot hold."""
    could_not = list(view.others)
    could_not += [f"{size(view.iptc)} of IPTC"] * bool(view.iptc)
    could_not += [f"a comment of {len(comment)} characters" for comment in view.comments]
    ahead = [Block("ICCP", view.icc_profile)] if view.icc_profile else []
    after = [Block("EXIF", view.exif)] if view.exif else []
    after += [Block("XMP ", view.xmp)] if view.xmp else []
    return [*ahead, Block(_PIXELS, b""), *after], could_not


def apply(blocks: Iterable[Block], webp: bytes, width: int, height: int) -> bytes:
    """A WebP's pixels with these chunks beside them."""
    blocks = list(blocks)
    pixels = [chunk for chunk in chunks(webp) if chunk[0] in (b"ALPH", b"VP8 ", b"VP8L")]
    flags = 0
    for block in blocks:
        flags |= _FLAGS.get(block.kind, 0)
    for kind, content in chunks(webp):
        has_alpha = kind == b"ALPH" or (kind == b"VP8L" and bool(content[4] & 0x10))
        flags |= _ALPHA if has_alpha else 0
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    written = [(b"VP8X", bytes([flags, 0, 0, 0]) + sides)]
    for block in blocks:
        if block.kind == _PIXELS:
            written += pixels
            pixels = []
        else:
            written.append((block.kind.encode(), block.data))
    body = b"WEBP" + b"".join(_written(*chunk) for chunk in (*written, *pixels))
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _written(kind: bytes, content: bytes) -> bytes:
    return struct.pack("<4sI", kind, len(content)) + content + b"\0" * (len(content) % 2)

"""TIFF: every tag that does not describe the layout of its pixels, and the directories of EXIF and GPS."""

import struct
import zlib
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from model.format.metadata import Block, MetadataBlocks
from model.photos.metadata import exif, xmp
from model.photos.metadata.common import Found, View, size
from model.photos.metadata.tiff_directories import (
    BITS,
    EXTRA_SAMPLES,
    LAYOUT,
    ORIENTATION,
    WHOLE_NUMBERS,
    XMP,
    Reader,
    Tag,
    structure,
    whole_numbers,
)

IPTC, PHOTOSHOP, ICC = 33723, 34377, 34675
_DESCRIPTION, _ACROSS, _DOWN, _UNIT = 270, 282, 283, 296
_MOST_DENSITY = 4_294_967  # in thousandths of a pixel an inch, in 32 bits
_MAKER_NOTE = 37500
# How maker notes begin whose offsets count from themselves. Others count from the beginning of the file, and
# tags move when they are written again: of Canon's hardly one can be read then.
_OWN_OFFSETS = (b"Apple iOS\0", b"FUJIFILM", b"Nikon\0\2", b"OLYMPUS\0II", b"OLYMPUS\0MM")
_TRANSFER_FUNCTION = 301  # has a value for each level that a sample can have
_STRIP_BYTES = 1 << 18


def read(data: bytes) -> Found:
    found = Found()
    reader = Reader(data)
    tags = reader.tags(reader.first_offset())
    bits = [whole_numbers(tag, reader.order) for tag in tags if tag.tag == BITS]
    found.bits = max((1, *bits[-1])) if bits else 1
    blocks = [Block("order", data[:2])]
    for tag in sorted(tags, key=lambda tag: tag.tag):  # as they have to be, and will be
        if tag.tag == _TRANSFER_FUNCTION and found.bits != 8:
            found.left_out.append("its transfer function, which is of other bits")
        elif tag.tag not in LAYOUT:
            blocks += _blocks(tag, "")
    found.blocks = blocks
    found.left_out += _left_out(reader, tags)
    return found


def _left_out(reader: Reader, tags: list[Tag]) -> list[str]:
    """In words; what cannot be read of the layout is for whoever decodes the pixels."""
    unreadable = [name for name in reader.unreadable if not (name.isdigit() and int(name) in LAYOUT)]
    left_out = [*(f"tag {name}, which cannot be read" for name in unreadable), *reader.problems]
    inside = [each for tag in tags if isinstance(tag.value, list) for each in tag.value]
    notes = [tag.value for tag in inside if tag.tag == _MAKER_NOTE and isinstance(tag.value, bytes)]
    if not all(note.startswith(_OWN_OFFSETS) for note in notes):
        left_out.append("where its maker note stood, from which it may count offsets")
    return left_out


def _blocks(tag: Tag, path: str) -> Iterator[Block]:
    if isinstance(tag.value, bytes):
        yield Block(f"{path}{tag.tag}:{tag.type}", tag.value)
        return
    yield Block(f"{path}{tag.tag}/", b"")
    for inner in tag.value:
        yield from _blocks(inner, f"{path}{tag.tag}/")


def tags_of(blocks: Iterable[Block]) -> tuple[str, list[Tag]]:
    """The order of bytes, "<" or ">", and the tags that blocks hold."""
    order, root = "<", list[Tag]()
    directories = {"": root}
    for block in blocks:
        if block.kind == "order":
            order = "<" if block.data == b"II" else ">"
        elif block.kind.endswith("/"):
            parent, _, number = block.kind[:-1].rpartition("/")
            inner: list[Tag] = []
            directories[block.kind] = inner
            directories[f"{parent}/" if parent else ""].append(Tag(int(number), 4, inner))
        else:
            path, _, name = block.kind.rpartition("/")
            number, _, kind = name.partition(":")
            directories[f"{path}/" if path else ""].append(Tag(int(number), int(kind), block.data))
    return order, root


def orientation(blocks: Iterable[Block]) -> int:
    blocks = list(blocks)
    order, tags = tags_of(blocks)
    asked = [whole_numbers(tag, order) for tag in tags if tag.tag == ORIENTATION][-1:]
    found = [numbers[0] for numbers in asked if len(numbers) == 1]
    found += [xmp.orientation(tag.value) for tag in tags if tag.tag == XMP and isinstance(tag.value, bytes)]
    return exif.first_turn(found)


def turned(blocks: Iterable[Block], applied: int) -> list[Block]:
    """The blocks of a picture whose pixels were turned: nothing asks for it any more.

    Resolutions across and down are exchanged where it was laid on its side.
    """
    blocks = list(blocks)
    if applied == 1:
        return blocks
    order, _ = tags_of(blocks)
    new = []
    swapped = {_ACROSS: _DOWN, _DOWN: _ACROSS} if applied >= 5 else {}
    for block in blocks:
        number, _, kind = block.kind.partition(":")
        if number == str(ORIENTATION) and block.data:
            code = WHOLE_NUMBERS.get(int(kind), "")
            new.append(Block(block.kind, struct.pack(order + code, 1) if code else b""))
        elif number == str(XMP):
            new.append(Block(block.kind, xmp.reset_orientation(block.data)))
        elif number.isdigit() and int(number) in swapped:
            new.append(Block(f"{swapped[int(number)]}:{kind}", block.data))
        else:
            new.append(block)
    return new


def without_profile(blocks: Iterable[Block]) -> list[Block]:
    return [block for block in blocks if not block.kind.startswith(f"{ICC}:")]


def view(metadata: MetadataBlocks) -> View:
    order, tags = tags_of(metadata.blocks)
    values = {tag.tag: tag.value for tag in tags if isinstance(tag.value, bytes)}
    apart = {ICC, XMP, IPTC, PHOTOSHOP}
    inside = [tag for tag in tags if tag.tag not in apart]
    return View(
        exif=structure(order, inside) if inside else b"",
        icc_profile=values.get(ICC, b""),
        xmp=values.get(XMP, b""),
        iptc=values.get(IPTC, b""),
        others=(f"{size(values[PHOTOSHOP])} of Photoshop's resources",) if PHOTOSHOP in values else (),
    )


def blocks_of(view: View) -> tuple[list[Block], list[str]]:
    """The tags that hold what came from another container, and what they cannot hold."""
    could_not = list(view.others)
    tags: list[Tag] = []
    order = "<"
    if view.exif:
        try:
            reader = Reader(view.exif)
            order = reader.order
            tags = [tag for tag in reader.tags(reader.first_offset()) if tag.tag not in LAYOUT]
            could_not += _left_out(reader, tags)
        except ValueError as error:
            could_not.append(f"{size(view.exif)} of EXIF: {error}")
    have = {tag.tag for tag in tags}
    for number, kind, value in ((XMP, 1, view.xmp), (IPTC, 7, view.iptc), (ICC, 7, view.icc_profile)):
        if value and number not in have:
            tags.append(Tag(number, kind, value))
    if view.comments and _DESCRIPTION not in have:
        tags.append(Tag(_DESCRIPTION, 2, "\n".join(view.comments).encode() + b"\0"))
    elif view.comments:
        could_not.append("comments: there is a description already")
    if view.density is not None and max(view.density) > _MOST_DENSITY:
        could_not.append(f"its density of {max(view.density):,.0f} pixels an inch")
    elif view.density is not None and _ACROSS not in have:
        for number, density in zip((_ACROSS, _DOWN), view.density, strict=True):
            tags.append(Tag(number, 5, struct.pack(f"{order}II", round(density * 1000), 1000)))
        tags.append(Tag(_UNIT, 3, struct.pack(f"{order}H", 2)))
    blocks = [Block("order", b"II" if order == "<" else b"MM")]
    return [*blocks, *(block for tag in tags for block in _blocks(tag, ""))], could_not


def write(blocks: Iterable[Block], pixels: NDArray[np.uint8], is_grey: bool, extra: int | None) -> bytes:
    """A TIFF of pixels, (H, W, C), with the tags of `blocks`.

    Args:
        is_grey: the first channel is grey, else the first three are red, green and blue.
        extra: what one more channel is, as the tag ExtraSamples has it; None if there is none.
    """
    order, tags = tags_of(blocks)
    height, width, channels = pixels.shape
    rows = max(_STRIP_BYTES // (width * channels), 1)
    strips, offsets = bytearray(), []
    lengths = []
    for top in range(0, height, rows):
        strip = zlib.compress(pixels[top : top + rows].tobytes())
        offsets.append(8 + len(strips))
        lengths.append(len(strip))
        strips += strip

    def numbers(tag: int, *values: int, code: str = "H") -> Tag:
        return Tag(tag, 3 if code == "H" else 4, struct.pack(f"{order}{len(values)}{code}", *values))

    layout = [
        numbers(256, width, code="I"),
        numbers(257, height, code="I"),
        numbers(258, *[8] * channels),
        numbers(259, 8),  # zlib
        numbers(262, 1 if is_grey else 2),
        numbers(273, *offsets, code="I"),
        numbers(277, channels),
        numbers(278, rows, code="I"),
        numbers(279, *lengths, code="I"),
        numbers(284, 1),
    ]
    if extra is not None:
        layout.append(numbers(EXTRA_SAMPLES, extra))
    return structure(order, [*layout, *tags], bytes(strips))

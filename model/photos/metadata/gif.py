"""GIF: its comments and applications' extensions. No picture is written as GIF again: others hold them."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from model.format.metadata import Block, MetadataBlocks
from model.photos.metadata.common import Found, View, size

_EXTENSION, _IMAGE, _END = 0x21, 0x2C, 0x3B
_CONTROL, _COMMENT, _TEXT, _APPLICATION = 0xF9, 0xFE, 0x01, 0xFF
_ASPECT, _SQUARE = 12, (0, 49)  # where the shape of its pixels stands, and what it is of most
_XMP, _ICC = b"XMP DataXMP", b"ICCRGBG1012"
# XMP is seldom cut into sub-blocks: from wherever readers of these come upon this, it leads them to its end.
_AFTER_PACKET = b"\1" + bytes(range(255, -1, -1)) + b"\0"


def read(data: bytes) -> Found:
    found = Found()
    try:
        for kind, content in _parts(data):
            if kind == _COMMENT:
                found.blocks.append(Block("comment", content))
            elif kind == _APPLICATION:
                found.blocks.append(Block("application", content))
            elif kind == _TEXT:
                found.left_out.append("a text that is drawn over it")
            elif kind == _END and content.strip(b"\0"):
                found.left_out.append(f"{size(content)} after the picture")
            elif kind not in (_IMAGE, _CONTROL, _END):
                found.left_out.append(f"an extension of an unknown kind, {kind}")
        if data[_ASPECT] not in _SQUARE:
            found.left_out.append("the shape of its pixels, which are not square")
    except IndexError:
        found.left_out.append("what follows the part that is broken")
    return found


def _parts(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Images, without their pixels, extensions, their sub-blocks joined, and the end with what follows it."""
    position = 13 + _table(data[10])
    while data[position] != _END:
        kind = data[position]
        if kind == _IMAGE:
            position += 10 + _table(data[position + 9]) + 1
        elif kind == _EXTENSION:
            kind = data[position + 1]
            position += 2
            if kind in (_IMAGE, _END):
                raise IndexError(f"no extension is called {kind}")
        else:
            raise IndexError(f"no part of a GIF begins with {kind}")
        start, content = position + 1, bytearray()
        while length := data[position]:
            content += data[position + 1 : position + 1 + length]
            position += 1 + length
        position += 1
        if kind == _APPLICATION and data.startswith(_XMP, start):
            for end in (position, position + 1):
                if data.endswith(_AFTER_PACKET, start, end):
                    content, position = bytearray(data[start : end - len(_AFTER_PACKET)]), end
                    break
        yield kind, bytes(content) if kind != _IMAGE else b""
    yield _END, data[position + 1 :]


def _table(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def turned(blocks: Iterable[Block], _applied: int) -> list[Block]:
    return list(blocks)


def without_profile(blocks: Iterable[Block]) -> list[Block]:
    return [block for block in blocks if not block.data.startswith(_ICC)]


def view(metadata: MetadataBlocks) -> View:
    applications = list(metadata.of_kind("application"))
    packets = [data[len(_XMP) :] for data in applications if data.startswith(_XMP)]
    profiles = [data[len(_ICC) :] for data in applications if data.startswith(_ICC)]
    others = [f"{size(data)} of {data[:11]!r}" for data in applications if not data.startswith((_XMP, _ICC))]
    comments = tuple(data.decode("latin-1") for data in metadata.of_kind("comment"))
    return replace(View.of_first((), packets, profiles, others), comments=comments)

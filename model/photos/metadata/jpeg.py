"""JPEG: its APPn and COM segments."""

import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from model.format.metadata import Block, MetadataBlocks
from model.photos.metadata import exif, xmp
from model.photos.metadata.common import EXIF_HEADER, Found, View, size
from model.photos.metadata.tiff_directories import Reader

XMP_HEADER = b"http://ns.adobe.com/xap/1.0/\0"
XMP_EXTENSION_HEADER = b"http://ns.adobe.com/xmp/extension/\0"
ICC_HEADER = b"ICC_PROFILE\0"
PHOTOSHOP_HEADER = b"Photoshop 3.0\0"
_OTHER_PICTURES, _NUMBER_OF_PICTURES = b"MPF\0", 0xB001
_GAIN_MAP = b' hdrgm:Version="'  # in the XMP of a photo whose other picture is one
_IPTC_RESOURCE = b"8BIM\x04\x04\0\0"
_ADOBE, _ADOBE_TRANSFORM, _YCBCR = b"Adobe", 11, 1
_JFIF, _JFIF_THUMBNAILS = b"JFIF\0", b"JFXX\0"
MOST_IN_A_SEGMENT = 65533
_START, _END, _SCAN, _COMMENT = 0xD8, 0xD9, 0xDA, 0xFE
_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")  # but those within the pixels' bits
_TRAILER = "trailer"
_LEAST_PICTURE = 64  # bytes; what some cameras leave at a file's end is less, and no picture fits into it


@dataclass(frozen=True)
class Segment:
    """A marker segment: its marker's second byte, its content, and where it begins and ends in the file."""

    marker: int
    content: bytes
    start: int
    end: int


def segments(data: bytes) -> Iterator[Segment]:
    """All segments up to the end marker and with it, as far as they are whole."""
    position = 2
    while match := _MARKER.search(data, position):
        marker, start = match[1][0], match.end() - 2
        if marker in (_START, _END, 0x01):
            yield Segment(marker, b"", start, match.end())
            if marker == _END:
                return
            position = match.end()
            continue
        if len(data) < match.end() + 2:
            return
        end = match.end() + max(int.from_bytes(data[match.end() : match.end() + 2]), 2)
        if end > len(data):
            return
        yield Segment(marker, data[match.end() + 2 : end], start, end)
        position = end


def read(data: bytes, parts: Sequence[Segment]) -> Found:
    """Args: parts: its `segments`, as in all that follow."""
    found = Found()
    end = None
    for segment in parts:
        if segment.marker == _END:
            end = segment.end
        elif (kind := _kind(segment.marker)) is None:
            continue
        elif not _is_index(segment):  # of what is named below
            found.blocks.append(Block(kind, segment.content))
    trailer = b"" if end is None else data[end:].rstrip(b"\0")  # cameras pad their files
    if trailer:
        if len(trailer.lstrip(b"\0")) < _LEAST_PICTURE:
            found.blocks.append(Block(_TRAILER, trailer))
        else:
            found.left_out.append("what follows the picture: another one, a gain map or a video")
    if end is None and parts and _MARKER.search(data, parts[-1].end):
        found.left_out.append("a segment that is cut off")
    if any(map(_is_index, parts)) and not found.left_out:
        found.left_out.append("the index of other pictures")
    if between := sum(map(len, _between(data, parts))):
        found.left_out.append(f"{between:,} bytes between its segments")
    return found


def _between(data: bytes, parts: Sequence[Segment]) -> Iterator[bytes]:
    """What stands between segments, and is neither padding nor a scan's pixels."""
    position = 2
    for segment in parts:
        yield data[position : segment.start].strip(b"\0\xff")
        position = segment.end if segment.marker != _SCAN else len(data)


def is_ended(parts: Sequence[Segment]) -> bool:
    return any(segment.marker == _END for segment in parts)


def is_whole_progressive(parts: Sequence[Segment]) -> bool:
    """Whether the scans that a progressive JPEG has give every coefficient all its bits.

    True of a JPEG that is not progressive.
    """
    progressive, components, bits = False, set[int](), dict[tuple[int, int], int]()
    for segment in parts:
        content = segment.content
        if segment.marker == 0xC2 and len(content) >= 6 + 3 * content[5]:
            progressive = True
            components = {content[6 + 3 * index] for index in range(content[5])}
        if segment.marker == _SCAN and content and len(content) == 4 + 2 * content[0]:
            of_scan = content[1 : 1 + 2 * content[0] : 2]
            first, last, approximation = content[-3:]
            for component in of_scan:
                bits.update({(component, k): approximation & 15 for k in range(first, min(last, 63) + 1)})
    return not progressive or all(bits.get((c, k)) == 0 for c in components for k in range(64))


def _kind(marker: int) -> str | None:
    if 0xE0 <= marker <= 0xEF:
        return f"APP{marker - 0xE0}"
    return "COM" if marker == _COMMENT else None


def orientation(blocks: Iterable[Block]) -> int:
    """The orientation in the first EXIF that has one, else in XMP."""
    app1 = [block.data for block in blocks if block.kind == "APP1"]
    found = [exif.orientation(data) for data in app1 if data.startswith(EXIF_HEADER)]
    found += [xmp.orientation(data) for data in app1 if data.startswith(XMP_HEADER)]
    return exif.first_turn(found)


def turned(blocks: Iterable[Block], applied: int) -> list[Block]:
    """The blocks of a picture whose pixels were turned: see `exif.turned`."""
    if applied == 1:
        return list(blocks)
    return [_turned(b, applied) for b in blocks if not b.data.startswith(_JFIF_THUMBNAILS)]


def _turned(block: Block, applied: int) -> Block:
    data = block.data
    if block.kind == "APP1" and data.startswith(EXIF_HEADER):
        return Block(block.kind, exif.turned(data, applied))
    if block.kind == "APP1" and data.startswith((XMP_HEADER, XMP_EXTENSION_HEADER)):
        return Block(block.kind, xmp.reset_orientation(data))
    if block.kind == "APP0" and data.startswith(_JFIF) and len(data) >= 14:
        return Block(block.kind, data[:12] + b"\0\0")  # without its thumbnail
    return block


def without_profile(blocks: Iterable[Block]) -> list[Block]:
    return [block for block in blocks if not (block.kind == "APP2" and block.data.startswith(ICC_HEADER))]


def view(metadata: MetadataBlocks) -> View:
    exifs, packets, icc, comments, others = [], [], [], [], list[str]()
    iptc = b""
    for kind, data in ((block.kind, block.data) for block in metadata.blocks):
        if kind == "APP1" and data.startswith(EXIF_HEADER):
            exifs.append(exif.structure(data))
        elif kind == "APP1" and data.startswith(XMP_HEADER):
            packets.append(data[len(XMP_HEADER) :])
        elif kind == "APP2" and data.startswith(ICC_HEADER):
            icc.append(data[len(ICC_HEADER) :])
        elif kind == "COM":
            comments.append(_text(data))
        elif kind == "APP13" and data.startswith(PHOTOSHOP_HEADER):
            iptc = iptc or _iptc(data)
            others += [f"{size(data)} of Photoshop's resources"] * (data != _photoshop(iptc))
        elif kind == "APP0" and data.startswith(_JFIF):
            others += [f"{size(data[14:])} of thumbnail"] * (len(data) > 14)
        elif not (kind == "APP14" and data.startswith(_ADOBE)):  # which is about how pixels are stored
            others.append(f"{size(data)} of {kind}")
    profiles = [b"".join(part[2:] for part in sorted(icc))]
    seen = View.of_first(exifs, packets, profiles, others)
    return replace(seen, iptc=iptc, comments=tuple(comments), density=_density(metadata))


def _text(data: bytes) -> str:
    try:
        return data.rstrip(b"\0").decode()
    except UnicodeDecodeError:
        return data.rstrip(b"\0").decode("latin-1")


def _density(metadata: MetadataBlocks) -> tuple[float, float] | None:
    for data in metadata.of_kind("APP0"):
        if data.startswith(_JFIF) and len(data) >= 12 and data[7] in (1, 2):
            across, down = struct.unpack_from(">HH", data, 8)
            unit = 1 if data[7] == 1 else 2.54
            return across * unit, down * unit
    return None


def _iptc(photoshop: bytes) -> bytes:
    """The IPTC records in Photoshop's resources. Other containers hold nothing else of these."""
    at = photoshop.find(_IPTC_RESOURCE)
    if at < 0 or len(photoshop) < at + 12:
        return b""
    (length,) = struct.unpack_from(">I", photoshop, at + len(_IPTC_RESOURCE))
    return photoshop[at + 12 : at + 12 + length]


def _photoshop(iptc: bytes) -> bytes:
    """Photoshop's resources that are IPTC records alone."""
    resource = _IPTC_RESOURCE + struct.pack(">I", len(iptc)) + iptc
    return PHOTOSHOP_HEADER + resource + b"\0" * (len(iptc) % 2)


def blocks_of(view: View) -> tuple[list[Block], list[str]]:
    """The segments that hold what came from another container, and what they cannot hold."""
    blocks: list[Block] = []
    could_not = list(view.others)

    def add(kind: str, content: bytes, name: str) -> None:
        if len(content) > MOST_IN_A_SEGMENT:
            could_not.append(f"{name}, more than a JPEG's segment holds")
        else:
            blocks.append(Block(kind, content))

    if view.density is not None:
        across, down = (min(max(round(value), 1), 65535) for value in view.density)
        blocks.append(Block("APP0", _JFIF + struct.pack(">HBHHBB", 0x101, 1, across, down, 0, 0)))
    if view.exif:
        add("APP1", EXIF_HEADER + view.exif, f"{size(view.exif)} of EXIF")
    if view.xmp:
        add("APP1", XMP_HEADER + view.xmp, f"{size(view.xmp)} of XMP")
    parts = [view.icc_profile[at : at + 65519] for at in range(0, len(view.icc_profile), 65519)]
    if len(parts) > 255:
        could_not.append(f"{size(view.icc_profile)} of ICC profile, more than a JPEG holds")
        parts = []
    for number, part in enumerate(parts, start=1):
        blocks.append(Block("APP2", ICC_HEADER + bytes([number, len(parts)]) + part))
    if view.iptc:
        add("APP13", _photoshop(view.iptc), f"{size(view.iptc)} of IPTC")
    for text in map(str.encode, view.comments):
        add("COM", text, f"a comment of {size(text)}")
    return blocks, could_not


def apply(blocks: Iterable[Block], jpeg: bytes) -> bytes:
    """A JPEG's pixels with these segments in place of its own.

    Adobe's segment also says how the pixels are stored, in one byte, which is theirs.
    """
    blocks = list(blocks)
    own = [segment for segment in segments(jpeg) if _kind(segment.marker) is not None]
    kept, position = [], 2
    for segment in own:
        kept.append(jpeg[position : segment.start])
        position = segment.end
    header = b"".join(_segment(block) for block in blocks if block.kind != _TRAILER)
    trailer = b"".join(block.data for block in blocks if block.kind == _TRAILER)
    return jpeg[:2] + header + b"".join(kept) + jpeg[position:] + trailer


def _segment(block: Block) -> bytes:
    data = block.data
    if block.kind == "APP14" and data.startswith(_ADOBE) and len(data) > _ADOBE_TRANSFORM:
        data = data[:_ADOBE_TRANSFORM] + bytes([_YCBCR]) + data[_ADOBE_TRANSFORM + 1 :]
    marker = _COMMENT if block.kind == "COM" else 0xE0 + int(block.kind.removeprefix("APP"))
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def only_pixels(data: bytes, parts: Sequence[Segment], before_end: bytes = b"") -> bytes:
    """A JPEG without segments but JFIF's and Adobe's, up to its end marker.

    Args:
        before_end: put ahead of an end marker that it has to be given.
    """
    kept: list[bytes] = []
    position = 2
    for segment in parts:
        if segment.marker == _END:
            return data[:2] + b"".join(kept) + data[position : segment.end]
        is_metadata = _kind(segment.marker) is not None
        if is_metadata and not segment.content.startswith((_JFIF, _ADOBE)):
            kept.append(data[position : segment.start])
            position = segment.end
    return data[:2] + b"".join(kept) + data[position:] + before_end + b"\xff\xd9"


def count_pictures(parts: Sequence[Segment]) -> int:
    """As the index of other pictures says, but for a gain map.

    Raises:
        ValueError: an index that cannot be read.
    """
    index = next(filter(_is_index, parts), None)
    if index is None or any(_GAIN_MAP in segment.content for segment in parts):
        return 1
    numbers = Reader(index.content[len(_OTHER_PICTURES) :]).numbers(_NUMBER_OF_PICTURES)
    return max((1, *numbers))


def _is_index(segment: Segment) -> bool:
    return segment.marker == 0xE2 and segment.content.startswith(_OTHER_PICTURES)

"""HEIF and AVIF: the items that are no pictures, and what the file says of colours and light.

libheif reads and writes the items; what it does not tell of, items and properties of unknown kinds, is
looked for in the boxes themselves.
"""

import io
import json
import struct
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pillow_heif

from model.format.metadata import MOST_IN_A_KIND, Block, MetadataBlocks
from model.photos.metadata import exif, xmp
from model.photos.metadata.common import Found, View, size

_FILE_BOXES = {b"ftyp", b"meta", b"mdat", b"free", b"skip"}  # of a picture alone
_META_BOXES = {b"hdlr", b"pitm", b"iloc", b"iinf", b"iref", b"iprp", b"idat", b"dinf", b"grpl", b"free"}
_META_BOXES |= {b"ipco", b"ipma"}
_STORES = {b"mdat", b"idat", b"free", b"skip"}  # of what items hold, and of what fills gaps
_PICTURE_ITEMS = {b"hvc1", b"av01", b"grid", b"iden", b"iovl", b"avc1", b"jpeg", b"unci"}
_METADATA_ITEMS = {b"Exif", b"mime", b"uri "}
_TONE_MAP = b"tmap"
# How a picture is stored: size, bits, codec, turns and cuts, which decoding applies, and layers.
_STORAGE_PROPERTIES = {
    b"ispe",
    b"pixi",
    b"hvcC",
    b"av1C",
    b"avcC",
    b"irot",
    b"imir",
    b"clap",
    b"auxC",
    b"free",
}
_STORAGE_PROPERTIES |= {b"a1op", b"a1lx", b"lsel", b"rloc", b"cmpC", b"uncC", b"jpgC", b"colr"}
# Those that libheif writes again, by what pillow_heif calls them.
_LIGHT = {
    b"clli": "content_light_level",
    b"mdcv": "mastering_display_colour_volume",
    b"amve": "ambient_viewing_environment",
    b"ndwt": "nominal_diffuse_white_luminance",
    b"pasp": "pixel_aspect_ratio",
}
_ALPHA = ("auxid:1", "auxiliary:alpha")
NCLX = ("color_primaries", "transfer_characteristics", "matrix_coefficients", "full_range_flag")
_NCLX = struct.Struct(">HHHB")
_TIFF_STARTS = (b"II*\0", b"MM\0*")
_XMP_TYPE = "application/rdf+xml"
_STAND_IN = b"II*\0\x08\0\0\0\0\0\0\0\0\0"  # EXIF without a tag


@dataclass
class _Boxes:
    """What the boxes of a file say beside its pictures.

    Attributes:
        file, meta: kinds of boxes; those in `iprp` count as in `meta`.
        items: the kind of each, by its number.
        primary: the number of the picture that is shown.
        references: kind, the number of an item, and of those that it refers to.
        properties: kinds of them.
        extents: the number of an item, and from where to where a part of it lies in the file.
        extents_in_idat: the same, counted from the beginning of `idat`.
        stores: kind, start and end of what `extents` lie in, and of what fills gaps.
        rest: bytes after the last box, too few for another.
    """

    file: set[bytes] = field(default_factory=set)
    meta: set[bytes] = field(default_factory=set)
    items: dict[int, bytes] = field(default_factory=dict)
    primary: int = 0
    references: list[tuple[bytes, int, tuple[int, ...]]] = field(default_factory=list)
    properties: set[bytes] = field(default_factory=set)
    extents: list[tuple[int, int, int]] = field(default_factory=list)
    extents_in_idat: list[tuple[int, int, int]] = field(default_factory=list)
    stores: list[tuple[bytes, int, int]] = field(default_factory=list)
    rest: bytes = b""

    def note(self, kinds: set[bytes], data: bytes, start: int, end: int) -> list[tuple[bytes, int, int]]:
        """The boxes between two positions, whose kinds are added to those of one place."""
        found = list(boxes(data, start, end))
        kinds.update(kind for kind, _, _ in found)
        self.stores += [each for each in found if each[0] in _STORES]
        return found

    def other_pictures(self) -> list[int]:
        """Those that are neither the primary one nor parts, thumbnails or auxiliary pictures of it.

        What a tone map is made of is named with it.
        """
        belonging = defaultdict[int, list[int]](list)
        for kind, number, others in self.references:
            if kind in (b"dimg", b"base"):
                belonging[number] += others
            elif kind in (b"thmb", b"auxl"):
                for other in others:
                    belonging[other].append(number)
        known = set[int]()
        found = [self.primary, *(number for number, kind in self.items.items() if kind == _TONE_MAP)]
        while found:
            number = found.pop()
            if number not in known:
                known.add(number)
                found += belonging[number]
        return [n for n, kind in self.items.items() if kind in _PICTURE_ITEMS and n not in known]

    def bytes_of_no_item(self, data: bytes) -> int:
        """How many there are in `stores`, without zeros, which fill gaps."""
        idat = next((start for kind, start, _ in self.stores if kind == b"idat"), 0)
        extents = self.extents + [(n, idat + start, idat + end) for n, start, end in self.extents_in_idat]
        rest, done = bytearray(data), 0
        for first, last in sorted((start, end) for n, start, end in extents if n in self.items):
            start, end = max(first, done), min(last, len(data))  # extents may overlap
            if start < end:
                rest[start:end] = bytes(end - start)
                done = end
        return sum(end - start - rest.count(0, start, end) for _, start, end in self.stores)


def boxes(data: bytes, start: int = 0, end: int | None = None) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of the content of each box between two positions."""
    end = len(data) if end is None else min(end, len(data))
    while start + 8 <= end:
        length, kind = struct.unpack_from(">I4s", data, start)
        header = 8
        if length == 1 and start + 16 <= end:
            (length,) = struct.unpack_from(">Q", data, start + 8)
            header = 16
        stop = start + length if length >= header else end  # 0: all the rest
        yield kind, start + header, min(stop, end)
        start = stop


def _look(data: bytes) -> _Boxes:
    found, last = _Boxes(), 0
    for kind, start, last in found.note(found.file, data, 0, len(data)):
        for inner, at, end in found.note(found.meta, data, start + 4, last) if kind == b"meta" else ():
            if inner == b"iinf":
                found.items.update(_items(data, at, end))
            elif inner == b"pitm":
                found.primary = int.from_bytes(data[at + 4 : end])
            elif inner == b"iloc":
                for in_idat, extent in _extents(data, at, end):
                    (found.extents_in_idat if in_idat else found.extents).append(extent)
            elif inner == b"iref":
                found.references += _references(data, at, end)
            elif inner == b"iprp":
                for container, first, stop in found.note(found.meta, data, at, end):
                    if container == b"ipco":
                        found.note(found.properties, data, first, stop)
    found.rest = data[last:].strip(b"\0")
    return found


def _items(data: bytes, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Number and kind of each; those written in an old way have no kind, what is no item its box's."""
    for entry, at, stop in boxes(data, start + (6 if data[start] == 0 else 8), end):
        if entry != b"infe":
            yield -1, entry
            continue
        width = 4 if data[at] == 3 else 2
        kind = data[at + 6 + width : min(at + 10 + width, stop)] if data[at] in (2, 3) else b""
        yield int.from_bytes(data[at + 4 : at + 4 + width]), kind


def _extents(data: bytes, start: int, end: int) -> Iterator[tuple[bool, tuple[int, int, int]]]:
    """Whether it lies in `idat`, the number of its item, and from where to where, of each part of an item."""
    at = start + 4

    def read(width: int) -> int:
        nonlocal at
        at += width
        return int.from_bytes(data[at - width : at])

    version, sizes = data[start], read(2)
    offset_width, length_width, base_width, index_width = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
    number_width = 4 if version == 2 else 2
    read(number_width)  # how many items
    while at < end:
        number = read(number_width)
        in_idat = version > 0 and read(2) & 15 == 1
        read(2)  # of which file: this one
        base, extents = read(base_width), read(2)
        for _ in range(extents if length_width else 0):  # without, an item would be all of the file
            read(index_width if version else 0)
            first = base + read(offset_width)
            yield in_idat, (number, first, first + read(length_width))


def _references(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, tuple[int, ...]]]:
    width = 2 if data[start] == 0 else 4
    for kind, at, stop in boxes(data, start + 4, end):
        number, places = int.from_bytes(data[at : at + width]), range(at + width + 2, stop, width)
        yield kind, number, tuple(int.from_bytes(data[place : place + width]) for place in places)


def without_exif(data: bytes) -> bytes:
    """A file whose items called Exif are called otherwise: broken ones keep Pillow from an AVIF's pixels."""
    changed = bytearray(data)
    for kind, start, end in boxes(data):
        for inner, inner_start, inner_end in boxes(data, start + 4, end) if kind == b"meta" else ():
            if inner != b"iinf":
                continue
            for _, at, stop in boxes(data, inner_start + (6 if data[inner_start] == 0 else 8), inner_end):
                changed[at:stop] = data[at:stop].replace(b"Exif\0", b"exif\0")
    return bytes(changed)


def read(data: bytes, container: str) -> Found:
    found = Found()
    file = pillow_heif.open_heif(io.BytesIO(data))
    picture = file[file.primary_index]
    info: dict[str, Any] = picture.info
    items = picture._c_image.metadata  # all, where `info` has one of each kind
    for item in items:
        kind = f"item {item['type']} {item['content_type']}".strip()
        if kind.isascii() and len(kind) <= MOST_IN_A_KIND:
            found.blocks.append(Block(kind, item["data"]))
        else:
            found.left_out.append(f"{size(item['data'])} of {kind.removeprefix('item '):.45}")
    if profile := info.get("icc_profile"):
        found.blocks.append(Block(f"colr {info['icc_profile_type']}", profile))
    if colours := info.get("nclx_profile"):
        found.blocks.append(Block("nclx", _NCLX.pack(*(int(colours[key]) for key in NCLX))))
    looked = _look(data)
    for property_kind, name in _LIGHT.items():
        if (value := info.get(name)) is None and property_kind not in looked.properties:
            continue
        if value is not None and container == "HEIF":
            found.blocks.append(Block(property_kind.decode(), json.dumps(value, sort_keys=True).encode()))
        else:
            found.left_out.append(f"its {name.replace('_', ' ')}")
    found.left_out += _left_out(info, looked, len(items), looked.bytes_of_no_item(data))
    found.bits = int(info["bit_depth"])
    return found


def _left_out(info: dict[str, Any], looked: _Boxes, carried_items: int, unclaimed: int) -> Iterator[str]:
    kinds = list(looked.items.values())
    pictures = ["depth"] * bool(info["depth_images"])
    pictures += [kind.rpartition(":")[2] for kind in info["aux"] if not kind.endswith(_ALPHA)]
    pictures += ["gain map"] * (_TONE_MAP in kinds)
    if pictures:
        yield f"auxiliary pictures: {', '.join(pictures)}"
    if others := looked.other_pictures():
        yield f"other pictures: {len(others)}"
    if (left := sum(kind in _METADATA_ITEMS for kind in kinds) - carried_items) > 0:
        yield f"items of metadata that are not the picture's: {left}"
    unknown = {kind for kind in looked.file if kind not in _FILE_BOXES}
    unknown |= {kind for kind in looked.meta if kind not in _META_BOXES}
    if unknown:
        yield f"parts beside the picture: {', '.join(sorted(kind.decode('latin-1') for kind in unknown))}"
    if items := set(kinds) - _PICTURE_ITEMS - _METADATA_ITEMS - {_TONE_MAP}:
        yield f"items of other kinds: {', '.join(sorted(kind.decode('latin-1') for kind in items))}"
    if properties := looked.properties - _STORAGE_PROPERTIES - set(_LIGHT):
        yield f"properties of other kinds: {', '.join(sorted(kind.decode('latin-1') for kind in properties))}"
    if unclaimed:
        yield f"{unclaimed:,} bytes that belong to no item"
    if looked.rest:
        yield f"{size(looked.rest)} after the picture"


def _exif_start(payload: bytes) -> int:
    """Where the EXIF of an Exif item begins: its first four bytes say how far after them."""
    start = 4 + int.from_bytes(payload[:4])
    if start > len(payload) - 8 or payload[start : start + 2] not in (b"II", b"MM"):
        start = 4
    return start


def _structure(payload: bytes) -> bytes:
    return exif.structure(payload[_exif_start(payload) :])


def turned(blocks: Iterable[Block], _applied: int) -> list[Block]:
    """The blocks of an upright picture. The container turns it: what EXIF says does not count."""
    return [_turned(block) for block in blocks]


def _turned(block: Block) -> Block:
    if block.kind == "item Exif":
        start = _exif_start(block.data)
        own = block.data[start:]
        return Block(block.kind, block.data[:start] + exif.turned(own, exif.orientation(own)))
    if block.kind == f"item mime {_XMP_TYPE}":
        return Block(block.kind, xmp.reset_orientation(block.data))
    return block


def without_profile(blocks: Iterable[Block]) -> list[Block]:
    return [block for block in blocks if not block.kind.startswith(("colr ", "nclx"))]


def nclx(metadata: MetadataBlocks) -> tuple[int, int] | None:
    """The numbers of its primaries and its transfer function in ITU-T H.273, where it says them."""
    for data in metadata.of_kind("nclx"):
        primaries, transfer, _, _ = _NCLX.unpack(data)
        return primaries, transfer
    return None


def view(metadata: MetadataBlocks) -> View:
    """`icc_profile` is the file's own; `model.photos.colour` makes one of `nclx`."""
    exifs = [_structure(data) for data in metadata.of_kind("item Exif")]
    packets = list(metadata.of_kind(f"item mime {_XMP_TYPE}"))
    profiles = [block.data for block in metadata.blocks if block.kind.startswith("colr ")]
    known = ("item Exif", f"item mime {_XMP_TYPE}", "colr ", "nclx")
    others = [f"{size(b.data)} of {b.kind}" for b in metadata.blocks if not b.kind.startswith(known)]
    return View.of_first(exifs, packets, profiles[:1], others)


def blocks_of(view: View) -> tuple[list[Block], list[str]]:
    """The items that hold what came from another container, and what they cannot hold."""
    could_not = list(view.others)
    could_not += [f"{size(view.iptc)} of IPTC"] * bool(view.iptc)
    could_not += [f"a comment of {len(comment)} characters" for comment in view.comments]
    blocks = []
    if view.exif.startswith(_TIFF_STARTS):
        blocks.append(Block("item Exif", bytes(4) + view.exif))
    elif view.exif:
        could_not.append(f"{size(view.exif)} of EXIF that are no TIFF structure")
    if view.xmp:
        blocks.append(Block(f"item mime {_XMP_TYPE}", view.xmp))
    if view.icc_profile:
        blocks.append(Block("colr prof", view.icc_profile))
    return blocks, could_not


def heif_options(blocks: Iterable[Block]) -> dict[str, Any]:
    """What pillow_heif is to be told so that it writes these blocks."""
    options: dict[str, Any] = {"metadata": []}
    names = {kind.decode(): name for kind, name in _LIGHT.items()}
    for block in blocks:
        if block.kind.startswith("item "):
            _, kind, content_type = f"{block.kind} ".split(" ", 2)
            content = {"type": kind, "content_type": content_type.strip(), "data": block.data}
            options["metadata"].append(content)
        elif block.kind.startswith("colr "):
            options |= {"icc_profile": block.data, "icc_profile_type": block.kind.removeprefix("colr ")}
        elif block.kind == "nclx":
            numbers = dict(zip(NCLX, _NCLX.unpack(block.data), strict=True))
            if numbers["matrix_coefficients"] not in (1, 5, 6, 9):
                numbers["matrix_coefficients"] = 6
            options |= {"nclx_profile": numbers, **numbers}
        elif block.kind in names:
            options[names[block.kind]] = json.loads(block.data)
    return options


def avif_options(blocks: Iterable[Block]) -> tuple[dict[str, Any], list[tuple[bytes, bytes]], list[str]]:
    """What Pillow is to be told so that it writes these blocks, and what it cannot write.

    Pillow writes EXIF anew that has an orientation, so it is given bytes of the same length, which stand in
    the file as they are: with what to put in their place afterwards.
    """
    options: dict[str, Any] = {}
    replacements: list[tuple[bytes, bytes]] = []
    could_not: list[str] = []
    for block in blocks:
        content = _structure(block.data)
        if block.kind == "item Exif" and len(content) >= len(_STAND_IN) and "exif" not in options:
            stand_in = (_STAND_IN + b"stand-in" * (len(content) // 8))[: len(content)]
            options["exif"] = stand_in
            replacements.append((stand_in, content))
        elif block.kind == f"item mime {_XMP_TYPE}" and "xmp" not in options:
            options["xmp"] = block.data
        elif block.kind.startswith("colr "):
            options["icc_profile"] = block.data
        elif block.kind != "nclx":
            could_not.append(f"{size(block.data)} of {block.kind}")
    return options, replacements, could_not


def with_nclx(blocks: Iterable[Block], avif: bytes) -> bytes:
    """An AVIF whose `colr` says the primaries and transfer function of these blocks; its matrix stays."""
    at = avif.find(b"colrnclx")
    numbers = next((block.data[:4] for block in blocks if block.kind == "nclx"), b"")
    return avif if at < 0 or not numbers else avif[: at + 8] + numbers + avif[at + 12 :]

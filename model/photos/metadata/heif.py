"""HEIF and AVIF: the items that are no pictures, and what the file says of colours and light.

libheif reads and writes the items; what it does not tell of, items and properties of unknown kinds, is
looked for in the boxes themselves.
"""

import io
import json
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pillow_heif

from model.format.metadata import Block, MetadataBlocks
from model.photos.metadata import exif, xmp
from model.photos.metadata.common import EXIF_HEADER, Found, View, size

_FILE_BOXES = {b"ftyp", b"meta", b"mdat", b"free", b"skip"}  # of a picture alone
_META_BOXES = {b"hdlr", b"pitm", b"iloc", b"iinf", b"iref", b"iprp", b"idat", b"dinf", b"grpl", b"free"}
_PICTURE_ITEMS = {b"hvc1", b"av01", b"grid", b"iden", b"iovl", b"avc1", b"jpeg", b"unci"}
_METADATA_ITEMS = {b"Exif", b"mime", b"uri "}
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
_STORAGE_PROPERTIES |= {b"a1op", b"a1lx", b"lsel", b"rloc", b"udes", b"cmpC", b"uncC", b"jpgC", b"colr"}
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
    """What the boxes of a file say beside its pictures: kinds of boxes, items and properties."""

    file: set[bytes] = field(default_factory=set)
    meta: set[bytes] = field(default_factory=set)
    items: set[bytes] = field(default_factory=set)
    properties: set[bytes] = field(default_factory=set)


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
    found = _Boxes()
    for kind, start, end in boxes(data):
        found.file.add(kind)
        if kind != b"meta":
            continue
        for inner, inner_start, inner_end in boxes(data, start + 4, end):
            found.meta.add(inner)
            if inner == b"iinf":
                entries = inner_start + (6 if data[inner_start] == 0 else 8)
                for entry, at, _ in boxes(data, entries, inner_end):
                    if entry == b"infe" and data[at] >= 2:
                        found.items.add(data[at + (8 if data[at] == 2 else 10) :][:4])
            elif inner == b"iprp":
                for container, at, stop in boxes(data, inner_start, inner_end):
                    if container == b"ipco":
                        found.properties.update(each for each, _, _ in boxes(data, at, stop))
    return found


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
    for item in picture._c_image.metadata:  # all, where `info` has one of each kind
        found.blocks.append(Block(f"item {item['type']} {item['content_type']}".strip(), item["data"]))
    if profile := info.get("icc_profile"):
        found.blocks.append(Block(f"colr {info['icc_profile_type']}", profile))
    if colours := info.get("nclx_profile"):
        found.blocks.append(Block("nclx", _NCLX.pack(*(int(colours[key]) for key in NCLX))))
    looked = _look(data)
    for kind, name in _LIGHT.items():
        if (value := info.get(name)) is None:
            continue
        if container == "HEIF":
            found.blocks.append(Block(kind.decode(), json.dumps(value, sort_keys=True).encode()))
        else:
            found.left_out.append(f"its {name.replace('_', ' ')}")
    found.left_out += _left_out(info, looked)
    return found


def _left_out(info: dict[str, Any], looked: _Boxes) -> Iterator[str]:
    pictures = ["depth"] * bool(info["depth_images"])
    pictures += [kind.rpartition(":")[2] for kind in info["aux"] if not kind.endswith(_ALPHA)]
    pictures += ["gain map"] * (b"tmap" in looked.items)
    if pictures:
        yield f"auxiliary pictures: {', '.join(pictures)}"
    unknown = {kind for kind in looked.file if kind not in _FILE_BOXES}
    unknown |= {kind for kind in looked.meta if kind not in _META_BOXES}
    if unknown:
        yield f"parts beside the picture: {', '.join(sorted(kind.decode('latin-1') for kind in unknown))}"
    if items := looked.items - _PICTURE_ITEMS - _METADATA_ITEMS - {b"tmap"}:
        yield f"items of other kinds: {', '.join(sorted(kind.decode('latin-1') for kind in items))}"
    if properties := looked.properties - _STORAGE_PROPERTIES - set(_LIGHT):
        yield f"properties of other kinds: {', '.join(sorted(kind.decode('latin-1') for kind in properties))}"


def _exif_start(payload: bytes) -> int:
    """Where the TIFF structure of an Exif item begins: its first four bytes say how far after them."""
    start = 4 + int.from_bytes(payload[:4])
    if start > len(payload) - 8 or payload[start : start + 2] not in (b"II", b"MM"):
        start = 4
    while payload.startswith(EXIF_HEADER, start):
        start += len(EXIF_HEADER)
    return start


def turned(blocks: Iterable[Block], _applied: int) -> list[Block]:
    """The blocks of an upright picture. The container turns it: what EXIF says is of no account."""
    return [_turned(block) for block in blocks]


def _turned(block: Block) -> Block:
    if block.kind == "item Exif":
        start = _exif_start(block.data)
        structure = block.data[start:]
        return Block(block.kind, block.data[:start] + exif.turned(structure, exif.orientation(structure)))
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
    exifs = [data[_exif_start(data) :] for data in metadata.of_kind("item Exif")]
    packets = list(metadata.of_kind(f"item mime {_XMP_TYPE}"))
    profiles = [block.data for block in metadata.blocks if block.kind.startswith("colr ")]
    known = ("item Exif", f"item mime {_XMP_TYPE}", "colr ", "nclx")
    others = [f"{size(b.data)} of {b.kind}" for b in metadata.blocks if not b.kind.startswith(known)]
    return View(
        exif=b"".join(exifs[:1]),
        icc_profile=b"".join(profiles[:1]),
        xmp=b"".join(packets[:1]),
        others=tuple(others),
    )


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
        content = block.data[_exif_start(block.data) :]
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

"""PNG: its ancillary chunks, but those about the palette or the bits that are stored."""

import re
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple

from model.format.metadata import Block, MetadataBlocks
from model.photos.metadata import exif, xmp
from model.photos.metadata.common import Found, View, size

SIGNATURE = b"\x89PNG\r\n\x1a\n"
XMP_KEYWORD = b"XML:com.adobe.xmp"
_PIXELS = "IDAT"  # as a block, without bytes: where the pixels stand among the others
# How pixels are stored: the picture is written anew, in 8 bits, and tRNS is its alpha channel.
_STORAGE = {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"hIST", b"sBIT", b"sPLT", b"iDOT"}
_FRAMES = {b"acTL", b"fcTL", b"fdAT"}
# Known ones whose fourth letter says that an editor has to know them.
_CARRIED = {b"cHRM", b"gAMA", b"iCCP", b"sRGB", b"cICP", b"mDCV", b"cLLI", b"pHYs", b"tIME", b"eXIf"}
_CARRIED |= {b"tEXt", b"zTXt", b"iTXt", b"oFFs", b"sCAL", b"pCAL", b"sTER"}
_TEXTS = ("tEXt", "zTXt", "iTXt")
_RAW_PROFILE = re.compile(rb"(\s*+\w++\s++\d++\s++)([0-9A-Fa-f\s]*+)", re.ASCII)  # as ImageMagick writes them
_RAW_EXIF = (b"Raw profile type exif", b"Raw profile type APP1")
_RAW_XMP = (b"Raw profile type xmp",)
_MOST_INFLATED = 1 << 24  # bytes of a profile, or by which all compressed texts together may grow
_METRE = 39.3700787  # inches


class Chunk(NamedTuple):
    kind: bytes
    data: bytes


def chunks(data: bytes) -> Iterator[Chunk]:
    """All chunks up to IEND and with it, as far as they are whole."""
    position = len(SIGNATURE)
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        if position + 12 + length > len(data):
            return
        yield Chunk(kind, data[position + 8 : position + 8 + length])
        position += 12 + length
        if kind == b"IEND":
            return


def read(data: bytes) -> Found:
    found = Found()
    length = len(SIGNATURE)
    header = b""
    pixels_seen = False
    for kind, content in chunks(data):
        length += 12 + len(content)
        if kind == b"IHDR" and len(content) == 13:
            header, found.bits = content, content[8]
        if kind == b"IDAT" and not pixels_seen:
            found.blocks.append(Block(_PIXELS, b""))
            pixels_seen = True
        if kind == b"bKGD":
            _read_background(content, header, found)
        elif kind in _STORAGE or kind in _FRAMES:
            continue
        elif kind in _CARRIED or (kind[0] & 32 and kind[3] & 32 and kind.isalpha()):
            found.blocks.append(Block(kind.decode(), content))
        else:
            found.left_out.append(f"an unknown chunk, {kind.decode('latin-1')!r}")
    if data[length:].strip(b"\0"):
        found.left_out.append(f"{size(data[length:])} after the picture")
    return found


def _read_background(content: bytes, header: bytes, found: Found) -> None:
    """bKGD has the picture's own colours in it: carried where these are written as they were."""
    if header and header[8] == 8 and header[9] in (0, 2, 4, 6):
        found.blocks.append(Block("bKGD", content))
    else:
        found.left_out.append("the colour of its background")


def keyword_and_text(kind: str, data: bytes, most: int = _MOST_INFLATED) -> tuple[bytes, bytes] | None:
    """What a text chunk says: its keyword, and its text as bytes; None if it cannot be read.

    Args:
        most: bytes that a compressed text may have.
    """
    keyword, _, rest = data.partition(b"\0")
    try:
        if kind == "tEXt":
            return keyword, rest
        if kind == "zTXt":
            return keyword, _inflated(rest[1:], most)
        compressed = rest[:1] == b"\1"
        text = rest[2:].split(b"\0", 2)[2]
        return keyword, _inflated(text, most) if compressed else text
    except (ValueError, IndexError, zlib.error):
        return None


def _inflated(data: bytes, most: int = _MOST_INFLATED) -> bytes:
    decompressor = zlib.decompressobj()
    content = decompressor.decompress(data, most + 1)
    if not decompressor.eof or len(content) > most:
        raise ValueError(f"cut off, or of more than {most} bytes")
    return content


def with_text(kind: str, data: bytes, text: bytes) -> bytes:
    """A text chunk's content with another text."""
    keyword, _, rest = data.partition(b"\0")
    if kind == "tEXt":
        return keyword + b"\0" + text
    if kind == "zTXt":
        return keyword + b"\0\0" + zlib.compress(text)
    language, translated, _ = rest[2:].split(b"\0", 2)
    packed = zlib.compress(text) if rest[:1] == b"\1" else text
    return b"\0".join((keyword, rest[:2] + language, translated, packed))


def _texts(blocks: Iterable[Block]) -> Iterator[tuple[int, Block, bytes, bytes]]:
    """Index, block, keyword and text of each text chunk that can be read."""
    room = _MOST_INFLATED
    for index, block in enumerate(blocks):
        most = room + len(block.data)
        if block.kind in _TEXTS and (said := keyword_and_text(block.kind, block.data, most)):
            room -= max(len(said[1]) - len(block.data), 0)
            yield index, block, *said


def raw_profile(text: bytes) -> bytes | None:
    """The bytes that ImageMagick writes as hexadecimal digits after a name and a length."""
    match = _RAW_PROFILE.fullmatch(text)
    try:
        return bytes.fromhex(match[2].decode()) if match else None
    except ValueError:
        return None


def _with_raw_profile(text: bytes, profile: bytes) -> bytes:
    """The same text, lines and all, with other digits."""
    match = _RAW_PROFILE.fullmatch(text)
    if match is None:
        return text
    digits = iter(profile.hex().encode())
    return match[1] + bytes(c if bytes([c]).isspace() else next(digits, c) for c in match[2])


def orientation(blocks: Iterable[Block]) -> int:
    """The orientation in the first EXIF that has one, else in XMP."""
    blocks = list(blocks)
    of_exif = [exif.orientation(block.data) for block in blocks if block.kind == "eXIf"]
    of_xmp = []
    for _, _, keyword, text in _texts(blocks):
        if keyword == XMP_KEYWORD:
            of_xmp.append(xmp.orientation(text))
        elif keyword in _RAW_EXIF and (profile := raw_profile(text)):
            of_exif.append(exif.orientation(profile))
        elif keyword in _RAW_XMP and (profile := raw_profile(text)):
            of_xmp.append(xmp.orientation(profile))
    return exif.first_turn((*of_exif, *of_xmp))


def turned(blocks: Iterable[Block], applied: int) -> list[Block]:
    """The blocks of a picture whose pixels were turned: see `exif.turned`."""
    new = list(blocks)
    if applied == 1:
        return new
    for index, block in enumerate(new):
        if block.kind == "eXIf":
            new[index] = Block(block.kind, exif.turned(block.data, applied))
    for index, block, keyword, text in _texts(tuple(new)):
        other = text
        if keyword == XMP_KEYWORD:
            other = xmp.reset_orientation(text)
        elif keyword in _RAW_EXIF and (profile := raw_profile(text)):
            other = _with_raw_profile(text, exif.turned(profile, applied))
        elif keyword in _RAW_XMP and (profile := raw_profile(text)):
            other = _with_raw_profile(text, xmp.reset_orientation(profile))
        if other != text:
            new[index] = Block(block.kind, with_text(block.kind, block.data, other))
    return new


def without_profile(blocks: Iterable[Block]) -> list[Block]:
    colours = {"iCCP", "cICP", "gAMA", "cHRM", "sRGB"}
    return [block for block in blocks if block.kind not in colours]


def icc_profile(content: bytes) -> bytes:
    """The profile in an iCCP chunk; nothing if it cannot be read."""
    try:
        return _inflated(content.partition(b"\0")[2][1:])
    except (ValueError, zlib.error):
        return b""


def view(metadata: MetadataBlocks) -> View:
    """`icc_profile` is that of iCCP; `model.photos.colour` makes one of the other chunks about colour."""
    exifs = [exif.structure(data) for data in metadata.of_kind("eXIf")]
    packets, comments, others = [], [], []
    iptc = b""
    read = set()
    for index, block, keyword, text in _texts(metadata.blocks):
        read.add(index)
        profile = raw_profile(text) if keyword.startswith(b"Raw profile type ") else None
        if keyword == XMP_KEYWORD:
            packets.append(text)
        elif profile is not None and keyword in _RAW_EXIF and not exifs:
            exifs.append(exif.structure(profile))
        elif profile is not None and keyword in _RAW_XMP:
            packets.append(profile)
        elif profile is not None and keyword == b"Raw profile type iptc" and not iptc:
            iptc = profile
        else:
            encoding = "utf-8" if block.kind == "iTXt" else "latin-1"
            name, words = keyword.decode("latin-1"), text.decode(encoding, "replace")
            comments.append(words if name == "Comment" else f"{name}: {words}")
    unread = [b for i, b in enumerate(metadata.blocks) if b.kind in _TEXTS and i not in read]
    profiles = list(metadata.of_kind("iCCP"))
    icc = icc_profile(profiles[0]) if profiles else b""
    unread += [Block("iCCP", data) for data in profiles[:1] if not icc]
    others += [f"{size(b.data)} of {b.kind} that cannot be read" for b in unread]
    understood = {_PIXELS, "tEXt", "zTXt", "iTXt", "eXIf", "iCCP", "pHYs", "cICP", "gAMA", "cHRM", "sRGB"}
    others += [f"{size(b.data)} of {b.kind}" for b in metadata.blocks if b.kind not in understood]
    density = None
    for data in metadata.of_kind("pHYs"):
        if len(data) == 9 and data[8] == 1:
            across, down = struct.unpack_from(">II", data)
            density = across / _METRE, down / _METRE
    profiles[:1] = [icc]
    seen = View.of_first(exifs, packets, profiles, others)
    return replace(seen, iptc=iptc, comments=tuple(comments), density=density)


def blocks_of(view: View) -> tuple[list[Block], list[str]]:
    """The chunks that hold what came from another container, and what they cannot hold."""
    blocks = []
    if view.icc_profile:
        blocks.append(Block("iCCP", b"ICC profile\0\0" + zlib.compress(view.icc_profile, 9)))
    if view.density is not None:
        across, down = (min(max(round(value * _METRE), 1), 2**31 - 1) for value in view.density)
        blocks.append(Block("pHYs", struct.pack(">IIB", across, down, 1)))
    if view.xmp:
        blocks.append(Block("iTXt", XMP_KEYWORD + b"\0\0\0\0\0" + view.xmp))
    for comment in view.comments:
        blocks.append(Block("iTXt", b"Comment\0\0\0\0\0" + comment.replace("\0", " ").encode()))
    if view.iptc:
        lines = b"\niptc\n" + str(len(view.iptc)).rjust(8).encode() + b"\n" + view.iptc.hex().encode() + b"\n"
        blocks.append(Block("zTXt", b"Raw profile type iptc\0\0" + zlib.compress(lines)))
    if view.exif:
        blocks.append(Block("eXIf", view.exif))
    return [*blocks, Block(_PIXELS, b"")], list(view.others)


def apply(blocks: Iterable[Block], png: bytes) -> bytes:
    """A PNG's pixels with these chunks in place of its own ancillary ones."""
    own = [chunk for chunk in chunks(png) if not chunk.kind[0] & 32 or chunk.kind == b"tRNS"]
    pixels = [chunk for chunk in own if chunk.kind not in (b"IHDR", b"IEND")]
    new = [own[0]]
    for block in blocks:
        if block.kind == _PIXELS:
            new += pixels
            pixels = []
        else:
            new.append(Chunk(block.kind.encode(), block.data))
    new += [*pixels, own[-1]]
    return SIGNATURE + b"".join(_written(chunk) for chunk in new)


def _written(chunk: Chunk) -> bytes:
    body = chunk.kind + chunk.data
    return struct.pack(">I", len(chunk.data)) + body + struct.pack(">I", zlib.crc32(body))


def only_pixels(data: bytes) -> bytes:
    """A PNG without ancillary chunks but tRNS; what cannot be read of it stays as it is."""
    kept, position = [], len(SIGNATURE)
    start = position
    for kind, content in chunks(data):
        end = position + 12 + len(content)
        if kind[0] & 32 and kind != b"tRNS":
            kept.append(data[start:position])
            start = end
        position = end
    return SIGNATURE + b"".join(kept) + data[start:]


def count_frames(data: bytes) -> int:
    for kind, content in chunks(data):
        if kind == b"acTL" and len(content) == 8:
            return int.from_bytes(content[:4])
    return 1

"""By property: whatever metadata a file has, it comes back as it was, or is named."""

import io
import struct
import zlib

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from model.format.metadata import Block, MetadataBlocks
from model.photos.colour import view_with_profile
from model.photos.metadata import containers, exif, jpeg, tiff, webp
from model.photos.metadata.png import chunks
from model.photos.metadata.tiff_directories import Reader, Tag
from model.photos.reading import DecodedPhoto, read_photo
from model.photos.writing import image_file
from tests.model.photos.files import SIDES, picture, png, saved, with_segments
from tests.model.photos.files import tiff as tiff_file

_JPEG = saved(picture(), "JPEG")
_GIF = saved(picture(), "GIF")
_GIF_COLOURS = 13 + (3 << ((_GIF[10] & 7) + 1))  # bytes up to and with its table of colours
_PIXELS = np.array(picture())
_EXAMPLES = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def restored(photo: DecodedPhoto, container: str) -> tuple[bytes, list[str]]:
    """A photo's pixels and metadata as a file, as if they had been through a .rgc file."""
    assert photo.metadata is not None
    metadata = MetadataBlocks.from_bytes(photo.metadata.to_bytes())
    assert metadata == photo.metadata
    image = Image.fromarray(photo.pixels)
    if photo.alpha:
        image.putalpha(Image.open(io.BytesIO(photo.alpha)))
    return image_file(image, container, metadata, view_with_profile(metadata))


# Contents that mean something, cut short and changed, and bytes that mean nothing.
_STARTS = [
    b"",
    b"Exif\0\0",
    b"Exif\0\0II*\0\x08\0\0\0",
    b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0",
]
_STARTS += [
    b"JFIF\0\1\1\1\0\x48\0\x48\0\0",
    b"JFXX\0\x10",
    b"ICC_PROFILE\0\1\1",
    b"Photoshop 3.0\x008BIM\4\4\0\0",
]
_STARTS += [
    b"Adobe\0d\0\0\0\0\1",
    b"http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation='6'/>",
    b"MPF\0",
    b"Ducky",
]
_STARTS += [b"http://ns.adobe.com/xmp/extension/\0" + b"0" * 32 + bytes(8)]
_CONTENT = st.builds(bytes.__add__, st.sampled_from(_STARTS), st.binary(max_size=80))
_SEGMENTS = st.lists(st.tuples(st.sampled_from([*range(0xE0, 0xF0), 0xFE]), _CONTENT), max_size=6)


def jpeg_blocks(data: bytes) -> list[Block]:
    return jpeg.read(data, tuple(jpeg.segments(data))).blocks


@_EXAMPLES
@given(_SEGMENTS)
def test_jpeg(segments: list[tuple[int, bytes]]) -> None:
    data = with_segments(_JPEG, segments)
    photo = read_photo(data)
    back, could_not = restored(photo, "JPEG")
    assert not could_not
    theirs = [
        (s.marker, s.content) for s in jpeg.segments(data) if 0xE0 <= s.marker <= 0xEF or s.marker == 0xFE
    ]
    ours = [
        (s.marker, s.content) for s in jpeg.segments(back) if 0xE0 <= s.marker <= 0xEF or s.marker == 0xFE
    ]
    index = [each for each in theirs if each[0] == 0xE2 and each[1].startswith(b"MPF\0")]
    assert not index or "the index of other pictures" in photo.notes
    theirs = [segment for segment in theirs if segment not in index]
    turned = photo.pixels.shape[:2] != SIDES[::-1] or jpeg.orientation(jpeg_blocks(data)) != 1
    if not turned and "CMYK converted to sRGB" not in photo.notes:
        theirs = [(m, _as_stored(m, content)) for m, content in theirs]
        assert theirs == ours
    again = read_photo(back)
    assert again.pixels.shape == photo.pixels.shape
    assert jpeg.orientation(jpeg_blocks(back)) == 1
    for container in containers.FORMATS:
        other, _ = restored(photo, container)
        assert read_photo(other).pixels.shape == photo.pixels.shape


def _as_stored(marker: int, content: bytes) -> bytes:
    """Adobe's segment says in one byte how the pixels are stored, which are stored anew."""
    is_adobe = marker == 0xEE and content.startswith(b"Adobe") and len(content) > 11
    return content[:11] + b"\1" + content[12:] if is_adobe else content


_KINDS = [
    "tEXt",
    "iTXt",
    "zTXt",
    "eXIf",
    "gAMA",
    "cHRM",
    "sRGB",
    "cICP",
    "iCCP",
    "pHYs",
    "tIME",
    "bKGD",
    "abCd",
    "abCD",
]
_TEXT = st.sampled_from(
    [b"Title\0words", b"XML:com.adobe.xmp\0\0\0\0\0<x/>", b"k\0\0" + zlib.compress(b"words")]
)
_CHUNK = st.tuples(st.sampled_from(_KINDS), st.one_of(st.binary(max_size=60), _TEXT))


@_EXAMPLES
@given(st.lists(_CHUNK, max_size=6), st.lists(_CHUNK, max_size=3))
def test_png(ahead: list[tuple[str, bytes]], after: list[tuple[str, bytes]]) -> None:
    data = png(_PIXELS, 2, 8, [(k.encode(), c) for k, c in ahead], [(k.encode(), c) for k, c in after])
    photo = read_photo(data)
    back, could_not = restored(photo, "PNG")
    assert not could_not
    if photo.pixels.shape == _PIXELS.shape:
        assert np.array_equal(photo.pixels, _PIXELS)
    wanted = [(kind, content) for kind, content in chunks(data) if kind not in (b"IDAT", b"IHDR", b"IEND")]
    found = [(kind, content) for kind, content in chunks(back) if kind not in (b"IDAT", b"IHDR", b"IEND")]
    assert ("an unknown chunk, 'abCD'" in photo.notes) == any(kind == b"abCD" for kind, _ in wanted)
    assert [chunk for chunk in wanted if chunk[0] != b"abCD"] == found
    for container in containers.FORMATS:
        other, _ = restored(photo, container)
        assert read_photo(other).pixels.shape == photo.pixels.shape


def _tag(number: int, kind: int, value: bytes) -> Tag:
    unit = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1, 12: 8}[kind]
    return Tag(number, kind, value[: len(value) // unit * unit])


_NUMBERS = st.sampled_from(
    [269, 270, 271, 305, 306, 315, 282, 283, 296, 700, 33432, 33723, 34377, 37724, 50000, 65000]
)
_TAG = st.builds(_tag, _NUMBERS, st.sampled_from([1, 2, 3, 4, 5, 7, 12]), st.binary(min_size=8, max_size=90))
_DIRECTORY = st.lists(_TAG, max_size=6, unique_by=lambda tag: tag.tag)


@_EXAMPLES
@given(_DIRECTORY, _DIRECTORY, st.sampled_from("<>"))
def test_tiff(tags: list[Tag], inside: list[Tag], order: str) -> None:
    whole = [*tags, *([Tag(34665, 4, inside)] if inside else [])]
    layout: dict[int, int | tuple[int, ...]] = {258: (8, 8, 8), 262: 2, 277: 3}
    data = tiff_file(_PIXELS.tobytes(), layout, whole, order)
    photo = read_photo(data)
    assert np.array_equal(photo.pixels, _PIXELS)
    back, could_not = restored(photo, "TIFF")
    assert not could_not and not photo.notes
    assert np.array_equal(read_photo(back).pixels, _PIXELS)
    reader = Reader(back)
    found = {tag.tag: tag for tag in reader.tags(reader.first_offset())}
    for tag in whole:
        theirs, ours = tag.value, found[tag.tag].value
        assert sorted(theirs) == ours if isinstance(theirs, list) else theirs == ours
    assert struct.unpack_from(f"{order}H", back, 2)[0] == 42
    for container in containers.FORMATS:
        other, _ = restored(photo, container)
        assert read_photo(other).pixels.shape == photo.pixels.shape


def test_tags_of_a_directory_in_no_order() -> None:
    blocks = tiff.read(tiff_file(bytes(960), {}, [Tag(315, 2, b"b\0"), Tag(270, 2, b"a\0")])).blocks
    assert [block.kind for block in blocks] == ["order", "270:2", "315:2"]


_RIFF = st.tuples(
    st.sampled_from(["ICCP", "EXIF", "XMP ", "abcd"]), st.one_of(st.binary(max_size=60), _CONTENT)
)


@_EXAMPLES
@given(st.lists(_RIFF, max_size=4), st.lists(_RIFF, max_size=4))
def test_webp(ahead: list[tuple[str, bytes]], after: list[tuple[str, bytes]]) -> None:
    blocks = [Block(*each) for each in [*ahead, ("VP8X", b""), *after]]
    data = webp.apply(blocks, saved(picture(), "WEBP", lossless=True), *SIDES)
    photo = read_photo(data)
    back, could_not = restored(photo, "WEBP")
    assert not could_not
    if webp.orientation(blocks) == 1:
        assert np.array_equal(photo.pixels, _PIXELS)
        assert webp.read(back).blocks == blocks
    for container in containers.FORMATS:
        other, _ = restored(photo, container)
        assert read_photo(other).pixels.shape == photo.pixels.shape


_LABELS = st.sampled_from([0x01, 0xCE, 0xFE, 0xFF]) | st.integers(0, 255).filter(lambda n: n not in b",;\xf9")
_SUB_BLOCKS = st.lists(st.binary(min_size=1, max_size=60), min_size=1, max_size=3)
_NAMED = st.sampled_from([[b"NETSCAPE2.0", b"\1\0\0"], [b"MYPROG 1.00", b"data"], [b"ICCRGBG1012", b"no"]])


@_EXAMPLES
@given(st.lists(st.tuples(_LABELS, _SUB_BLOCKS | _NAMED), max_size=5))
def test_gif(extensions: list[tuple[int, list[bytes]]]) -> None:
    added = b"".join(
        b"!" + bytes([label]) + b"".join(bytes([len(part)]) + part for part in parts) + b"\0"
        for label, parts in extensions
    )
    photo = read_photo(_GIF[:_GIF_COLOURS] + added + _GIF[_GIF_COLOURS:])
    assert photo.metadata is not None and photo.pixels.shape == _PIXELS.shape
    kinds, whole = {0xFE: "comment", 0xFF: "application"}, [(n, b"".join(parts)) for n, parts in extensions]
    carried = [Block(kinds[label], content) for label, content in whole if label in kinds]
    assert list(photo.metadata.blocks) == carried
    for label, _ in whole:
        unknown = f"an extension of an unknown kind, {label}"
        note = "a text that is drawn over it" if label == 1 else unknown
        assert (note in photo.notes) == (label not in kinds)
    assert len(photo.notes) == len(whole) - len(carried)


@_EXAMPLES
@given(st.sampled_from(_STARTS), st.binary(max_size=200), st.integers(1, 8))
def test_exif_of_any_bytes_keeps_its_length(start: bytes, rest: bytes, applied: int) -> None:
    data = start.removeprefix(b"Exif\0\0") + rest
    turned = exif.turned(data, applied)
    assert len(turned) == len(data) and exif.orientation(turned) == 1

"""What is neither carried nor about how pixels are stored is named as left out."""

import struct
import zlib

import numpy as np
import pytest

from model.format.metadata import Block, MetadataBlocks
from model.photos.metadata import png as png_metadata
from model.photos.metadata import webp
from model.photos.metadata.tiff_directories import Tag, structure
from model.photos.reading import read_photo
from tests.memory import peak_bytes
from tests.model.photos.files import (
    EXIF,
    GREY,
    RGB,
    SIDES,
    SIX,
    XMP,
    picture,
    png,
    saved,
    tiff,
    with_segments,
)
from tests.model.photos.metadata.test_properties import restored

UNSAID = "an extra sample that is not said to be anything, taken for alpha"


@pytest.mark.parametrize(
    ("layout", "extra", "note"),
    [
        ({262: 2}, (0,), UNSAID),
        ({262: 2}, (2,), None),
        ({262: 2}, (1,), None),
        ({262: 1}, (0,), UNSAID),
        ({262: 2}, (0, 0), "samples beside the colours: 2"),
        ({262: 2}, (1, 0), "samples beside the colours: 1"),
        ({262: 5}, (0,), "samples beside the colours: 1"),
    ],
)
def test_extra_samples_are_named_unless_they_come_back(
    layout: dict[int, int | tuple[int, ...]], extra: tuple[int, ...], note: str | None
) -> None:
    samples = {1: 1, 2: 3, 5: 4}[int(str(layout[262]))] + len(extra)
    pixels = np.repeat(GREY[:, :, None], samples, axis=2)
    data = tiff(pixels.tobytes(), {258: (8,) * samples, 277: samples, 338: extra, **layout})
    notes = [each for each in read_photo(data).notes if "CMYK" not in each]
    assert notes == ([note] if note else [])


PLACE = "where its maker note stood, from which it may count offsets"


@pytest.mark.parametrize(
    ("start", "named"),
    [(b"Apple iOS\0\0\1", ()), (b"Nikon\0\2\x10\0\0MM", ()), (b"Nikon\0\1\0", (PLACE,)), (b"", (PLACE,))],
)
def test_a_maker_note_is_named_only_if_its_place_may_matter(start: bytes, named: tuple[str, ...]) -> None:
    note = start + bytes(range(100))
    inside = [Tag(37500, 7, note)]
    photo = read_photo(tiff(GREY.tobytes(), {}, [Tag(34665, 4, inside)]))
    again = read_photo(restored(photo, "TIFF")[0]).metadata
    assert photo.notes == named and again is not None and again.blocks[-1].data == note
    jpeg_photo = read_photo(with_segments(saved(picture(), "JPEG"), [(0xE1, EXIF + exif_of(inside))]))
    assert jpeg_photo.notes == () and restored(jpeg_photo, "TIFF")[1] == list(named)
    assert restored(jpeg_photo, "JPEG")[1] == []


def exif_of(inside: list[Tag]) -> bytes:
    return structure("<", [Tag(34665, 4, inside)])


def test_what_another_format_cannot_hold_twice_is_named() -> None:
    chunks_ahead = [(b"eXIf", SIX), (b"eXIf", SIX), (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<x/>")] * 2
    assert restored(read_photo(png(RGB, 2, 8, chunks_ahead)), "TIFF")[1] == [
        *["26 bytes more of EXIF"] * 3,
        "4 bytes more of XMP",
    ]
    blocks = [Block(*each) for each in [("VP8X", b""), ("EXIF", SIX), ("EXIF", SIX), ("XMP ", b"<x/>")]]
    doubled = webp.apply([*blocks, Block("XMP ", b"<y/>")], saved(picture(), "WEBP"), *SIDES)
    more = ["26 bytes more of EXIF", "4 bytes more of XMP"]
    assert restored(read_photo(doubled), "JPEG")[1] == more and restored(read_photo(doubled), "WEBP")[1] == []


def test_what_another_format_cannot_hold_of_a_jpeg_is_named() -> None:
    segments = [
        (0xE0, b"HEAPJPGM" + bytes(20)),
        (0xE0, b"JFIF\0\1\1\1\0\x48\0\x48\1\1\0\0\0"),
        (0xE1, XMP + b"<x/>"),
        (0xE1, XMP + b"<y/>"),
        (0xE1, b"other"),
        (0xE5, b"of five"),
        (0xED, b"Photoshop 3.0\x008BIM\4\4\0\0\0\0\0\2ab8BIM\4\x0c\0\0\0\0\0\2cd"),
    ]
    photo = read_photo(with_segments(saved(picture(), "JPEG"), segments) + b"trailer")
    assert photo.notes == () and restored(photo, "JPEG")[1] == []
    assert restored(photo, "TIFF")[1] == [
        "28 bytes of APP0",
        "3 bytes of thumbnail",
        "5 bytes of APP1",
        "7 bytes of APP5",
        "42 bytes of Photoshop's resources",
        "7 bytes of trailer",
        "4 bytes more of XMP",
    ]


def test_what_is_odd_about_a_gif_is_named() -> None:
    whole = saved(picture(), "GIF")
    assert read_photo(whole + bytes(100)).notes == ()
    assert read_photo(whole + b"more").notes == ("4 bytes after the picture",)
    data = bytearray(whole)
    for aspect, notes in ((49, ()), (20, ("the shape of its pixels, which are not square",))):
        data[12] = aspect
        assert read_photo(bytes(data)).notes == notes


@pytest.mark.parametrize("container", ["HEIF", "AVIF"])
def test_items_that_are_not_the_picture_s_are_named(container: str) -> None:
    data = saved(picture(), container, xmp=b"<x/>")
    photo, loose = read_photo(data), read_photo(data.replace(b"cdsc", b"none"))
    assert photo.notes == () and photo.xmp == b"<x/>"
    assert loose.notes == ("items of metadata that are not the picture's: 1",) and not loose.xmp
    assert read_photo(data + b"1234567").notes == ("7 bytes after the picture",)


def test_pictures_of_a_heif_are_parts_of_it_or_named() -> None:
    data = saved(picture().resize((80, 64)), "HEIF", thumbnails=[32])
    assert data.count(b"thmb") == 1 and read_photo(data).notes == ()
    assert "other pictures: 1" in read_photo(data.replace(b"thmb", b"none")).notes


def test_properties_that_the_library_does_not_tell_of_are_named() -> None:
    light = {"max_content_light_level": 1000, "max_pic_average_light_level": 200}
    data = saved(picture(), "HEIF", content_light_level=light)
    assert data.count(b"clli") == 1 and read_photo(data).notes == ()
    assert read_photo(data.replace(b"clli", b"ndwt")).notes == ("its nominal diffuse white luminance",)
    assert read_photo(data.replace(b"clli", b"udes")).notes == ("properties of other kinds: udes",)


def test_what_is_cut_off_behind_the_pixels_is_named() -> None:
    whole = saved(picture(), "JPEG")
    assert read_photo(whole[:-2] + b"\xff\xfe\0\x40words").notes == ("a segment that is cut off",)
    index = b"\xff\xe2\0\x0cMPF\0II*\0\x08\0"
    assert "the index of other pictures" in read_photo(whole[:-2] + index + whole[-2:]).notes


def test_small_trailers_are_carried_and_large_ones_named() -> None:
    data = saved(picture(), "JPEG")
    photo = read_photo(data + b"\0\0trailer")
    assert photo.notes == () and restored(photo, "JPEG")[0].endswith(b"\xff\xd9\0\0trailer")
    assert len(read_photo(data + b"trailer" * 100).notes) == 1
    assert read_photo(data + bytes(5000)).notes == ()


def test_texts_of_a_png_may_grow_by_so_much_and_no_more() -> None:
    def texts(times: int, packed: bytes) -> MetadataBlocks:
        return MetadataBlocks("PNG", (Block("zTXt", b"Comment\0\0" + packed),) * times)

    mebi = zlib.compress(bytes(1 << 20))
    assert peak_bytes(lambda: png_metadata.view(texts(100, mebi))) < 40e6
    seen = png_metadata.view(texts(100, mebi))
    assert len(seen.comments) == 16
    assert seen.others == (f"{len(mebi) + 9:,} bytes of zTXt that cannot be read",) * 84
    assert len(png_metadata.view(texts(10_000, zlib.compress(b"hello"))).comments) == 10_000


def test_profiles_of_a_png_that_cannot_be_read_or_are_not_the_first_are_named() -> None:
    profiles = [Block("iCCP", b"x\0\0" + zlib.compress(bytes(size))) for size in (3, 1 << 25)]
    seen = png_metadata.view(MetadataBlocks("PNG", tuple(profiles)))
    assert seen.icc_profile == bytes(3)
    assert seen.others == (f"{len(profiles[1].data):,} bytes more of ICC profile",)
    seen = png_metadata.view(MetadataBlocks("PNG", (profiles[1],)))
    assert seen.icc_profile == b""
    assert seen.others == (f"{len(profiles[1].data):,} bytes of iCCP that cannot be read",)


def test_a_density_that_a_tiff_cannot_hold_is_named() -> None:
    def could_not(across: int) -> list[str]:
        return restored(read_photo(png(RGB, 2, 8, [(b"pHYs", struct.pack(">IIB", across, 1, 1))])), "TIFF")[1]

    assert could_not(0xFFFFFFFF) == ["its density of 109,092,169 pixels an inch"]
    assert could_not(160_000_000) == []


def test_directories_of_a_tiff_that_are_not_read_are_named_and_no_offsets_are_carried() -> None:
    offset = struct.pack("<I", 8)
    inside = [Tag(50_000, 13, offset), Tag(36864, 7, b"0230")]
    photo = read_photo(
        tiff(GREY.tobytes(), {}, [Tag(330, 4, offset), Tag(400, 4, offset), Tag(34665, 4, inside)])
    )
    assert photo.notes == (
        "pictures in sub-directories",
        "directory 400, of an unknown kind",
        "directory 34665/50000, of an unknown kind",
    )
    assert photo.metadata is not None
    assert [block.kind for block in photo.metadata.blocks] == ["order", "34665/", "34665/36864:7"]
    exif = structure("<", [Tag(34665, 13, inside)])
    jpeg_photo = read_photo(with_segments(saved(picture(), "JPEG"), [(0xE1, EXIF + exif)]))
    assert restored(jpeg_photo, "TIFF")[1] == ["directory 34665/50000, of an unknown kind"]


def test_what_stands_between_segments_is_named() -> None:
    whole = saved(picture(), "JPEG", progressive=True)
    for place in (20, whole.index(b"\xff\xda")):
        assert read_photo(whole[:place] + b"\0\0\xff" + whole[place:]).notes == ()
        words = whole[:place] + b"words" + whole[place:]
        assert read_photo(words).notes == ("5 bytes between its segments",)

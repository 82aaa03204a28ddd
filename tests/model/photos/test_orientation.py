"""Orientation: whatever place asks for a turn, it is made once and asked for no more."""

import io
import struct
import time
import zlib

import numpy as np
import pytest
from PIL import ExifTags, Image

from model.photos.metadata import containers, exif, xmp
from model.photos.metadata.tiff_directories import Tag
from model.photos.reading import read_photo
from tests.model.photos.files import (
    EXIF,
    GREY,
    RGB,
    SIDES,
    SIX,
    XMP,
    exif_structure,
    picture,
    png,
    saved,
    tiff,
    with_segments,
)
from tests.model.photos.metadata.test_properties import restored

WIDTH, HEIGHT = SIDES


PACKET = "<x xmlns:tiff='http://ns.adobe.com/tiff/1.0/' %s</x>"
PLACES = {
    "one": [(0xE1, EXIF + SIX)],
    "big-endian": [(0xE1, EXIF + exif_structure([(274, 3, 6)], ">"))],
    "exif twice": [(0xE1, EXIF + SIX), (0xE1, EXIF + SIX)],
    "header twice": [(0xE1, EXIF + EXIF + SIX)],
    "two tags": [(0xE1, EXIF + exif_structure([(274, 3, 6), (274, 3, 6)]))],
    "a byte": [(0xE1, EXIF + exif_structure([(274, 1, 6)]))],
    "a long": [(0xE1, EXIF + exif_structure([(274, 4, 6)], ">"))],
    "xmp": [(0xE1, XMP + (PACKET % 'tiff:Orientation="6">').encode())],
    "xmp, single quotes": [(0xE1, XMP + (PACKET % "tiff:Orientation = '6'>").encode())],
    "xmp, element": [(0xE1, XMP + (PACKET % "><tiff:Orientation>6</tiff:Orientation>").encode())],
    "xmp, other prefix": [
        (0xE1, XMP + b"<x xmlns:t='http://ns.adobe.com/tiff/1.0/'><t:Orientation> 6 </t:Orientation></x>")
    ],
    "both": [(0xE1, EXIF + SIX), (0xE1, XMP + (PACKET % "tiff:Orientation='6'>").encode())],
}


@pytest.mark.parametrize("place", PLACES)
def test_orientation_is_applied_and_reset_in_every_place(place: str) -> None:
    plain = read_photo(saved(picture(), "JPEG")).pixels
    data = with_segments(saved(picture(), "JPEG"), PLACES[place])
    photo = read_photo(data)
    assert np.array_equal(photo.pixels, np.rot90(plain, -1))
    assert photo.metadata is not None
    for container in containers.FORMATS:
        back, _ = restored(photo, container)
        again = read_photo(back)
        assert again.pixels.shape == photo.pixels.shape  # it is not turned again
        assert exif.orientation(again.exif) == 1 and xmp.orientation(again.xmp) == 1


@pytest.mark.parametrize("place", ["one", "xmp, single quotes"])
def test_an_orientation_that_was_not_applied_stays(place: str) -> None:
    """EXIF of orientation 1 comes first: what the others say is no viewer's concern, before as after."""
    upright = [(0xE1, EXIF + exif_structure([(274, 3, 1)]))]
    data = with_segments(saved(picture(), "JPEG"), [*upright, *PLACES["xmp, single quotes"]])
    photo = read_photo(data)
    back, _ = restored(photo, "JPEG")
    assert read_photo(back).pixels.shape == photo.pixels.shape


def test_thumbnails_are_turned_with_their_picture() -> None:
    thumbnail = saved(picture().resize((20, 12)), "JPEG", quality=92)
    start = 8 + 2 + 12 + 4 + 2 + 36 + 4
    structure = b"II*\0\x08\0\0\0" + struct.pack("<HHHIHHI", 1, 274, 3, 1, 6, 0, start - 42)
    structure += struct.pack(
        "<HHHIHHHHIIHHIII", 3, 274, 3, 1, 6, 0, 513, 4, 1, start, 514, 4, 1, len(thumbnail), 0
    )
    data = with_segments(saved(picture(), "JPEG"), [(0xE1, EXIF + structure + thumbnail)])
    photo = read_photo(data)
    with Image.open(io.BytesIO(restored(photo, "JPEG")[0])) as image:
        held = image.getexif().get_ifd(ExifTags.IFD.IFD1)
    assert held[274] == 1
    small = Image.open(io.BytesIO(photo.exif[start : start + held[514]]))
    assert small.size == (12, 20)
    upright = np.array(picture().resize((20, 12)).transpose(Image.Transpose.ROTATE_270)).astype(int)
    assert np.abs(np.array(small) - upright).mean() < 12
    broken = with_segments(saved(picture(), "JPEG"), [(0xE1, EXIF + structure + b"x" * len(thumbnail))])
    assert len(list(exif._chain(read_photo(broken).exif))) == 1  # dropped


def test_orientation_in_pngs_of_imagemagick() -> None:
    digits = SIX.hex()
    lines = "\n".join(digits[at : at + 72] for at in range(0, len(digits), 72))
    text = f"\nexif\n{len(SIX):8}\n{lines}\n".encode()
    for keyword in (b"Raw profile type exif", b"Raw profile type APP1"):
        data = png(RGB, 2, 8, [(b"zTXt", keyword + b"\0\0" + zlib.compress(text))])
        photo = read_photo(data)
        assert photo.pixels.shape == (WIDTH, HEIGHT, 3) and exif.orientation(photo.exif) == 1
        back, _ = restored(photo, "PNG")
        assert read_photo(back).pixels.shape == (WIDTH, HEIGHT, 3)


def test_tiff_orientation_and_resolution() -> None:
    tags = [Tag(274, 3, struct.pack("<H", 6)), Tag(282, 5, struct.pack("<II", 300, 1))]
    tags.append(Tag(283, 5, struct.pack("<II", 150, 1)))
    photo = read_photo(tiff(GREY.tobytes(), {}, tags))
    assert np.array_equal(photo.pixels[:, :, 0], np.rot90(GREY, -1))
    back, _ = restored(photo, "TIFF")
    with Image.open(io.BytesIO(back)) as image:
        assert (image.tag_v2[274], image.tag_v2[282], image.tag_v2[283]) == (1, 150, 300)
        assert image.size == (HEIGHT, WIDTH)


def test_thousands_of_prefixes_in_xmp_take_no_longer_than_one() -> None:
    prefixes = [f"a{number}" for number in range(20_000)]
    packet = "<x " + " ".join(f"xmlns:{prefix}='http://ns.adobe.com/tiff/1.0/'" for prefix in prefixes)
    packet += "/>".join(f"<{prefix}:Orientation" for prefix in prefixes) + f" {prefixes[0]}:Orientation='6'/>"
    start = time.process_time()
    assert xmp.orientation(packet.encode()) == 6
    assert xmp.reset_orientation(packet.encode()).decode() == packet.replace("'6'", "'1'")
    assert time.process_time() - start < 1

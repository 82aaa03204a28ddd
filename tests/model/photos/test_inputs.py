"""Kinds of files that cost an earlier rgc their colours, their alpha, their pixels, or the whole photo."""

import io
import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from model.format.metadata import Block, MetadataBlocks
from model.photos.errors import UnreadablePhotoError
from model.photos.metadata import containers, gif, jpeg, xmp
from model.photos.metadata.tiff_directories import Tag
from model.photos.reading import DecodedPhoto, read_photo
from tests.model.photos.files import GREY, RGB, SIDES, picture, png, saved, tiff, with_segments
from tests.model.photos.metadata.test_properties import restored

WIDTH, HEIGHT = SIDES


def alpha_of(photo: DecodedPhoto) -> np.ndarray:
    assert photo.alpha
    return np.array(Image.open(io.BytesIO(photo.alpha)))


def test_pages_of_other_modes_leave_the_first_as_it_is() -> None:
    pages = [picture("P"), picture("1"), picture()]
    data = saved(picture("L"), "TIFF", save_all=True, append_images=pages, compression="tiff_lzw")
    photo = read_photo(data)
    assert np.array_equal(photo.pixels[:, :, 0], GREY) and photo.notes == ("the first of 4 frames",)


def test_what_is_broken_after_the_first_picture_is_named() -> None:
    data = bytearray(tiff(GREY.tobytes(), {}))
    data[-4:] = struct.pack("<I", 0x7FFFFFFF)  # of the next directory
    photo = read_photo(bytes(data))
    assert np.array_equal(photo.pixels[:, :, 0], GREY)
    assert photo.notes == (
        "pictures after the first, which cannot be read: byte 2147483647 is not in the file",
    )
    gif = saved(picture(), "GIF", save_all=True, append_images=[picture().rotate(180)])
    photo = read_photo(gif[: len(gif) - 60])
    assert photo.pixels.shape == (HEIGHT, WIDTH, 3) and len(photo.notes) >= 1


def test_strips_that_are_cut_off_fail() -> None:
    """libtiff gives what memory held before for the rest of such a strip; Pillow hears of no error."""
    data = bytearray(saved(picture("1"), "TIFF", compression="group4"))
    for tag in (257, 278):  # rows of the picture, and of its strip
        at = data.index(struct.pack("<H", tag), 8)
        data[at + 8 : at + 10] = struct.pack("<H", 900)
    with pytest.raises(UnreadablePhotoError, match=r"truncated: pixels are missing"):
        read_photo(bytes(data))


@pytest.mark.parametrize(("bits", "layout"), [(16, 1), (16, 0), (32, 1), (8, 0)])
def test_grey_of_any_depth_is_scaled_by_its_range(bits: int, layout: int) -> None:
    deep = GREY.astype(f"<u{bits // 8}") * (((1 << bits) - 1) // 255)
    stored = deep if layout == 1 else (1 << bits) - 1 - deep
    photo = read_photo(tiff(stored.astype(f"<u{bits // 8}").tobytes(), {258: bits, 262: layout}))
    assert photo.grey and np.array_equal(photo.pixels[:, :, 0], GREY)


def test_12_bits() -> None:
    deep = np.round(GREY.astype(int) * 4095 / 255)
    pairs = deep.reshape(-1, 2).astype(int)
    packed = np.stack(
        [pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255], axis=1
    )
    photo = read_photo(tiff(packed.astype(np.uint8).tobytes(), {258: 12}))
    assert np.array_equal(photo.pixels[:, :, 0], GREY) and photo.notes == ("12 bits reduced to 8",)


def test_floats_and_signed_numbers_have_a_range_or_fail() -> None:
    floats = {258: 32, 339: 3}
    whole = read_photo(tiff((GREY / np.float32(255)).astype("<f4").tobytes(), floats))
    assert np.array_equal(whole.pixels[:, :, 0], GREY)
    assert whole.notes == ("floating point reduced to 8 bits",)
    unknown = tiff(GREY.astype("<f4").tobytes(), floats)
    with pytest.raises(UnreadablePhotoError, match=r"samples from .* where 0 is black and 1 white"):
        read_photo(unknown)
    said = [Tag(340, 11, struct.pack("<f", 0)), Tag(341, 11, struct.pack("<f", 255))]
    assert np.array_equal(read_photo(tiff(GREY.astype("<f4").tobytes(), floats, said)).pixels[:, :, 0], GREY)
    with pytest.raises(UnreadablePhotoError, match="no numbers"):
        read_photo(tiff(np.full_like(GREY, np.nan, "<f4").tobytes(), floats))
    with pytest.raises(UnreadablePhotoError, match="signed samples"):
        read_photo(tiff(GREY.astype("<i4").tobytes(), {258: 32, 339: 2}))


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_transparent_grey_of_any_depth(bits: int) -> None:
    most = (1 << bits) - 1
    samples = (np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % (most + 1)).astype(np.uint16)
    stored = samples if bits == 16 else samples.astype(np.uint8)
    photo = read_photo(png(stored, 0, bits, [(b"tRNS", struct.pack(">H", 1))]))
    assert np.array_equal(alpha_of(photo), np.where(samples == 1, 0, 255))
    assert np.array_equal(photo.pixels[:, :, 0], np.round(samples * (255 / most)))


def test_transparent_colour_is_compared_in_all_its_bits() -> None:
    deep = RGB.astype(np.uint16) * 257
    deep[3, 4], deep[5, 6] = (0x1234, 0x5678, 0x9ABC), (0x1234, 0x5678, 0x9ABD)
    key = struct.pack(">3H", 0x1234, 0x5678, 0x9ABC)
    alpha = alpha_of(read_photo(png(deep, 2, 16, [(b"tRNS", key)])))
    assert (alpha == 0).sum() == 1 and alpha[3, 4] == 0
    eight = RGB.copy()
    eight[3, 4] = (1, 2, 3)
    alpha = alpha_of(read_photo(png(eight, 2, 8, [(b"tRNS", struct.pack(">3H", 1, 2, 3))])))
    assert (alpha == 0).sum() == 1 and alpha[3, 4] == 0


@pytest.mark.parametrize("kind", [0, 2])
def test_extra_samples_are_alpha_unless_they_are_nothing(kind: int) -> None:
    layout: dict[int, int | tuple[int, ...]] = {258: (8,) * 4, 262: 2, 277: 4, 338: kind}
    four = np.concatenate([RGB, GREY[:, :, None]], axis=2)
    photo = read_photo(tiff(four.tobytes(), layout))
    assert np.array_equal(alpha_of(photo), GREY) and np.array_equal(photo.pixels, RGB)
    four[:, :, 3] = 0
    assert bool(read_photo(tiff(four.tobytes(), layout)).alpha) == (kind == 2)


def test_a_broken_profile_of_cmyk_is_named() -> None:
    data = saved(picture("CMYK"), "JPEG", quality=95, icc_profile=b"garbage " * 20)
    photo = read_photo(data)
    assert photo.notes == ("CMYK converted to sRGB", "its ICC profile, which cannot be read")
    assert not photo.icc_profile and np.abs(photo.pixels.astype(int) - RGB).mean() < 12


def test_text_of_megabytes_is_carried() -> None:
    text = b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(b"<x>" + b" " * (3 << 20) + b"</x>")
    photo = read_photo(png(RGB, 2, 8, [(b"iTXt", text)]))
    assert photo.notes == () and len(photo.xmp) == (3 << 20) + 7
    back, could_not = restored(photo, "JPEG")
    assert could_not == ["3,145,735 bytes of XMP, more than a JPEG's segment holds"]
    assert read_photo(back).pixels.shape == RGB.shape


def test_metadata_of_many_megabytes_is_carried_and_more_of_it_fails() -> None:
    layers = Tag(37724, 7, bytes(40 << 20))  # of Photoshop, all of one colour
    photo = read_photo(tiff(GREY.tobytes(), {}, [layers]))
    assert photo.notes == () and photo.metadata is not None and photo.metadata.blocks[-1].data == layers.value
    assert MetadataBlocks.from_bytes(photo.metadata.to_bytes()) == photo.metadata
    with pytest.raises(UnreadablePhotoError, match="65537 blocks of metadata; rgc takes up to 65536"):
        read_photo(with_segments(saved(picture(), "JPEG"), [(0xFE, b"")] * 65536))


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_without_its_end_is_a_photo_if_its_pixels_are_all_there(progressive: bool) -> None:
    data = saved(picture(), "JPEG", quality=95, progressive=progressive)
    whole, cut = read_photo(data), read_photo(data[:-2])
    assert np.array_equal(cut.pixels, whole.pixels) and cut.notes == ()
    for missing in (12, len(data) // 8):
        with pytest.raises(UnreadablePhotoError, match=r"truncated"):
            read_photo(data[: len(data) - missing])


@pytest.mark.parametrize("size", [(4_000_000, 1), (1, 25_000_000), (1 << 27, 1)])
def test_narrow_pictures_are_counted_as_they_are_coded(size: tuple[int, int]) -> None:
    header = png(np.zeros((1, 1), np.uint8), 0, 8)
    data = header.replace(header[8:33], b"")
    chunk = struct.pack(">IIBBBBB", *size, 8, 0, 0, 0, 0)
    body = b"IHDR" + chunk
    data = header[:8] + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body)) + header[33:]
    with pytest.raises(UnreadablePhotoError, match="pixels"):
        read_photo(data)


@pytest.mark.parametrize("image_format", ["WEBP", "GIF", "PNG", "AVIF"])
def test_the_first_frame_comes_back_with_its_metadata(image_format: str) -> None:
    others = [picture().rotate(180), picture().rotate(90)]
    xmp_packet = {} if image_format in ("GIF", "PNG") else {"xmp": b"<x/>"}
    data = saved(picture(), image_format, save_all=True, append_images=others, lossless=True, **xmp_packet)
    photo = read_photo(data)
    assert photo.notes[0] == "the first of 3 frames"
    assert np.abs(photo.pixels.astype(int) - RGB).mean() < 12
    for container in containers.FORMATS:
        again = read_photo(restored(photo, container)[0])
        assert again.pixels.shape == RGB.shape and again.xmp == photo.xmp and not again.notes


def test_xmp_of_a_gif_is_carried_whole_however_it_is_written() -> None:
    whole = saved(picture(), "GIF")
    head = 13 + (3 << ((whole[10] & 7) + 1))
    for length in range(300):  # readers of sub-blocks come upon each byte of what follows the packet
        packet = b"<x>" + b"y" * length + b"</x>"
        magic = packet + b"\1" + bytes(range(255, -1, -1))
        parts = [packet[at : at + 99] for at in range(0, len(packet), 99)]
        for content in (magic, b"".join(bytes([len(part)]) + part for part in parts)):
            extension = b"\x21\xff\x0bXMP DataXMP" + content + b"\0" + b"\x21\xfe\2hi\0"
            found = gif.read(whole[:head] + extension + whole[head:])
            blocks = [Block("application", b"XMP DataXMP" + packet), Block("comment", b"hi")]
            assert (found.blocks, found.left_out) == (blocks, [])


def test_markers_profiles_and_orientations_are_searched_for_in_linear_time() -> None:
    start = time.process_time()
    assert not list(jpeg.segments(b"\xff\xd8" + b"\xff" * 300_000 + b"\0"))
    text = b"Raw profile type exif\0\0" + zlib.compress(b"exif 1" + b" " * 300_000 + b"!")
    seen = containers.view(MetadataBlocks("PNG", (Block("zTXt", text),)))
    assert seen.comments[0].startswith("Raw profile type exif: exif 1 ") and not seen.exif
    assert xmp.orientation(b"tiff:Orientation " * 20_000 + b"rdf:x='y'>6<") == 6
    assert time.process_time() - start < 4


def test_a_gif_of_many_packets_is_read_in_linear_time() -> None:
    whole = saved(picture(), "GIF")
    head = 13 + (3 << ((whole[10] & 7) + 1))
    packets = (b"\x21\xff\x0bXMP DataXMP\0") * 150_000
    start = time.process_time()
    assert len(gif.read(whole[:head] + packets + whole[head:]).blocks) == 150_000
    assert time.process_time() - start < 4

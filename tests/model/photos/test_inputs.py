"""Kinds of files that cost an earlier rgc their colours, their alpha, their pixels, or the whole photo."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms

from model.format.metadata import Block
from model.photos.errors import UnreadablePhotoError
from model.photos.metadata import containers, exif, webp, xmp
from model.photos.metadata.png import chunks
from model.photos.metadata.tiff_directories import Tag, structure
from model.photos.reading import DecodedPhoto, read_photo
from tests.model.photos.files import SIDES, exif_structure, picture, png, saved, tiff, with_segments
from tests.model.photos.metadata.test_properties import restored

WIDTH, HEIGHT = SIDES
GREY = np.array(picture("L"))
RGB = np.array(picture())


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


# --- what is neither carried nor about how pixels are stored is named


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


# --- orientation: whatever place asks for a turn, it is made once and asked for no more

EXIF = b"Exif\0\0"
SIX = exif_structure([(274, 3, 6)])
XMP = b"http://ns.adobe.com/xap/1.0/\0"
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


# --- colours


def test_colours_by_number_are_carried_and_have_a_profile_elsewhere() -> None:
    photo = read_photo(png(RGB, 2, 8, [(b"cICP", bytes([12, 13, 0, 1]))]))
    back, _ = restored(photo, "PNG")
    assert (b"cICP", bytes([12, 13, 0, 1])) in [tuple(chunk) for chunk in chunks(back)]
    for container in ("JPEG", "TIFF", "WEBP", "HEIF", "AVIF"):
        other = read_photo(restored(photo, container)[0])
        assert other.icc_profile == photo.icc_profile and other.icc_profile
    profile = ImageCms.ImageCmsProfile(io.BytesIO(photo.icc_profile))
    orange = Image.new("RGB", (1, 1), (200, 100, 50))
    shown = ImageCms.profileToProfile(orange, profile, ImageCms.createProfile("sRGB"))
    assert shown is not None
    assert np.abs(np.array(shown.getpixel((0, 0))) - (215, 94, 31)).max() <= 2  # by CSS Color's matrices
    adobe = struct.pack(">8I", 31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000)
    assert read_photo(png(RGB, 2, 8, [(b"gAMA", struct.pack(">I", 45455)), (b"cHRM", adobe)])).icc_profile
    plain = struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
    assert not read_photo(png(RGB, 2, 8, [(b"gAMA", struct.pack(">I", 45455)), (b"cHRM", plain)])).icc_profile
    assert read_photo(png(GREY, 0, 8, [(b"gAMA", struct.pack(">I", 100000))])).icc_profile


def test_colours_by_number_that_are_damaged_cost_no_profile() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    named = (b"iCCP", b"icc\0\0" + zlib.compress(profile))
    assert read_photo(png(RGB, 2, 8, [named])).icc_profile == profile
    assert read_photo(png(RGB, 2, 8, [(b"cICP", b"\x0c\x0d"), named])).icc_profile == profile


def test_nclx_comes_back() -> None:
    numbers = {
        "color_primaries": 12,
        "transfer_characteristics": 13,
        "matrix_coefficients": 6,
        "full_range_flag": 1,
    }
    photo = read_photo(saved(picture(), "HEIF", nclx_profile=numbers))
    assert photo.notes == () and photo.icc_profile
    for container in ("HEIF", "AVIF"):
        assert photo.metadata is not None
        back = read_photo(restored(photo, container)[0])
        assert back.icc_profile == photo.icc_profile
    avif = read_photo(restored(read_photo(restored(photo, "AVIF")[0]), "AVIF")[0])
    assert avif.icc_profile == photo.icc_profile


def test_lab_becomes_srgb_without_its_profile() -> None:
    lab = ImageCms.createProfile("LAB")
    image = picture().convert("LAB")
    profile = ImageCms.ImageCmsProfile(lab).tobytes()
    photo = read_photo(saved(image, "TIFF", icc_profile=profile))
    assert photo.notes == ("CIELab converted to sRGB",) and not photo.icc_profile
    assert np.abs(photo.pixels.astype(int) - RGB).mean() < 4
    assert not read_photo(restored(photo, "TIFF")[0]).icc_profile


def test_small_trailers_are_carried_and_large_ones_named() -> None:
    data = saved(picture(), "JPEG")
    photo = read_photo(data + b"\0\0trailer")
    assert photo.notes == () and restored(photo, "JPEG")[0].endswith(b"\xff\xd9\0\0trailer")
    assert len(read_photo(data + b"trailer" * 100).notes) == 1
    assert read_photo(data + bytes(5000)).notes == ()


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

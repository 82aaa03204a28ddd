import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms

from model.photo import NotAPhotoError, UnreadablePhotoError, check_name, decode_image, read_photo


def saved(image: Image.Image, image_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


@pytest.fixture
def small(astronaut: Image.Image) -> Image.Image:
    return astronaut.resize((48, 32))


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF", "HEIF", "GIF"])
def test_reads_every_format(small: Image.Image, image_format: str) -> None:
    photo = read_photo(saved(small, image_format))
    assert photo.format == image_format
    assert np.abs(photo.pixels.astype(int) - np.array(small)).mean() < 12
    assert not photo.grey and not photo.alpha


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation_is_applied_once(small: Image.Image, orientation: int, image_format: str) -> None:
    """Undoing the transposition gives the stored pixels, and the EXIF kept asks for no other."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.Make] = "Maker"
    photo = read_photo(saved(small, image_format, exif=exif))
    stored = Image.open(io.BytesIO(saved(small, image_format)))
    expected = np.array(small).shape[:2] if orientation < 5 else np.array(small).shape[1::-1]
    assert photo.pixels.shape[:2] == expected
    corner = {1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0), 5: (0, 0), 6: (0, -1), 7: (-1, -1), 8: (-1, 0)}
    first = np.array(stored.convert("RGB"))[0, 0]
    assert np.array_equal(photo.pixels[corner[orientation]], first)
    kept = Image.Exif()
    kept.load(photo.exif)
    assert kept.get(ExifTags.Base.Orientation, 1) == 1
    assert kept[ExifTags.Base.Make] == "Maker"


def test_orientation_of_tiffs_is_applied_once_whatever_pillow_has_loaded(small: Image.Image) -> None:
    """Pillow applies it when it loads a TIFF, and counting the pages unloads the first one."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    data = saved(small, "TIFF", exif=exif, save_all=True, append_images=[small.rotate(180)])
    expected = np.array(small.transpose(Image.Transpose.ROTATE_270))
    assert np.array_equal(read_photo(data).pixels, expected)
    assert np.array_equal(decode_image(Image.open(io.BytesIO(data))).pixels, expected)
    single = saved(small, "TIFF", exif=exif)
    assert np.array_equal(decode_image(Image.open(io.BytesIO(single))).pixels, expected)


def test_metadata_is_kept_byte_for_byte(small: Image.Image) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Model] = "Model"
    exif[ExifTags.IFD.GPSInfo] = {ExifTags.GPS.GPSLatitude: (48.0, 8.0, 15.0)}
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/">words</x:xmpmeta>'
    for image_format in ("JPEG", "WEBP"):
        photo = read_photo(saved(small, image_format, exif=exif, icc_profile=profile, xmp=xmp))
        assert photo.exif == exif.tobytes().removeprefix(b"Exif\0\0")
        assert photo.icc_profile == profile
        assert photo.xmp == xmp


def test_orientation_in_xmp_is_reset(small: Image.Image) -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    photo = read_photo(saved(small, "JPEG", xmp=xmp))
    assert photo.pixels.shape[:2] == (48, 32)
    assert photo.xmp == xmp.replace(b'"6"', b'"1"')


@pytest.mark.parametrize("exif", [b"II*\0", b"MM\0*\xff\xff\xff\xff", b"garbage", b"II*\0\x08\0\0\0\xff\xff"])
def test_broken_exif_costs_nothing(small: Image.Image, exif: bytes) -> None:
    photo = read_photo(saved(small, "JPEG", exif=b"Exif\0\0" + exif))
    assert photo.pixels.shape == (32, 48, 3)
    assert photo.exif == exif


def test_modes(small: Image.Image) -> None:
    grey = read_photo(saved(small.convert("L"), "PNG"))
    assert grey.grey and np.array_equal(grey.pixels[:, :, 0], np.array(small.convert("L")))
    palette = read_photo(saved(small.convert("P"), "PNG"))
    assert np.array_equal(palette.pixels, np.array(small.convert("P").convert("RGB")))
    bilevel = read_photo(saved(small.convert("1"), "PNG"))
    assert bilevel.grey and set(np.unique(bilevel.pixels)) == {0, 255}
    cmyk = read_photo(saved(small.convert("CMYK"), "JPEG", quality=95))
    assert cmyk.notes == ("CMYK converted to sRGB",)
    assert np.abs(cmyk.pixels.astype(int) - np.array(small)).mean() < 8


def test_alpha(small: Image.Image) -> None:
    transparent = small.convert("RGBA")
    transparent.putalpha(Image.linear_gradient("L").resize(small.size))
    photo = read_photo(saved(transparent, "PNG"))
    with Image.open(io.BytesIO(photo.alpha)) as alpha:
        assert np.array_equal(np.array(alpha), np.array(transparent.getchannel("A")))
    assert not read_photo(saved(small.convert("RGBA"), "PNG")).alpha  # opaque


def test_sixteen_bits_are_scaled() -> None:
    values = (np.arange(64 * 64, dtype=np.uint32).reshape(64, 64) * 16).astype(np.uint16)
    photo = read_photo(saved(Image.fromarray(values), "PNG"))
    assert photo.grey and photo.notes == ("16 bits reduced to 8",)
    assert np.array_equal(photo.pixels[:, :, 0], np.round(values / 257).astype(np.uint8))


def test_the_first_frame_counts(small: Image.Image) -> None:
    data = saved(
        small,
        "GIF",
        save_all=True,
        append_images=[Image.new("RGB", small.size, colour) for colour in ("red", "blue")],
    )
    photo = read_photo(data)
    assert photo.notes == ("the first of 3 frames",)
    assert np.abs(photo.pixels.astype(int) - np.array(small)).mean() < 12


def test_a_bomb_is_refused_before_it_is_decoded() -> None:
    """A PNG of a few hundred bytes whose header claims 100 megapixels."""

    def chunk(kind: bytes, payload: bytes) -> bytes:
        body = kind + payload
        return struct.pack(">I", len(payload)) + body + struct.pack(">I", zlib.crc32(body))

    def png(width: int, height: int) -> bytes:
        header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        data = chunk(b"IDAT", zlib.compress(bytes(1000)))
        return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + data + chunk(b"IEND", b"")

    with pytest.raises(UnreadablePhotoError, match=r"10000x10000 pixels in \d+ bytes: .* bomb"):
        read_photo(png(10_000, 10_000))
    with pytest.raises(UnreadablePhotoError, match=r"20000x20000 pixels|DecompressionBombError"):
        read_photo(png(20_000, 20_000) + bytes(10**6))


def test_a_flat_photo_is_no_bomb() -> None:
    data = saved(Image.new("RGB", (4000, 3000), "white"), "WEBP", lossless=True)
    assert len(data) < 1000
    assert read_photo(data).pixels.shape == (3000, 4000, 3)


@pytest.mark.parametrize("name", ["a.CR2", "b/c.dng", "film.MP4", "notes.txt", "README", "a.jpg.rgc"])
def test_names_of_other_files(name: str) -> None:
    with pytest.raises(NotAPhotoError):
        check_name(name)


def test_names_of_photos() -> None:
    for name in ("a.jpg", "A.JPEG", "x/y.HEIC", "odd.name.webp"):
        check_name(name)


def test_unreadable_files_say_why(small: Image.Image, tmp_path: Path) -> None:
    jpeg = saved(small, "JPEG")
    for data, message in (
        (b"", "empty"),
        (b"no photo at all", "no decoder recognises"),
        (jpeg[: len(jpeg) // 2], "truncated"),
    ):
        with pytest.raises(UnreadablePhotoError, match=message):
            read_photo(data)

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
import pytest
import tifffile
from PIL import ExifTags, Image, ImageCms

from model.photos.errors import UnreadablePhotoError
from model.photos.names import NotAPhotoError, check_name
from model.photos.reading import decode_image, read_photo


def saved(image: Image.Image, image_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def png_chunk(kind: bytes, payload: bytes) -> bytes:
    body = kind + payload
    return struct.pack(">I", len(payload)) + body + struct.pack(">I", zlib.crc32(body))


def png(width: int, height: int, pixels: bytes, bits: int = 8) -> bytes:
    """Of colour; each row of `pixels` begins with its filter, 0."""
    header = struct.pack(">IIBBBBB", width, height, bits, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(pixels)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def with_segment(jpeg: bytes, marker: int, content: bytes) -> bytes:
    """A JPEG with one more segment, ahead of the others."""
    return jpeg[:2] + struct.pack(">BBH", 0xFF, marker, 2 + len(content)) + content + jpeg[2:]


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


def test_more_than_8_bits_are_noted_whatever_pillow_opens_them_as(small: Image.Image) -> None:
    deep = (np.array(small).astype(np.uint16) * 257).byteswap()
    rows = b"".join(b"\0" + row.tobytes() for row in deep)
    tiff = io.BytesIO()
    tifffile.imwrite(tiff, deep.byteswap(), photometric="rgb")
    heif = io.BytesIO()
    pillow_heif.from_bytes("RGB;16", small.size, deep.byteswap().tobytes()).save(heif)
    avif = bytearray(saved(small, "AVIF"))  # which nothing here can write with 10 bits: it only says so
    avif[avif.index(b"av1C") + 6] |= 0x40
    depths = avif.index(b"pixi") + 9
    avif[depths : depths + 3] = b"\x0a" * 3
    for data, bits in (
        (png(*small.size, rows, bits=16), 16),
        (tiff.getvalue(), 16),
        (heif.getvalue(), 10),
        (bytes(avif), 10),
    ):
        photo = read_photo(data)
        assert photo.notes == (f"{bits} bits reduced to 8",)
        assert np.abs(photo.pixels.astype(int) - np.array(small)).mean() < 12


def test_pictures_beside_the_first_are_noted(small: Image.Image) -> None:
    others = {"save_all": True, "append_images": [small.rotate(180)]}
    follows = "what follows the picture: another one, a gain map or a video"
    mpo = saved(small, "MPO", **others)
    assert read_photo(mpo).notes == ("the first of 2 frames", follows)
    # Pillow opens one with a gain map, "Ultra HDR", as if there were none.
    xmp = b'http://ns.adobe.com/xap/1.0/\0<x hdrgm:Version="1.0"/>'
    assert read_photo(with_segment(mpo, 0xE1, xmp)).notes == (follows,)
    jpeg = saved(small, "JPEG", progressive=True, restart_marker_blocks=1)
    assert read_photo(jpeg + bytes(1000)).notes == ()  # cameras pad their files
    assert read_photo(jpeg + b"....ftypmp42" + bytes(10) + b"video" * 50).notes == (follows,)

    def box(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I4s", 8 + len(content), kind) + content

    transparent = small.convert("RGBA")
    transparent.putalpha(100)
    heif = saved(transparent, "HEIF")
    assert read_photo(heif).notes == ()
    for kind, name in ((b"2", "depth"), (b"7", "7")):
        auxiliary = heif.replace(b"urn:mpeg:hevc:2015:auxid:1", b"urn:mpeg:hevc:2015:auxid:" + kind)
        assert read_photo(auxiliary).notes == (f"auxiliary pictures: {name}",)
    assert read_photo(heif + box(b"mpvd", b"video")).notes == ("parts beside the picture: mpvd",)
    pages = saved(small, "TIFF", tiffinfo={330: 8})
    assert read_photo(pages).notes == ("pictures in sub-directories",)


def test_metadata_that_no_reader_here_knows_is_noted(small: Image.Image) -> None:
    data = saved(small, "PNG")
    safe_to_copy, unsafe = png_chunk(b"prVt", b"words"), png_chunk(b"prVT", b"words")
    assert read_photo(data[:33] + safe_to_copy + data[33:]).notes == ()
    assert read_photo(data[:33] + unsafe + data[33:]).notes == ("an unknown chunk, 'prVT'",)


def test_what_cannot_be_looked_at_costs_no_photo(small: Image.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_data: object) -> None:
        raise ValueError("no such box")

    data = saved(small, "AVIF")
    monkeypatch.setattr(pillow_heif, "open_heif", fail)
    assert read_photo(data).notes == ("parts that could not be looked at: ValueError",)


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
    with pytest.raises(UnreadablePhotoError, match=r"10000x10000 pixels in \d+ bytes: .* bomb"):
        read_photo(png(10_000, 10_000, bytes(1000)))
    with pytest.raises(UnreadablePhotoError, match=r"20000x20000 pixels|DecompressionBombError"):
        read_photo(png(20_000, 20_000, bytes(1000)) + bytes(10**6))


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

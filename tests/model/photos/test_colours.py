"""Colours that are defined otherwise than by sRGB are carried, converted or given a profile."""

import io
import struct
import zlib

import numpy as np
from PIL import Image, ImageCms

from model.photos.metadata.png import chunks
from model.photos.reading import read_photo
from tests.model.photos.files import GREY, RGB, picture, png, saved
from tests.model.photos.metadata.test_properties import restored


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

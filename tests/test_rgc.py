"""The public face: rgc.py and the Pillow plugin."""

from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

import rgc


@pytest.fixture
def small(astronaut: Image.Image) -> Image.Image:
    small = astronaut.crop((170, 30, 298, 158))
    small.info = {}
    return small


def test_encode_and_decode(small: Image.Image) -> None:
    data = rgc.encode(small, iterations=3)
    decoded = rgc.decode(data)
    assert decoded.size == (128, 128)
    assert np.abs(np.array(decoded).astype(int) - np.array(small)).mean() < 15
    coarser = rgc.decode(data, iterations=1)
    assert (
        np.abs(np.array(coarser).astype(int) - np.array(small)).mean()
        > np.abs(np.array(decoded).astype(int) - np.array(small)).mean()
    )
    for wrong in (0, -1):
        with pytest.raises(ValueError, match=f"iterations is {wrong}; it is at least 1"):
            rgc.decode(data, iterations=wrong)


def test_arrays(small: Image.Image) -> None:
    assert rgc.encode(np.array(small), iterations=1) == rgc.encode(small, iterations=1)


def test_a_target_is_met_or_refused(small: Image.Image) -> None:
    with pytest.raises(rgc.TargetOutOfReachError):
        rgc.encode(small, target_ms_ssim=0.99999)
    with pytest.raises(ValueError, match="target_ms_ssim"):
        rgc.encode(small, target_ms_ssim=2)


def test_pillow_opens_and_saves(small: Image.Image, tmp_path: Path) -> None:
    path = tmp_path / "a.rgc"
    exif = Image.Exif()
    exif[ExifTags.Base.Model] = "Model"
    small.info["icc_profile"] = b"profile"
    small.save(path, iterations=2, exif=exif)
    with Image.open(path) as image:
        assert (image.format, image.size, image.mode) == ("RGC", (128, 128), "RGB")
        assert image.getexif()[ExifTags.Base.Model] == "Model"
        assert image.info["icc_profile"] == b"profile"
        assert np.array_equal(np.array(image), np.array(rgc.decode(path.read_bytes())))


@pytest.mark.parametrize("mode", ["L", "RGBA", "LA"])
def test_pillow_modes(small: Image.Image, tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.rgc"
    image = small.convert(mode)
    if "A" in mode:
        image.putalpha(128)
    image.save(path, iterations=1)
    with Image.open(path) as opened:
        assert opened.mode == mode
        opened.load()
        assert opened.mode == mode


def test_pillow_refuses_damaged_files(small: Image.Image, tmp_path: Path) -> None:
    data = bytearray(rgc.encode(small, iterations=1))
    data[-9] ^= 4
    (tmp_path / "a.rgc").write_bytes(data)
    with pytest.raises(Image.UnidentifiedImageError):
        Image.open(tmp_path / "a.rgc")

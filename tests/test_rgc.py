"""The public face: rgc.py and the Pillow plugin."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

import rgc
from model.format.container import read_rgc
from model.format.limits import why_implausible


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


def test_an_image_that_was_loaded_has_closed_its_file(small: Image.Image, tmp_path: Path) -> None:
    small.save(tmp_path / "a.rgc", iterations=1)
    image = Image.open(tmp_path / "a.rgc")
    opened = image.fp
    image.load()
    assert opened is not None and opened.closed
    with open(tmp_path / "a.rgc", "rb") as ours:
        Image.open(ours).load()
        assert not ours.closed


@pytest.mark.parametrize(
    "size", [(3000, 3000), (8192, 16_384), (11_585, 11_585), (25_000_000, 1), (1 << 27, 1)]
)
def test_a_few_bytes_claim_no_large_picture(small: Image.Image, size: tuple[int, int]) -> None:
    """Such a picture alone would take gigabytes."""
    file = replace(read_rgc(rgc.encode(small, iterations=1)), codes=(b"abcd",), alpha=bytes(20_000))
    with pytest.raises(rgc.RgcError, match="pixels"):
        rgc.decode(replace(file, width=size[0], height=size[1]).to_bytes())


def test_no_picture_is_larger_than_its_codes(small: Image.Image) -> None:
    file = read_rgc(rgc.encode(small, iterations=1))
    for width, height in ((900, 900), (4 * small.width, small.height), (small.width, 4 * small.height)):
        with pytest.raises(rgc.RgcError, match="is not one this model wrote"):
            rgc.decode(replace(file, width=width, height=height).to_bytes())


def test_flat_colour_is_far_from_what_is_refused() -> None:
    """By a factor of four: four times the codes could hold sixteen times the pixels."""
    side = 2048
    (codes,) = read_rgc(rgc.encode(Image.new("RGB", (side, side), (128,) * 3), target_ms_ssim=0.5)).codes
    assert why_implausible(4 * side, 4 * side, 4 * len(codes)) == ""


_CLAIM = """
import resource
from dataclasses import replace
from PIL import Image
import rgc
from model.format.container import read_rgc

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

data = rgc.encode(Image.radial_gradient("L").convert("RGB"), iterations=1)
rgc.decode(data)
before = peak()
try:
    rgc.decode(replace(read_rgc(data), width=1_100_000, height=24).to_bytes())
except rgc.RgcError as error:
    print(peak() - before, error)
"""


def test_what_a_broken_header_claims_takes_no_memory() -> None:
    """Its symbols would take 320 MB."""
    done = subprocess.run([sys.executable, "-c", _CLAIM], capture_output=True, text=True, check=True)
    megabytes, error = done.stdout.split(maxsplit=1)
    assert "is not one this model wrote" in error
    assert int(megabytes) < 100

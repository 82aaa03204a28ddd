"""`rgc encode` and `rgc decode`: what they write over, and what comes back."""

import os
from pathlib import Path

from PIL import Image

from model.format.container import read_rgc
from tests.runs import rgc


def test_nothing_is_written_over_unasked(tmp_path: Path) -> None:
    photo, code = tmp_path / "a.png", tmp_path / "a.rgc"
    Image.linear_gradient("L").resize((64, 48)).save(photo)
    os.utime(photo, ns=(10**18, 10**18 + 123))
    original = photo.read_bytes()
    assert rgc("encode", photo, code, "--iterations", "1").exit_code == 0
    refused = rgc("encode", photo, photo, "--iterations", "1", "--overwrite")
    assert refused.exit_code == 2 and "itself" in refused.output
    (tmp_path / "link.png").symlink_to(photo)
    assert rgc("encode", photo, tmp_path / "link.png", "--overwrite").exit_code == 2
    assert rgc("decode", code, code, "--format", "png", "--overwrite").exit_code == 2
    refused = rgc("decode", code, photo)
    assert refused.exit_code == 2 and "--overwrite" in refused.output
    assert rgc("encode", photo, code, "--iterations", "1").exit_code == 2
    assert photo.read_bytes() == original
    assert rgc("encode", photo, code, "--iterations", "2", "--overwrite").exit_code == 0
    assert rgc("decode", code, tmp_path / "b.png").exit_code == 0
    assert (tmp_path / "b.png").stat().st_mtime_ns == 10**18 + 123


def test_what_a_format_has_no_place_for_is_said(tmp_path: Path) -> None:
    photo, code = tmp_path / "a.png", tmp_path / "a.rgc"
    Image.linear_gradient("L").resize((64, 48)).save(
        photo, exif=b"Exif\0\0II*\0\x08\0\0\0\0\0" + bytes(70_000)
    )
    assert rgc("encode", photo, code, "--iterations", "1").exit_code == 0
    decoded = rgc("decode", code, tmp_path / "a.jpg")
    assert decoded.exit_code == 0 and "70,010 bytes of EXIF, more than a JPEG's segment" in decoded.output


def test_a_photo_of_any_time_comes_back(tmp_path: Path) -> None:
    """Nanoseconds since 1970 need more than 64 bits from the year 2262 on."""
    photo, code, back = tmp_path / "a.png", tmp_path / "a.rgc", tmp_path / "b.png"
    Image.linear_gradient("L").resize((64, 48)).save(photo)
    os.utime(photo, ns=(12 * 10**18,) * 2)
    assert rgc("encode", photo, code, "--iterations", "1").exit_code == 0
    assert rgc("decode", code, back).exit_code == 0
    assert back.stat().st_mtime_ns == photo.stat().st_mtime_ns


def test_a_file_that_was_cut_off_is_said_to_be(tmp_path: Path) -> None:
    photo, code = tmp_path / "a.png", tmp_path / "a.rgc"
    Image.linear_gradient("L").resize((64, 48)).save(photo)
    assert rgc("encode", photo, code, "--iterations", "2").exit_code == 0
    whole = code.read_bytes()
    code.write_bytes(whole[: read_rgc(whole).prefix_bytes()[1] - 10])
    decoded = rgc("decode", code, tmp_path / "b.png")
    assert decoded.exit_code == 0 and "1 of its 2 iterations are whole" in decoded.output

import struct
import zlib
from dataclasses import replace
from pathlib import Path

import pytest

from model.format.container import (
    SIGNATURE,
    RgcError,
    RgcFile,
    read_rgc,
)
from model.format.source import SourceRecord

FILE = RgcFile(
    width=40,
    height=30,
    grey=False,
    model_id="rgc-0123456789ab",
    levels=(255, 7, 0),
    ms_ssim=(0.5, 0.75, 1.0),
    codes=(b"one", b"second", b""),
    exif=b"II*\0exif",
    icc_profile=b"profile",
    xmp=b"<x/>",
    alpha=b"png",
    source=SourceRecord(5, "f", "JPEG", ("Größe",), "{}", "0" * 64, "1" * 64),
)


def chunk(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">4sI", kind, len(payload)) + payload + struct.pack(">I", zlib.crc32(kind + payload))


HEAD = SIGNATURE + chunk(b"HEAD", struct.pack(">BBIIB6s", 3, 0, 1, 1, 1, b"abcdef") + bytes(7))


def test_round_trip() -> None:
    read = read_rgc(FILE.to_bytes())
    assert read == replace(FILE, ms_ssim=read.ms_ssim)
    assert read.ms_ssim == pytest.approx(FILE.ms_ssim, abs=1 / 65535)


def test_cut_off_anywhere_after_the_metadata_keeps_the_whole_iterations() -> None:
    data = FILE.to_bytes()
    lengths = FILE.prefix_bytes()
    assert lengths[-1] == len(data)
    first = lengths[0] - 12 - len(FILE.codes[0])
    for end in range(first, len(data) + 1):
        whole = sum(length <= end for length in lengths)
        assert read_rgc(data[:end]).codes == FILE.codes[:whole]


def test_any_flipped_bit_is_an_error() -> None:
    """At most the first iteration is found cut off, and then there is nothing to decode."""
    data = FILE.to_bytes()
    for position in range(len(data) * 8):
        damaged = bytearray(data)
        damaged[position // 8] ^= 1 << position % 8
        try:
            assert read_rgc(bytes(damaged), "photo.rgc").codes == ()
        except RgcError as error:
            assert "photo.rgc" in str(error)


def test_short_metadata_is_cut_off_before_the_header() -> None:
    with pytest.raises(RgcError, match="cut off after 20 bytes"):
        read_rgc(FILE.to_bytes()[:20])


@pytest.mark.parametrize(
    "header, message",
    [
        (
            struct.pack(">BBIIB6s", 1, 0, 1, 1, 1, b"abcdef") + bytes(7),
            "version 01, .* version 3",
        ),
        (struct.pack(">BBIIB6s", 3, 2, 1, 1, 1, b"abcdef") + bytes(7), "colour mode 2"),
        (struct.pack(">BBIIB6s", 3, 0, 0, 1, 1, b"abcdef") + bytes(7), "0x1 pixels"),
        (struct.pack(">BBIIB6s", 3, 0, 1 << 31, 1 << 31, 1, b"abcdef") + bytes(7), "2147483648x2147483648"),
        (struct.pack(">BBIIB6s", 3, 0, 1, 1, 0, b"abcdef"), "0 iterations"),
        (struct.pack(">BBIIB6s", 3, 0, 1, 1, 9, b"abcdef") + bytes(7), "does not fit 9 iterations"),
        (b"\3\0", "header of 2 bytes"),
    ],
)
def test_refuses_headers(header: bytes, message: str) -> None:
    with pytest.raises(RgcError, match=message):
        read_rgc(SIGNATURE + chunk(b"HEAD", header))


def test_refuses_unknown_chunks_by_name_but_passes_over_optional_ones() -> None:
    data = FILE.to_bytes()
    with pytest.raises(RgcError, match="NEWS"):
        read_rgc(data + chunk(b"NEWS", b""))
    assert read_rgc(data + chunk(b"news", b"")).codes == FILE.codes


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", "no .rgc file"),
        (b"\xff\xd8\xff\xe0 JPEG", "no .rgc file"),
        (SIGNATURE.replace(b"\r\n", b"\n") + b"more", "no .rgc file"),
        (SIGNATURE + chunk(b"ITER", b""), "begins with chunk b'ITER', not HEAD"),
        (FILE.to_bytes() + chunk(b"ITER", b""), "more ITER chunks than the 3"),
        (FILE.to_bytes() + chunk(b"HEAD", b""), "a b'HEAD' chunk after b'ITER'"),
        (FILE.to_bytes() + chunk(b"EXIF", b""), "a b'EXIF' chunk after b'ITER'"),
        (HEAD + chunk(b"EXIF", b"1") + chunk(b"EXIF", b"2"), "a b'EXIF' chunk after b'EXIF'"),
        (HEAD + chunk(b"ICCP", b"") + chunk(b"EXIF", b""), "a b'EXIF' chunk after b'ICCP'"),
        (SIGNATURE + chunk(b"news", b"") + HEAD[len(SIGNATURE) :], "begins with chunk b'news', not HEAD"),
        (FILE.to_bytes() + chunk(b"1EWS", b""), "unknown chunk b'1EWS'"),
        (HEAD + chunk(b"SRCE", b"[1]"), "holds a list"),
        (HEAD + chunk(b"SRCE", b"{"), "not JSON"),
    ],
)
def test_refuses(data: bytes, message: str) -> None:
    with pytest.raises(RgcError, match=message):
        read_rgc(data)


def test_specification_names_every_chunk() -> None:
    text = (Path(__file__).parents[3] / "model" / "format" / "FORMAT.md").read_text()
    data = FILE.to_bytes()
    kinds = {
        kind for kind in ("HEAD", "SRCE", "EXIF", "ICCP", "XMPM", "ALPH", "ITER") if kind.encode() in data
    }
    assert len(kinds) == 7
    assert all(f"`{kind}`" in text for kind in kinds)

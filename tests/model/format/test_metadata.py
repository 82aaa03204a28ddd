import struct
import zlib
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest

from model.format.metadata import Block, MetadataBlocks
from tests.memory import peak_bytes

_MIB = 1 << 20

BLOCKS = MetadataBlocks("JPEG", (Block("APP1", b"Exif"), Block("COM", b"")))


def test_round_trip() -> None:
    assert MetadataBlocks.from_bytes(BLOCKS.to_bytes()) == BLOCKS


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"no zlib", "does not decompress"),
        (BLOCKS.to_bytes()[:-3], "cut off"),
        (zlib.compress(b""), "metadata"),
    ],
)
def test_what_to_bytes_did_not_make_is_a_value_error(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MetadataBlocks.from_bytes(data)


def _crafted(blocks: Iterable[tuple[int, int]]) -> bytes:
    """A META chunk of blocks of zeros: how long they are, and how many of them."""
    compressor = zlib.compressobj(9)
    packed = compressor.compress(struct.pack(">BI", 6, 4) + b"formatJPEG")
    for length, count in blocks:
        block = struct.pack(">BI", 3, length) + b"COM"
        packed += compressor.compress((block + bytes(length)) * count)
    return packed + compressor.flush()


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ([(255 * _MIB, 1)], "more than 16777216 bytes in a chunk of 259936"),
        ([(17 * _MIB, 1)], "more than 16777216 bytes in a chunk of 17"),
        ([(0, 2_000_000)], "more than 65536 blocks"),  # 16 MB of blocks that hold nothing
        ([(16 * _MIB - 100, 1)], ""),
        ([(200, 65536)], ""),
    ],
)
def test_a_small_chunk_takes_little_memory(blocks: Iterable[tuple[int, int]], message: str) -> None:
    data = _crafted(blocks)

    def read() -> None:
        with pytest.raises(ValueError, match=message) if message else nullcontext():
            MetadataBlocks.from_bytes(data)

    assert peak_bytes(read) < 60e6


def test_a_large_chunk_may_hold_eight_times_as_much() -> None:
    data = _crafted([(40 * _MIB, 1)])
    with pytest.raises(ValueError, match="more than 32000000 bytes in a chunk of 4000000"):
        MetadataBlocks.from_bytes(data.ljust(4_000_000, b"\0"))


@pytest.mark.parametrize("length", [1000, 16 * _MIB - 18, 16 * _MIB - 17, 20 * _MIB])
def test_all_that_is_written_is_read(length: int) -> None:
    """Of depth maps that hardly compress, and of layers that are all one colour."""
    noise = np.random.default_rng(0).bytes(length)
    for content in (noise, bytes(length), noise[: length // 2] + bytes(length // 2)):
        metadata = MetadataBlocks("TIFF", (Block("1:1", content),))
        packed = metadata.to_bytes()
        assert not metadata.why_too_much()
        assert MetadataBlocks.from_bytes(packed) == metadata


def test_too_much_to_write_is_said() -> None:
    too_large = MetadataBlocks("TIFF", (Block("1:1", bytes(1 << 20)),) * 256)
    assert too_large.why_too_much() == "268437519 bytes of metadata; rgc takes up to 268435456"
    too_many = MetadataBlocks("JPEG", (Block("COM", b""),) * 65537)
    assert too_many.why_too_much() == "65537 blocks of metadata; rgc takes up to 65536"
    assert not replace(too_many, blocks=too_many.blocks[1:]).why_too_much()

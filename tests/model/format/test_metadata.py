import zlib

import pytest

from model.format.metadata import Block, MetadataBlocks

BLOCKS = MetadataBlocks("JPEG", (Block("APP1", b"Exif"), Block("COM", b"")))


def test_round_trip() -> None:
    assert MetadataBlocks.from_bytes(BLOCKS.to_bytes()) == BLOCKS


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"no zlib", "does not decompress"),
        (BLOCKS.to_bytes()[:-3], "cut off"),
        (zlib.compress(b""), "metadata"),
        (zlib.compress(bytes(1 << 16) * (1 << 12) + b"."), "more than 268435456 bytes"),  # 260 kB
    ],
)
def test_what_to_bytes_did_not_make_is_a_value_error(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MetadataBlocks.from_bytes(data)

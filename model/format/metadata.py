"""The blocks of metadata that a photo's file holds beside its pixels, as a .rgc file carries them."""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

_MOST = 1 << 28  # bytes of all blocks together: a small file may claim any number
_LENGTHS = struct.Struct(">BI")  # of a block's kind and of its bytes


@dataclass(frozen=True)
class Block:
    """One block, byte for byte as in the file; `kind` is what its container calls it, "APP1" for one."""

    kind: str
    data: bytes


@dataclass(frozen=True)
class MetadataBlocks:
    """All that is carried of one file, in the file's order.

    Attributes:
        format: the kind of container that the blocks are of: JPEG, PNG, TIFF, WEBP, HEIF, AVIF or GIF.
    """

    format: str
    blocks: tuple[Block, ...] = ()

    def of_kind(self, kind: str) -> Iterator[bytes]:
        return (block.data for block in self.blocks if block.kind == kind)

    def to_bytes(self) -> bytes:
        """What `from_bytes` reads: the format and all blocks, each with its lengths, then zlib."""
        content = b"".join(_packed(block) for block in (Block("format", self.format.encode()), *self.blocks))
        return zlib.compress(content, 9)

    @classmethod
    def from_bytes(cls, data: bytes) -> "MetadataBlocks":
        """Raises ValueError for bytes that are not what `to_bytes` makes."""
        decompressor = zlib.decompressobj()
        try:
            content = decompressor.decompress(data, _MOST)
        except zlib.error as error:
            raise ValueError(f"metadata that does not decompress: {error}") from error
        if not decompressor.eof:
            raise ValueError(f"metadata that is cut off, or of more than {_MOST} bytes")
        first, *blocks = _unpacked(content)
        if first.kind != "format":
            raise ValueError(f"metadata that begins with {first.kind!r}, not with its format")
        return cls(first.data.decode("ascii"), tuple(blocks))


def _packed(block: Block) -> bytes:
    kind = block.kind.encode("ascii")
    return _LENGTHS.pack(len(kind), len(block.data)) + kind + block.data


def _unpacked(content: bytes) -> list[Block]:
    blocks: list[Block] = []
    position = 0
    while position < len(content) or not blocks:
        if position + _LENGTHS.size > len(content):
            raise ValueError("metadata that is cut off")
        kind_length, length = _LENGTHS.unpack_from(content, position)
        start = position + _LENGTHS.size
        position = start + kind_length + length
        if position > len(content):
            raise ValueError(f"metadata whose last block has {length} bytes, more than there are")
        kind = content[start : start + kind_length].decode("ascii")
        blocks.append(Block(kind, content[start + kind_length : position]))
    return blocks

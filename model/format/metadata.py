"""The blocks of metadata that a photo's file holds beside its pixels, as a .rgc file carries them."""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from model.format.limits import MAX_METADATA_BLOCKS, most_metadata, why_too_much_metadata

_LENGTHS = struct.Struct(">BI")  # of a block's kind and of its bytes
MOST_IN_A_KIND = 255  # ASCII characters


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

    def why_too_much(self) -> str:
        """Why `from_bytes` would refuse as much, in words; empty if it would not."""
        content_bytes = sum(_LENGTHS.size + len(block.kind) + len(block.data) for block in self._all())
        return why_too_much_metadata(len(self.blocks), content_bytes)

    def _all(self) -> Iterator[Block]:
        yield Block("format", self.format.encode())
        yield from self.blocks

    def to_bytes(self) -> bytes:
        """What `from_bytes` reads: the format and all blocks, each with its lengths, then zlib."""
        content = b"".join(map(_packed, self._all()))
        packed = zlib.compress(content, 9)
        if len(content) > most_metadata(len(packed)):
            compressor = zlib.compressobj(9, strategy=zlib.Z_HUFFMAN_ONLY)
            packed = compressor.compress(content) + compressor.flush()
        return packed

    @classmethod
    def from_bytes(cls, data: bytes) -> "MetadataBlocks":
        """Raises ValueError for bytes that are not what `to_bytes` makes."""
        decompressor = zlib.decompressobj()
        most = most_metadata(len(data))
        try:
            content = decompressor.decompress(data, most + 1)
        except zlib.error as error:
            raise ValueError(f"metadata that does not decompress: {error}") from error
        if len(content) > most:
            raise ValueError(f"metadata of more than {most} bytes in a chunk of {len(data)}")
        if not decompressor.eof:
            raise ValueError("metadata that is cut off")
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
        if len(blocks) > MAX_METADATA_BLOCKS:  # the format is one more
            raise ValueError(f"metadata of more than {MAX_METADATA_BLOCKS} blocks")
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

"""Metadata of any kind of container: read, turned with its picture, translated for another container."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from model.format.metadata import Block, MetadataBlocks
from model.photos.metadata import gif, heif, jpeg, png, tiff, webp
from model.photos.metadata.common import Found, View


class _Container(Protocol):
    def turned(self, blocks: Iterable[Block], applied: int, /) -> list[Block]: ...
    def without_profile(self, blocks: Iterable[Block]) -> list[Block]: ...
    def view(self, metadata: MetadataBlocks) -> View: ...


class _Writable(_Container, Protocol):
    def blocks_of(self, view: View) -> tuple[list[Block], list[str]]: ...


_WRITABLE: dict[str, _Writable] = {
    "JPEG": jpeg,
    "PNG": png,
    "TIFF": tiff,
    "WEBP": webp,
    "HEIF": heif,
    "AVIF": heif,
}
_CONTAINERS: dict[str, _Container] = {**_WRITABLE, "GIF": gif}
FORMATS = tuple(_WRITABLE)


def read_blocks(data: bytes, container: str, parts: Sequence[jpeg.Segment]) -> Found:
    """What a file holds beside its pixels, as it stands there.

    Args:
        container: one of JPEG, PNG, TIFF, WEBP, HEIF, AVIF and GIF.
        parts: of a JPEG, its segments.
    """
    if container == "JPEG":
        return jpeg.read(data, parts)
    if container in ("HEIF", "AVIF"):
        return heif.read(data, container)
    return {"PNG": png.read, "TIFF": tiff.read, "WEBP": webp.read, "GIF": gif.read}[container](data)


def orientation(container: str, blocks: Iterable[Block]) -> int:
    """What the blocks ask a viewer for, 1 to 8; of containers that say it elsewhere, 1."""
    modules = {"JPEG": jpeg, "PNG": png, "TIFF": tiff, "WEBP": webp}
    return modules[container].orientation(blocks) if container in modules else 1


def turned(container: str, blocks: Iterable[Block], applied: int) -> list[Block]:
    """The blocks of a picture whose pixels were turned by an orientation: nothing asks for it again."""
    return _CONTAINERS[container].turned(blocks, applied)


def without_profile(container: str, blocks: Iterable[Block]) -> list[Block]:
    """The blocks of a picture whose colours were converted to sRGB."""
    return _CONTAINERS[container].without_profile(blocks)


def view(metadata: MetadataBlocks) -> View:
    """What the blocks come to for other containers.

    Raises:
        ValueError: blocks that no reader here makes.
    """
    if metadata.format not in _CONTAINERS:
        raise ValueError(f"metadata of {metadata.format!r}, a container that this rgc does not know")
    return _CONTAINERS[metadata.format].view(metadata)


def blocks_for(container: str, metadata: MetadataBlocks, seen: View) -> tuple[list[Block], list[str]]:
    """The blocks for a file of a container, and what it cannot hold of them, in words.

    Args:
        seen: `view` of the metadata, with a profile made where one is needed.
    """
    if container == metadata.format:
        return list(metadata.blocks), []
    return _WRITABLE[container].blocks_of(seen)

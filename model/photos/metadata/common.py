"""What the modules for each container share: what is found in a file, and what any format can hold of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from model.format.metadata import Block

EXIF_HEADER = b"Exif\0\0"


@dataclass
class Found:
    """What a file's metadata was found to be.

    Attributes:
        blocks: all that is carried, as `model.format.metadata` has it.
        left_out: in words, what the file holds that is not carried.
        bits: of a sample, as the file has them.
    """

    blocks: list[Block] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    bits: int = 8


@dataclass(frozen=True)
class View:
    """What blocks of any container come to, for another container to hold.

    Attributes:
        exif: a TIFF structure, without the "Exif\\0\\0" that JPEG puts before it.
        icc_profile: of the pixels; made for them where the file defines their colours in another way.
        xmp: a packet.
        iptc: IPTC-IIM records, without Photoshop's frame around them.
        comments: text that is for people, and no part of the others.
        density: pixels an inch, across and down.
        others: blocks that only their own container can hold, in words.
    """

    exif: bytes = b""
    icc_profile: bytes = b""
    xmp: bytes = b""
    iptc: bytes = b""
    comments: tuple[str, ...] = ()
    density: tuple[float, float] | None = None
    others: tuple[str, ...] = ()

    @classmethod
    def of_first(
        cls, exifs: Sequence[bytes], packets: Sequence[bytes], profiles: Sequence[bytes], others: list[str]
    ) -> "View":
        """The first EXIF, XMP and ICC profile: other containers hold one. What is more of them is named."""
        kinds = {"EXIF": exifs, "XMP": packets, "ICC profile": profiles}
        exif, xmp, icc_profile = (b"".join(contents[:1]) for contents in kinds.values())
        more = (f"{size(data)} more of {name}" for name, contents in kinds.items() for data in contents[1:])
        return cls(exif, icc_profile, xmp, others=(*others, *more))


def size(data: bytes) -> str:
    return f"{len(data):,} bytes"

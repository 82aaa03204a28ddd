"""A TIFF's bytes made ready for Pillow, which shall see its first picture as it is stored, and no more."""

import struct

import numpy as np
from numpy.typing import NDArray

from model.photos.metadata.tiff_directories import EXTRA_SAMPLES, LAYOUT, Reader


def count_pictures(data: bytes) -> int:
    """Raises ValueError where the directories end in one that cannot be read."""
    return sum(1 for _ in Reader(data).offsets())


def only_first_picture(data: bytes) -> bytes:
    """A TIFF of the first directory alone, with the tags of its pixels' layout, for Pillow to read.

    An extra sample that the file says nothing of is called alpha: Pillow would leave it out. What cannot be
    read of the directory stays as it is.
    """
    try:
        reader = Reader(data)
        first = reader.first_offset()
        count, start = reader.count(first)
    except ValueError:
        return data
    entry, wide, counts = (20, 8, "Q") if reader.is_big else (12, 4, "H")
    nothing, alpha = (struct.pack(f"{reader.order}{'Q' if reader.is_big else 'I'}H", 1, v) for v in (0, 2))
    kept = []
    for at in range(start, min(start + count * entry, len(data) - entry + 1), entry):
        tag, kind = struct.unpack_from(f"{reader.order}HH", data, at)
        content = data[at : at + entry]
        if tag == EXTRA_SAMPLES and kind == 3 and content[4:].startswith(nothing):
            content = content[:4] + alpha + content[4 + len(alpha) :]
        if tag in LAYOUT:
            kept.append(content)
    directory = struct.pack(reader.order + counts, len(kept)) + b"".join(kept) + bytes(wide)
    return data[:first] + directory + data[first + len(directory) :]


def extra_sample(data: bytes) -> int | None:
    """What its one extra sample is: 1 or 2 for alpha, 0 if the file does not say; None if there is none."""
    try:
        reader = Reader(data)
        tags = reader.tags(reader.first_offset())
    except ValueError:
        return None
    for tag in tags:
        if tag.tag == EXTRA_SAMPLES and isinstance(tag.value, bytes) and len(tag.value) == 2:
            return int(struct.unpack(f"{reader.order}H", tag.value)[0])
    return None


def is_padding(data: bytes, extra: NDArray[np.uint8] | None) -> bool:
    """Whether an extra sample is there for nothing: not said to be anything, and 0 everywhere."""
    return extra is not None and not extra.any() and extra_sample(data) == 0

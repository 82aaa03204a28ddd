"""A TIFF's bytes made ready for Pillow, which shall see its first picture as it is stored, and no more."""

import struct

from model.photos.metadata.tiff_directories import EXTRA_SAMPLES, LAYOUT, Reader

_PHOTOMETRIC, _CMYK = 262, 5


def only_first_picture(data: bytes) -> bytes:
    """A TIFF of the first directory alone, with the tags of its pixels' layout, for Pillow to read.

    An extra sample that the file says nothing of is called alpha, or Pillow would leave it out; but not
    beside CMYK, which Pillow reads without alpha only. What cannot be read of the directory stays as it is.
    """
    try:
        reader = Reader(data)
        first = reader.first_offset()
        count, start = reader.count(first)
    except ValueError:
        return data
    is_cmyk = _numbers(data, _PHOTOMETRIC) == (_CMYK,)
    entry = reader.entry_bytes
    nothing, alpha = (struct.pack(f"{reader.order}{reader.wide}H", 1, value) for value in (0, 2))
    kept = []
    for at in range(start, min(start + count * entry, len(data) - entry + 1), entry):
        tag, kind = struct.unpack_from(f"{reader.order}HH", data, at)
        content = data[at : at + entry]
        if tag == EXTRA_SAMPLES and kind == 3 and not is_cmyk and content[4:].startswith(nothing):
            content = content[:4] + alpha + content[4 + len(alpha) :]
        if tag in LAYOUT:
            kept.append(content)
    directory = (
        struct.pack(reader.order + reader.counts, len(kept)) + b"".join(kept) + bytes(reader.wide_bytes)
    )
    return data[:first] + directory + data[first + len(directory) :]


def extra_samples(data: bytes) -> tuple[int, ...]:
    """What its samples beside the colours are: 1 or 2 for alpha, 0 if the file does not say."""
    return _numbers(data, EXTRA_SAMPLES)


def _numbers(data: bytes, number: int) -> tuple[int, ...]:
    """What a tag of the first picture says."""
    try:
        return Reader(data).numbers(number)
    except ValueError:
        return ()

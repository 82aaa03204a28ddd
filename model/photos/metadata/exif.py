"""EXIF, a TIFF structure inside other files: its orientation, and its thumbnail, which goes with that.

All changes are made in place: maker notes point into the structure by offsets.
"""

import io
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from PIL import Image

from model.photos.metadata.common import EXIF_HEADER
from model.photos.metadata.tiff_directories import ORIENTATION, WHOLE_NUMBERS, Reader

TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (5, 6, 7, 8)
_EXIF_DIRECTORY = 34665
_THUMBNAIL_OFFSET, _THUMBNAIL_LENGTH = 513, 514
_SIZES = ((256, 257), (40962, 40963))  # width and height of the picture
_MOST_DIRECTORIES = 16


class _Entry(NamedTuple):
    tag: int
    code: str  # of its one whole number, for `struct`; empty if it holds something else
    at: int  # where its value stands


@dataclass(frozen=True)
class _Directory:
    entries: list[_Entry]
    link: int  # where the offset of the next one stands

    def first(self, tag: int) -> _Entry | None:
        return next((entry for entry in self.entries if entry.tag == tag), None)


def structure(data: bytes) -> bytes:
    """What follows the "Exif\\0\\0" that JPEG puts ahead, and some writers twice, or in other containers."""
    start = 0
    while data.startswith(EXIF_HEADER, start):
        start += len(EXIF_HEADER)
    return data[start:]


def first_turn(found: Iterable[int]) -> int:
    """The first of several orientations that asks for a turn, 2 to 8; 1 if none does."""
    return next((value for value in found if value in TRANSPOSITIONS), 1)


def orientation(data: bytes) -> int:
    """1 to 8, of the first directory; where it says two, the last, as Pillow and exiftool read it."""
    exif, found = structure(data), 1
    for directory in list(_chain(exif))[:1]:
        for entry in directory.entries:
            value = _number(exif, entry) if entry.tag == ORIENTATION else None
            if value is not None and 1 <= value <= 8:
                found = value
    return found


def turned(data: bytes, applied: int) -> bytes:
    """The EXIF of a picture whose pixels were turned by an orientation: nothing asks for it any more.

    Every orientation becomes 1, sizes are swapped where the picture was laid on its side, and the thumbnail
    is turned, too, or dropped where its bytes do not suffice for that.
    """
    exif = structure(data)
    changed = bytearray(exif)
    directories = list(_chain(exif))
    for index, directory in enumerate(directories):
        if index and applied != 1:
            own = directory.first(ORIENTATION)
            of_thumbnail = (own and _number(exif, own)) or applied
            if not _turn_thumbnail(changed, directory, of_thumbnail):
                _drop(changed, directory, directories[index - 1])
        for entry in directory.entries:
            if entry.tag == ORIENTATION:
                _set_number(changed, entry, 1)
    if applied in _SIDEWAYS:
        for directory in (*directories, *_exif_directories(exif, directories)):
            _swap_sizes(changed, directory)
    return data[: len(data) - len(exif)] + changed


def _chain(exif: bytes) -> Iterator[_Directory]:
    """The first directory and those that follow it, as far as they can be read."""
    seen: set[int] = set()
    with suppress(ValueError):
        reader = Reader(exif)
        link = reader.wide_bytes
        while (offset := reader.unpack(reader.wide, link)) not in seen and len(seen) < _MOST_DIRECTORIES:
            directory = _read(reader, offset)
            seen.add(offset)
            yield directory
            link = directory.link


def _read(reader: Reader, offset: int) -> _Directory:
    """A directory that is cut off has the entries that are there: readers take these, too."""
    if offset < 8:
        raise ValueError(f"a directory at byte {offset}, in the header")
    count, start = reader.count(offset)
    end = start + count * reader.entry_bytes
    entries = []
    for at in range(start, min(end, len(reader.data) - reader.entry_bytes + 1), reader.entry_bytes):
        tag, kind, number = struct.unpack_from(f"{reader.order}HH{reader.wide}", reader.data, at)
        is_number = number == 1 and kind in WHOLE_NUMBERS
        code = reader.order + WHOLE_NUMBERS[kind] if is_number else ""
        entries.append(_Entry(tag, code, at + 4 + reader.wide_bytes))
    return _Directory(entries, end)


def _exif_directories(exif: bytes, directories: list[_Directory]) -> Iterator[_Directory]:
    for directory in directories[:1]:
        pointer = directory.first(_EXIF_DIRECTORY)
        if pointer is not None and (offset := _number(exif, pointer)):
            with suppress(ValueError):
                yield _read(Reader(exif), offset)


def _number(exif: bytes | bytearray, entry: _Entry) -> int | None:
    """The one whole number that an entry holds."""
    return int(struct.unpack_from(entry.code, exif, entry.at)[0]) if entry.code else None


def _set_number(exif: bytearray, entry: _Entry, value: int) -> None:
    if entry.code:
        struct.pack_into(entry.code, exif, entry.at, value)


def _swap_sizes(exif: bytearray, directory: _Directory) -> None:
    for pair in _SIZES:
        across, down = map(directory.first, pair)
        if across is None or down is None or across.code != down.code:
            continue
        width, height = _number(exif, across), _number(exif, down)
        if width is not None and height is not None:
            _set_number(exif, across, height)
            _set_number(exif, down, width)


def _turn_thumbnail(exif: bytearray, directory: _Directory, applied: int) -> bool:
    """Turns a JPEG thumbnail within its bytes; False where that cannot be done."""
    at, length = map(directory.first, (_THUMBNAIL_OFFSET, _THUMBNAIL_LENGTH))
    if applied == 1:
        return True
    if at is None or length is None:
        return False
    start, size = _number(exif, at), _number(exif, length)
    if start is None or size is None or start < 8 or start + size > len(exif):
        return False
    try:
        with Image.open(io.BytesIO(exif[start : start + size]), formats=["JPEG"]) as thumbnail:
            upright = thumbnail.transpose(TRANSPOSITIONS[applied])
    except Exception:  # Pillow raises nearly anything on broken files
        return False
    for quality in (90, 80, 70, 60, 50, 40):
        buffer = io.BytesIO()
        upright.save(buffer, "JPEG", quality=quality, optimize=True)
        if (new := buffer.getvalue()) and len(new) <= size:
            exif[start : start + size] = new.ljust(size, b"\0")
            _set_number(exif, length, len(new))
            return True
    return False


def _drop(exif: bytearray, directory: _Directory, before: _Directory) -> None:
    """Takes a directory out of the chain."""
    next_one = exif[directory.link : directory.link + 4].ljust(4, b"\0")
    exif[before.link : before.link + 4] = next_one

"""The directories of a TIFF, classic or big: read with every value's own bytes, and written."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

BITS, ORIENTATION, XMP, EXTRA_SAMPLES = 258, 274, 700, 338
WHOLE_NUMBERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i"}  # types of one number, for `struct`
DIRECTORIES = (34665, 34853, 40965)  # EXIF, GPS, interoperability
# What is not read, but must not be carried as an offset: global parameters, Leaf's and Kodak's directories.
_SUB_DIRECTORIES, _OTHER_DIRECTORIES, _OFFSET = 330, (400, 34310, 33424), 13
# How pixels are stored, which ends with them: sizes, compressions, strips, tiles, inks, ranges of samples.
LAYOUT = {
    254, 255, 256, 257, 258, 259, 262, 263, 264, 265, 266, 273, 277, 278, 279, 280, 281, 284, 288, 289, 290,
    291, 292, 293, 317, 320, 321, 322, 323, 324, 325, 326, 327, 328, 332, 333, 334, 336, 338, 339, 340, 341,
    347, 512, 513, 514, 515, 517, 518, 519, 520, 521, 529, 530, 531, 532, 559,
}  # fmt: skip
_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_MOST_ENTRIES = 1 << 16
_MOST_DIRECTORIES = 10_000


class Tag(NamedTuple):
    """A tag's number and type, and its value: bytes in the file's order, or of a directory its tags."""

    tag: int
    type: int
    value: "bytes | list[Tag]"


@dataclass
class Reader:
    """Reads the directories of a TIFF, classic or big.

    Attributes:
        order: "<" or ">"; raises ValueError if the file is neither.
        unreadable: tags that cannot be read, those inside a directory as "34665/37500".
        problems: what else cannot be read, in words.
    """

    data: bytes
    unreadable: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        order = {b"II": "<", b"MM": ">"}.get(self.data[:2])
        if order is None or len(self.data) < 8:
            raise ValueError("neither II nor MM: no TIFF")
        self.order = order
        (magic,) = struct.unpack_from(f"{order}H", self.data, 2)
        # Bytes of an entry; codes for `struct` of an offset, and of how many entries a directory has.
        self.entry_bytes, self.wide, self.counts = (20, "Q", "Q") if magic == 43 else (12, "I", "H")
        self.wide_bytes = struct.calcsize(self.wide)
        self._left = 2 * len(self.data)  # a little for values that two tags share

    def _take(self, length: int) -> None:
        """Counts what is read: directories and values that overlap could come to any number of bytes."""
        if length > self._left:
            raise ValueError("it overlaps others")
        self._left -= length

    def first_offset(self) -> int:
        return self.unpack(self.wide, self.wide_bytes)

    def count_directories(self) -> int:
        """Raises ValueError where they end in one that cannot be read."""
        seen: set[int] = set()
        offset = self.first_offset()
        while offset and len(seen) < _MOST_DIRECTORIES:
            if offset in seen:
                raise ValueError(f"its directories go in a circle, back to byte {offset}")
            seen.add(offset)
            count, start = self.count(offset)
            offset = self.unpack(self.wide, start + count * self.entry_bytes)
        return len(seen)

    def tags(self, offset: int, path: str = "", depth: int = 0) -> list[Tag]:
        """All of a directory's tags that can be read."""
        count, start = self.count(offset)
        found = []
        for at in range(start, start + count * self.entry_bytes, self.entry_bytes):
            try:
                tag, kind = struct.unpack_from(f"{self.order}HH", self.data, at)
                self._take(self.entry_bytes)
            except (struct.error, ValueError):
                self.problems.append(f"tags of {path or 'its directory'} that are cut off, or overlap others")
                break
            name = f"{path}{tag}"
            if tag in DIRECTORIES and depth < 3:
                found.append(Tag(tag, 4, self._sub_directory(at, name, depth)))
            elif tag == _SUB_DIRECTORIES:
                self.problems.append("pictures in sub-directories")
            elif kind == _OFFSET or tag in (*DIRECTORIES, *_OTHER_DIRECTORIES):
                self.problems.append(f"directory {name}, of an unknown kind")
            elif (value := self.value(at, kind)) is not None:
                found.append(Tag(tag, kind, value))
            else:
                self.unreadable.append(name)
        return found

    def numbers(self, number: int) -> tuple[int, ...]:
        """The whole numbers of a tag of the first directory; none if that holds something else."""
        tags = self.tags(self.first_offset())
        return next((whole_numbers(tag, self.order) for tag in tags if tag.tag == number), ())

    def _sub_directory(self, at: int, name: str, depth: int) -> "list[Tag]":
        try:
            return self.tags(self.unpack(self.wide, at + 4 + self.wide_bytes), f"{name}/", depth + 1)
        except ValueError as error:
            self.problems.append(f"directory {name}: {error}")
            return []

    def value(self, at: int, kind: int) -> bytes | None:
        unit = _BYTES.get(kind)
        place = at + 4 + self.wide_bytes
        try:
            length = self.unpack(self.wide, at + 4) * (unit or 0)
            offset = place if length <= self.wide_bytes else self.unpack(self.wide, place)
            if unit is None or offset + length > len(self.data):
                return None
            self._take(length)
        except ValueError:
            return None
        return self.data[offset : offset + length]

    def count(self, offset: int) -> tuple[int, int]:
        """How many entries a directory has, and where they begin."""
        count = self.unpack(self.counts, offset)
        if count > _MOST_ENTRIES:
            raise ValueError(f"a directory of {count} entries at byte {offset}")
        return count, offset + struct.calcsize(self.counts)

    def unpack(self, code: str, offset: int) -> int:
        try:
            return int(struct.unpack_from(self.order + code, self.data, offset)[0])
        except struct.error as error:
            raise ValueError(f"byte {offset} is not in the file") from error


def whole_numbers(tag: Tag, order: str) -> tuple[int, ...]:
    """The whole numbers that a tag holds; none if it holds something else."""
    code = WHOLE_NUMBERS.get(tag.type)
    if code is None or not isinstance(tag.value, bytes):
        return ()
    return struct.unpack(f"{order}{len(tag.value) // _BYTES[tag.type]}{code}", tag.value)


def structure(order: str, tags: Sequence[Tag], after: bytes = b"") -> bytes:
    """A TIFF with one directory of these tags and those inside; `after` follows its eight bytes of header."""
    start = 8 + len(after) + len(after) % 2
    header = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, start)
    body = bytearray(header + after + b"\0" * (len(after) % 2))
    _write_directory(body, order, tags)
    return bytes(body)


def _write_directory(body: bytearray, order: str, tags: Sequence[Tag]) -> None:
    """Appends a directory, then what its entries point at."""
    tags = sorted(tags, key=lambda tag: tag.tag)
    start = len(body)
    body += struct.pack(f"{order}H", len(tags)) + bytes(12 * len(tags) + 4)
    for index, tag in enumerate(tags):
        at = start + 2 + 12 * index
        value = tag.value
        if isinstance(value, list):
            struct.pack_into(f"{order}HHII", body, at, tag.tag, 4, 1, len(body))
            _write_directory(body, order, value)
            continue
        struct.pack_into(f"{order}HHI", body, at, tag.tag, tag.type, len(value) // _BYTES[tag.type])
        if len(value) <= 4:
            body[at + 8 : at + 8 + len(value)] = value
        else:
            struct.pack_into(f"{order}I", body, at + 8, len(body))
            body += value + b"\0" * (len(value) % 2)

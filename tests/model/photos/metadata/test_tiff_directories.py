"""Hostile directories of TIFF, which EXIF has, too."""

import struct
import time

import pytest

from model.photos.metadata.tiff_directories import Reader
from tests.memory import peak_bytes


def directory(*entries: tuple[int, int, int, int]) -> bytes:
    """A TIFF of one directory: the tag, type, number of values, and value or offset of each entry."""
    packed = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + packed + bytes(4)


@pytest.mark.parametrize("tag", [34665, 34853, 40965])
def test_a_directory_within_itself_ends(tag: int) -> None:
    """Each of its entries is itself, four deep: a thousand of them to the power of four."""
    reader = Reader(directory(*[(tag, 4, 1, 8)] * 1000))
    start = time.process_time()
    reader.tags(reader.first_offset())
    assert time.process_time() - start < 2
    assert f"tags of {tag}/ that are cut off, or overlap others" in reader.problems


def test_values_that_overlap_take_no_more_memory_than_the_file() -> None:
    count, size = 1000, 100_000
    entries = [(50_000 + n, 7, size, 8 + 2 + 12 * count + 4) for n in range(count)]
    reader = Reader(directory(*entries) + bytes(size))
    assert peak_bytes(lambda: reader.tags(reader.first_offset())) < 2e6
    assert reader.unreadable == [str(50_000 + n) for n in range(2, count)]


def test_values_that_two_tags_share_are_read() -> None:
    place = 8 + 2 + 12 * 2 + 4
    reader = Reader(directory((282, 5, 1, place), (283, 5, 1, place)) + struct.pack("<II", 300, 1))
    tags = reader.tags(reader.first_offset())
    assert [tag.value for tag in tags] == [struct.pack("<II", 300, 1)] * 2 and not reader.unreadable

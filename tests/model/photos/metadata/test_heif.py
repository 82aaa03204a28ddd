"""Hostile boxes of HEIF and AVIF."""

import struct
import time
from collections.abc import Callable, Sequence

import pytest

from model.photos.metadata.heif import boxes
from model.photos.reading import read_photo
from tests.model.photos.files import picture, saved


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def changed(heif: bytes, change: Callable[[bytes, bytes], bytes], added: bytes = b"") -> bytes:
    """A file with other contents of the boxes in `meta`. It goes to the end: pixels stay where they are."""
    new, meta = b"", b""
    for kind, start, end in boxes(heif):
        content = heif[start:end]
        meta = content if kind == b"meta" else meta
        new += box(b"free", bytes(len(content))) if kind == b"meta" else box(kind, content)
    inner = b"".join(box(kind, change(kind, meta[start:end])) for kind, start, end in boxes(meta, 4))
    return new + box(b"meta", meta[:4] + inner + added)


def with_items(heif: bytes, items: Sequence[tuple[int, bytes]], references: Sequence[bytes]) -> bytes:
    """A picture with these items, number and kind, and references."""

    def change(kind: bytes, content: bytes) -> bytes:
        if kind != b"iinf":
            return content
        added = (box(b"infe", struct.pack(">IHH", 2 << 24, number, 0) + b + b"\0") for number, b in items)
        count = int.from_bytes(content[4:6]) + len(items)
        return content[:4] + struct.pack(">H", count) + content[6:] + b"".join(added)

    return changed(heif, change, box(b"iref", bytes(4) + b"".join(references)))


def reference(kind: bytes, number: int, others: Sequence[int]) -> bytes:
    return box(kind, struct.pack(f">HH{len(others)}H", number, len(others), *others))


@pytest.mark.parametrize("content_type", ["x" * 300, "t\u00e9xt"])
def test_items_whose_kind_fits_into_no_block_are_named(content_type: str) -> None:
    item = {"type": "mime", "content_type": content_type, "data": b"hello"}
    photo = read_photo(saved(picture(), "HEIF", metadata=[item]))
    assert photo.notes == (f"5 bytes of mime {content_type.encode().decode('latin-1'):.40}",)
    assert photo.metadata is not None and photo.metadata.to_bytes()


@pytest.mark.parametrize("container", ["HEIF", "AVIF"])
def test_long_chains_of_references_take_no_longer_than_short_ones(container: str) -> None:
    """Each refers to the one after it; going through all of them again for each took 13 seconds."""
    chain = [reference(b"auxl", n + 1, [50_000] * 500 + [n]) for n in range(1000, 0, -1)]
    data = with_items(saved(picture(), container), [], chain)
    start = time.process_time()
    assert read_photo(data).notes == ()
    assert time.process_time() - start < 4


def test_pictures_at_the_end_of_a_chain_belong_to_the_primary_one() -> None:
    heif, items = saved(picture(), "HEIF"), [(900, b"iden"), (901, b"iden")]
    chain = [reference(b"dimg", n, [n + 1]) for n in range(899, 0, -1)]
    assert read_photo(with_items(heif, items, chain)).notes == ("other pictures: 1",)
    assert read_photo(with_items(heif, items, chain[1:])).notes == ("other pictures: 2",)
    assert read_photo(with_items(heif, items, [*chain, reference(b"base", 900, [901])])).notes == ()


def test_entries_that_are_no_items_are_named() -> None:
    data = saved(picture(), "HEIF", xmp=b"<x/>")
    at = data.index(b"infe", data.index(b"infe") + 4)
    notes = read_photo(data[:at] + b"inff" + data[at + 4 :]).notes
    assert notes == ("items of other kinds: inff", "4 bytes that belong to no item")


@pytest.mark.parametrize("container", ["HEIF", "AVIF"])
@pytest.mark.parametrize("kind", [b"mdat", b"free", b"skip"])
def test_bytes_that_belong_to_no_item_are_named_unless_they_are_zeros(container: str, kind: bytes) -> None:
    data = saved(picture(), container, xmp=b"<x/>")
    assert read_photo(data).notes == read_photo(data + box(kind, bytes(9))).notes == ()
    photo = read_photo(data + box(kind, b"my notes\0"))
    assert photo.notes == ("8 bytes that belong to no item",) and photo.xmp == b"<x/>"


def test_what_an_item_does_not_refer_to_is_named() -> None:
    """Its last byte, and those of `idat`."""
    item = {"type": "mime", "content_type": "text/plain", "data": b"hello" * 5}
    data = saved(picture(), "HEIF", metadata=[item])
    at = data.index(b"iloc") - 4
    length = data.index(struct.pack(">I", 25), at)
    shorter = data[: length + 3] + b"\x18" + data[length + 4 :]
    assert read_photo(shorter).notes == ("1 bytes that belong to no item",)


@pytest.mark.parametrize(
    ("in_list", "what"), [(False, "parts beside the picture"), (True, "properties of other kinds")]
)
def test_what_stands_among_properties_is_named(in_list: bool, what: str) -> None:
    def notes(kind: bytes) -> tuple[str, ...]:
        def change(of: bytes, content: bytes) -> bytes:
            if of != b"iprp":
                return content
            (_, start, end), *_ = boxes(content)
            inside, beside = (box(kind, b"hello"), b"") if in_list else (b"", box(kind, b"hello"))
            return box(b"ipco", content[start:end] + inside) + content[end:] + beside

        return read_photo(changed(saved(picture(), "HEIF"), change)).notes

    assert notes(b"free") == ("5 bytes that belong to no item",)
    assert notes(b"odds") == (f"{what}: odds",)

import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from model.children import BrokenMessageError, send
from model.photos.errors import UnreadablePhotoError
from model.photos.isolation.messages import receive_photo, send_photo
from model.photos.isolation.pool import DecoderPool
from model.photos.reading import read_photo
from tests.model.photos.files import exif_structure, picture, saved, with_segments

PHOTO = with_segments(saved(picture(), "JPEG"), [(0xE1, b"Exif\0\0" + exif_structure([(274, 3, 6)]))])
# Decoders that do what libraries in C may do, by the width of a photo.
BAD_DECODERS = r"""
import os, signal, sys, time
import PIL.Image
def bad(*arguments, open=PIL.Image.open, **options):
    image = open(*arguments, **options)
    if image.width == 101:
        os.kill(os.getpid(), signal.SIGSEGV)
    if image.width == 102:
        time.sleep(3600)
    if image.width == 103:
        while True: pass
    if image.width == 104:
        bytearray(1 << 30)
    if image.width == 105:
        os.write(2, b"libtiff: one" + bytes([10]) + b"libtiff: two")
    if image.width == 106:
        os._exit(0)
    return image
PIL.Image.open = bad
"""


def wide(width: int) -> bytes:
    return saved(Image.new("RGB", (width, 8)), "PNG")


def children() -> set[psutil.Process]:
    """Of this process, in which other tests have a pool, too."""
    return set(psutil.Process().children())


@pytest.fixture
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DecoderPool]:
    (tmp_path / "sitecustomize.py").write_text(BAD_DECODERS.replace("\\\\\\\\", "\\\\"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    before = children()
    pool = DecoderPool(memory_bytes=1 << 29, seconds=3)
    yield pool
    pool.close()
    assert children() <= before


@pytest.mark.parametrize(
    ("width", "reason"),
    [
        (101, r"its decoder crashed \(SIGSEGV\)"),
        (102, "its decoder took more than 3 seconds and was ended"),
        (103, "its decoder took more than 3 seconds and was ended"),
        (104, "decoding it takes more memory than it may"),
        (106, r"its decoder crashed \(exit status 0\)"),
    ],
)
def test_what_a_decoder_does_costs_one_photo(pool: DecoderPool, width: int, reason: str) -> None:
    assert pool.read(PHOTO).pixels.shape == (40, 24, 3)
    with pytest.raises(UnreadablePhotoError, match=reason):
        pool.read(wide(width))
    assert pool.read(PHOTO).pixels.shape == (40, 24, 3)


def test_the_same_photo_comes_back_as_without_a_child(pool: DecoderPool) -> None:
    transparent = picture("RGBA")
    transparent.putalpha(100)
    for data in (PHOTO, saved(transparent, "PNG"), saved(picture("L"), "TIFF")):
        here, there = read_photo(data), pool.read(data)
        assert np.array_equal(here.pixels, there.pixels)
        assert (here.metadata, here.exif, here.alpha) == (there.metadata, there.exif, there.alpha)
        assert (here.notes, here.format, here.grey) == (there.notes, there.format, there.grey)
    with pytest.raises(UnreadablePhotoError, match="no decoder recognises"):
        pool.read(b"no photo")


def test_what_decoders_write_to_the_terminal_is_a_note(pool: DecoderPool) -> None:
    assert pool.read(wide(105)).notes == ("its decoder complained: libtiff: one (and 1 more)",)
    assert pool.read(wide(99)).notes == ()


def test_threads_share_a_few_children(pool: DecoderPool) -> None:
    before = children()
    with ThreadPoolExecutor(3) as threads:
        found = list(threads.map(pool.read, [PHOTO] * 30))
    assert all(photo.pixels.shape == (40, 24, 3) for photo in found)
    assert 1 <= len(children() - before) <= 3
    (children() - before).pop().kill()  # an idle one, by the system
    assert pool.read(PHOTO).pixels.shape == (40, 24, 3)


def test_children_end_with_a_parent_that_is_killed() -> None:
    program = (
        "from model.photos.isolation.pool import DecoderPool; import sys, time\n"
        "pool = DecoderPool(); pool.read(sys.stdin.buffer.read()); print('ready', flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert parent.stdin and parent.stdout
    parent.stdin.write(PHOTO)
    parent.stdin.close()
    assert parent.stdout.readline() == b"ready\n"
    (child,) = psutil.Process(parent.pid).children()
    modules = Path(f"/proc/{child.pid}/maps").read_text()
    assert "torch" not in modules and "apache_beam" not in modules
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    child.wait(10)


def test_nothing_that_a_child_says_is_trusted() -> None:
    stream = io.BytesIO()
    send_photo(stream, read_photo(PHOTO), "")
    whole = stream.getvalue()
    assert receive_photo(io.BytesIO(whole), 10**6)
    rng = np.random.default_rng(0)
    for _ in range(500):
        data = bytearray(whole)
        for _ in range(rng.integers(1, 4)):
            data[rng.integers(0, min(len(data), 600))] = rng.integers(0, 256)
        try:
            receive_photo(io.BytesIO(data[: rng.integers(1, len(data) + 1)]), 10**6)
        except BrokenMessageError:
            continue
    huge = io.BytesIO()
    send(huge, b'{"size": [1, 100000000], "grey": true}')
    with pytest.raises(BrokenMessageError, match="100000000x1"):
        receive_photo(io.BytesIO(huge.getvalue()), 10**6)

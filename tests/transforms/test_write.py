"""What is written where another run has written already."""

import errno
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
from numpy.typing import NDArray

from model.codec import Codec
from model.coding.entropy import Stream
from model.photos.reading import DecodedPhoto
from model.settings import Settings
from tests.storage import Storage
from transforms import write
from transforms.elements import Encoded, LoadedPhoto, Photo
from transforms.encode import EncodeHandler
from transforms.manifest.rows import Run
from transforms.storage.files import find_status, read_bytes, write_bytes
from transforms.write import write_rgc

SETTINGS = Settings(iterations=2)
RUN = Run("run", "rgc-0123456789ab", SETTINGS.to_json())
PHOTO = Photo("/in/a.jpg", "a.jpg", 10**6, "f")


@pytest.fixture(params=["gs", "local"])
def output(request: pytest.FixtureRequest, storage: Storage, tmp_path: Path) -> str:
    return "gs://archive/out" if request.param == "gs" else str(tmp_path)


@pytest.fixture
def encoded(tiny_codec: Codec, astronaut_pixels: NDArray) -> Encoded:
    loaded = LoadedPhoto(PHOTO, "sha", DecodedPhoto(astronaut_pixels[:64, :64], False, "JPEG"))
    (encoded,) = EncodeHandler(SETTINGS, "cpu", 1, None).run_inference([loaded], tiny_codec)
    return encoded


def other_file(encoded: Encoded, **source: str) -> bytes:
    """A sibling's file of the photo, not byte for byte ours."""
    assert encoded.result is not None
    file = encoded.result.file
    return replace(file, xmp=b"theirs", source=replace(file.source, **source)).to_bytes()


def test_the_last_iteration_is_coded_when_it_is_written(
    encoded: Encoded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also after it went to another process. One photo that cannot be coded fails alone."""
    expected = pickle.loads(pickle.dumps(encoded))

    def no_memory(_: Stream) -> bytes:
        raise MemoryError("none left")

    with monkeypatch.context() as patched:
        patched.setattr(Stream, "__bytes__", no_memory)
        row = write_rgc(encoded, RUN, SETTINGS, str(tmp_path))
    assert (row.status, row.reason) == ("failed", "encoding failed: MemoryError: none left")
    row = write_rgc(expected, RUN, SETTINGS, str(tmp_path))
    assert row.status == "encoded" and row.encode_seconds > expected.seconds
    assert read_bytes(row.rgc_uri) == encoded.result.file.to_bytes()


def test_a_file_of_the_same_work_stays_and_the_row_tells_of_it(encoded: Encoded, output: str) -> None:
    uri, theirs = f"{output}/codes/a.jpg.rgc", other_file(encoded)
    write_bytes(uri, theirs)
    row = write_rgc(encoded, RUN, SETTINGS, output)
    assert read_bytes(uri) == theirs
    assert (row.status, row.rgc_bytes) == ("encoded", len(theirs))


@pytest.mark.parametrize("size", [10**6, 1])  # one is encoded, the other kept
def test_a_file_of_another_photo_is_neither_replaced_nor_deleted(
    encoded: Encoded, output: str, size: int
) -> None:
    """It may be all that is left of that photo. What was at this photo's own URI earlier is not."""
    uri, theirs = (
        f"{output}/codes/a.jpg.rgc",
        other_file(encoded, sha256="other", uri_sha256="other", fingerprint="other"),
    )
    write_bytes(uri, theirs)
    row = write_rgc(replace(encoded, photo=replace(PHOTO, size=size)), RUN, SETTINGS, output)
    assert row.status == "failed" and "it is of another photo" in row.reason
    assert read_bytes(uri) == theirs
    write_bytes(uri, other_file(encoded, sha256="other", fingerprint="earlier"))
    assert write_rgc(encoded, RUN, SETTINGS, output).status == "encoded"


@pytest.mark.parametrize("theirs", ["other work", "no .rgc file"])
def test_any_other_file_is_replaced(encoded: Encoded, output: str, theirs: str) -> None:
    uri = f"{output}/codes/a.jpg.rgc"
    write_bytes(uri, other_file(encoded, settings="{}") if theirs == "other work" else b"GIF89a")
    row = write_rgc(encoded, RUN, SETTINGS, output)
    assert encoded.result is not None and read_bytes(uri) == encoded.result.file.to_bytes()
    assert (row.status, row.rgc_bytes) == ("encoded", len(read_bytes(uri)))
    assert row.encode_seconds == pytest.approx(encoded.seconds, abs=0.1)  # coding included


def test_the_file_of_a_kept_photo_goes_unless_it_is_of_the_same_work(encoded: Encoded, output: str) -> None:
    uri = f"{output}/codes/a.jpg.rgc"
    kept = replace(encoded, photo=replace(PHOTO, size=10))
    assert write_rgc(kept, RUN, SETTINGS, output).status == "kept"
    write_bytes(uri, other_file(encoded, settings="{}"))
    row = write_rgc(kept, RUN, SETTINGS, output)
    assert row.status == "kept" and "against the original's 10" in (row.reason or "")
    assert find_status(uri) is None
    write_bytes(uri, other_file(encoded))
    assert write_rgc(kept, RUN, SETTINGS, output).status == "encoded"
    assert find_status(uri) is not None


def test_a_file_that_changes_once_more_is_left_alone(
    encoded: Encoded, output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between looking at it and replacing or deleting it: the row does not claim a file that is not there."""
    uri = f"{output}/codes/a.jpg.rgc"
    find = write.find_status

    def find_then_another_writes(wanted: str) -> object:
        status = find(wanted)
        write_bytes(uri, other_file(encoded, settings="{}", format="x"))
        return status

    monkeypatch.setattr(write, "find_status", find_then_another_writes)
    for size in (10**6, 10):
        write_bytes(uri, other_file(encoded, settings="{}"))
        row = write_rgc(replace(encoded, photo=replace(PHOTO, size=size)), RUN, SETTINGS, output)
        assert row.status == "failed" and "another file is there by now" in (row.reason or "")
        assert read_bytes(uri) == other_file(encoded, settings="{}", format="x")


def test_a_full_disk_asks_the_run_to_stop(
    encoded: Encoded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(uri: str, *_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", uri)

    monkeypatch.setattr(write, "write_over", full)
    row = write_rgc(encoded, RUN, SETTINGS, str(tmp_path), str(tmp_path / "stop"))
    assert row.status == "failed" and "No space left on device" in (row.reason or "")
    assert (tmp_path / "stop").read_text() == "OUTPUT is full\n"

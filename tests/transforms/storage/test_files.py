"""Against a real server: Google Cloud Storage's emulator, on loopback."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.storage import FAULTS, Storage
from transforms.find import find_files
from transforms.storage import files
from transforms.storage.files import (
    OUTPUT_FOLDERS,
    delete_if_there,
    find_status,
    list_folder,
    read_bytes,
    write_bytes,
    write_over,
    writing_to,
)
from transforms.storage.status import ConflictError

FOLDER = "gs://archive/photos"


def names(source: str, suffix: str = "") -> list[str]:
    return [photo.relative for photo in find_files(source, suffix)]


def test_objects_there_and_back(storage: Storage) -> None:
    uri = f"{FOLDER}/a b/ü#?.jpg"
    assert find_status(uri) is None
    with pytest.raises(FileNotFoundError, match="a b"):
        read_bytes(uri)
    write_bytes(uri, b"one")
    first = find_status(uri)
    write_bytes(uri, b"other")
    second = find_status(uri)
    assert first is not None and second is not None
    assert (first.size, second.size) == (3, 5) and first.fingerprint != second.fingerprint
    assert read_bytes(uri) == b"other"
    assert [file.uri for file in list_folder(FOLDER)] == [uri]
    delete_if_there(uri)
    delete_if_there(uri)
    assert find_status(uri) is None


def test_objects_are_found_like_files(storage: Storage) -> None:
    for name in ("a.jpg", "trip/b.png", "trip/c.jpg", "trip/"):
        write_bytes(f"{FOLDER}/{name}", b"x")
    write_bytes(f"{FOLDER}/", b"")  # as a console makes it for an empty folder
    write_bytes("gs://archive/photos-2/d.jpg", b"x")
    everything = ["a.jpg", "trip/b.png", "trip/c.jpg"]
    assert names(FOLDER) == names(f"{FOLDER}/") == everything
    assert names(f"{FOLDER}/a.jpg") == ["a.jpg"]
    assert names(f"{FOLDER}/*.jpg") == ["a.jpg"]
    assert names(f"{FOLDER}/**.jpg") == ["a.jpg", "trip/c.jpg"]
    assert names(FOLDER, ".png") == ["trip/b.png"]
    assert names("gs://archive") == [f"photos-2/{'d.jpg'}", *(f"photos/{name}" for name in everything)]
    with pytest.raises(FileNotFoundError, match="missing"):
        find_files("gs://archive/missing")


@pytest.fixture(params=["gs", "local"])
def folder(request: pytest.FixtureRequest, storage: Storage, tmp_path: Path) -> str:
    return FOLDER if request.param == "gs" else str(tmp_path)


def fingerprint(uri: str) -> str:
    status = find_status(uri)
    assert status is not None
    return status.fingerprint


def test_a_file_is_written_over_the_one_that_was_meant_and_no_other(folder: str) -> None:
    uri = f"{folder}/a.rgc"
    write_over(uri, b"first", None)
    before = fingerprint(uri)
    with pytest.raises(ConflictError, match=r"a\.rgc"):
        write_over(uri, b"ours", None)
    write_over(uri, b"first", None)  # the very bytes: as where only the answer to our own first try was lost
    assert read_bytes(uri) == b"first"
    write_over(uri, b"another", before)
    with pytest.raises(ConflictError, match=r"a\.rgc"):
        write_over(uri, b"ours", before)
    assert read_bytes(uri) == b"another"


def test_what_is_deleted_or_read_is_what_was_meant(folder: str) -> None:
    uri = f"{folder}/a.rgc"
    write_bytes(uri, b"first")
    before = fingerprint(uri)
    write_bytes(uri, b"second one")
    for use in (
        lambda: delete_if_there(uri, before),
        lambda: read_bytes(uri, fingerprint=before),
    ):
        with pytest.raises(ConflictError, match=r"a\.rgc"):
            use()
    assert read_bytes(uri, fingerprint=fingerprint(uri)) == b"second one"
    delete_if_there(uri, fingerprint(uri))
    delete_if_there(uri, before)
    assert find_status(uri) is None


def test_a_listing_goes_on_over_pages(storage: Storage) -> None:
    storage.page_size = 3
    wanted = [f"{number:02}.jpg" for number in range(8)]
    for name in wanted:
        write_bytes(f"{FOLDER}/{name}", b"x")
    before = storage.requests
    assert [file.uri.rpartition("/")[2] for file in list_folder(FOLDER)] == wanted
    assert storage.requests - before == 3
    assert names("gs://archive/**.jpg") == [f"photos/{name}" for name in wanted]


@pytest.mark.parametrize("fault_rate", [0.0, 0.3])
def test_files_that_are_uploaded_in_parts(storage: Storage, fault_rate: float) -> None:
    """Google's client does so from 8 MiB on."""
    uri, data = f"{FOLDER}/large.rgc", bytes(range(256)) * 40_000
    storage.fault_rate, storage.stall_seconds = fault_rate, 0.1
    write_over(uri, data, None)
    with pytest.raises(ConflictError, match=r"large\.rgc"):
        write_over(uri, data[1:], None)
    assert read_bytes(uri) == data
    write_over(uri, data[1:], fingerprint(uri))
    assert read_bytes(uri) == data[1:]
    assert bool(storage.faults) == bool(fault_rate)


def test_every_kind_of_fault_is_ridden_out(storage: Storage) -> None:
    storage.fault_rate, storage.stall_seconds = 0.5, 0.1
    contents = {f"{FOLDER}/{number:02}": bytes([number]) * 50_000 for number in range(10)}
    for uri, data in contents.items():
        write_bytes(uri, data)
    assert {file.uri: read_bytes(file.uri) for file in list_folder(FOLDER)} == contents
    for uri in contents:
        delete_if_there(uri)
    storage.fault_rate = 0.0
    assert not list(list_folder(FOLDER))
    assert set(storage.faults) == set(FAULTS)
    assert storage.retries >= storage.faults["503"] + storage.faults["429"]


def test_what_cannot_be_written_is_known_before_the_run(storage: Storage, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no-such-bucket"), writing_to("gs://no-such-bucket/out", [""]):
        pass
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match="file"), writing_to(str(tmp_path / "file" / "out"), [""]):
        pass
    with writing_to("gs://archive/out", OUTPUT_FOLDERS):
        assert not list(list_folder("gs://archive"))


@pytest.mark.parametrize("place", ["disk", "storage"])
def test_what_was_written_to_find_out_goes_with_the_next_run(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    output = str(tmp_path) if place == "disk" else "gs://archive/out"

    def end(_: str) -> None:
        raise KeyboardInterrupt  # for a SIGKILL

    with monkeypatch.context() as killed, pytest.raises(KeyboardInterrupt):
        killed.setattr(files, "delete_if_there", end)
        with writing_to(output, OUTPUT_FOLDERS):
            pass
    assert len(list(list_folder(output))) == 1
    with writing_to(output, OUTPUT_FOLDERS):
        assert not list(list_folder(output))


def test_a_local_folder_has_one_writer_who_cleans_up(tmp_path: Path) -> None:
    half = tmp_path / "codes" / "trip" / f".rgc-{'a1' * 16}.partial"
    yours = tmp_path / "codes" / "a.jpg.partial"  # a download's, where INPUT is OUTPUT
    elsewhere = tmp_path / "trip" / half.name
    for path in (half, yours, elsewhere):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    with writing_to(str(tmp_path), OUTPUT_FOLDERS):
        assert not half.exists() and yours.exists() and elsewhere.exists()
        with pytest.raises(OSError, match="another"), writing_to(str(tmp_path), [""]):
            pass
    with writing_to(str(tmp_path), [""]):
        assert not elsewhere.exists() and yours.exists()
    failed: list[OSError] = []

    def write() -> None:
        try:
            with writing_to(str(tmp_path), OUTPUT_FOLDERS):
                pass
        except OSError as error:
            failed.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    thread.join()
    assert not failed


def test_two_writers_never_share_a_half_written_file(tmp_path: Path) -> None:
    """A zombie worker and another run, say: as one was written under a fixed name, the other renamed it."""
    uri, contents = str(tmp_path / "a.rgc"), [bytes([number]) * 1_000_000 for number in range(4)]
    with ThreadPoolExecutor(4) as threads:
        for _ in range(10):
            list(threads.map(lambda data: write_bytes(uri, data), contents))
            assert read_bytes(uri) in contents
    assert [path.name for path in tmp_path.iterdir()] == ["a.rgc"]


def test_other_stores_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="s3://bucket/a: neither"):
        read_bytes("s3://bucket/a")


def test_a_folder_in_a_file_s_place_is_named(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=str(tmp_path)):
        read_bytes(str(tmp_path))

"""Against a real server: Google Cloud Storage's emulator, on loopback."""

import threading
from pathlib import Path

import pytest

from tests.storage import FAULTS, Storage
from transforms import gcs
from transforms.find import find_files
from transforms.storage import (
    delete_if_there,
    find_status,
    list_folder,
    read_bytes,
    write_bytes,
    writing_to,
)

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


@pytest.mark.parametrize("remote", [True, False])
def test_the_first_bytes_of_a_file(storage: Storage, tmp_path: Path, remote: bool) -> None:
    uri = f"{FOLDER}/a.rgc" if remote else str(tmp_path / "a.rgc")
    write_bytes(uri, b"0123456789")
    assert [read_bytes(uri, length) for length in (1, 4, 10, 99)] == [
        b"0",
        b"0123",
        b"0123456789",
        b"0123456789",
    ]
    assert read_bytes(uri) == b"0123456789"


def test_objects_are_found_like_files(storage: Storage) -> None:
    for name in ("a.jpg", "trip/b.png", "trip/c.jpg", "trip/"):
        write_bytes(f"{FOLDER}/{name}", b"x")
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


def test_two_writers_do_not_overwrite_each_other(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = f"{FOLDER}/a.rgc"
    find = gcs.find
    meanwhile = [b"theirs"]

    def find_then_another_writes(wanted: str) -> object:
        status = find(wanted)
        if meanwhile:
            other = meanwhile.pop()
            write_bytes(uri, other)
        return status

    monkeypatch.setattr(gcs, "find", find_then_another_writes)
    with pytest.raises(gcs.ConflictError, match=r"a\.rgc"):
        write_bytes(uri, b"ours")
    assert read_bytes(uri) == b"theirs"
    meanwhile.append(b"the same")
    write_bytes(uri, b"the same")  # whoever wrote it


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


def test_what_cannot_be_written_is_known_before_the_run(storage: Storage, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no-such-bucket"), writing_to("gs://no-such-bucket/out"):
        pass
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match="file"), writing_to(str(tmp_path / "file" / "out")):
        pass
    with writing_to("gs://archive/out"):
        assert not list(list_folder("gs://archive"))


def test_a_local_folder_has_one_writer_who_cleans_up(tmp_path: Path) -> None:
    half = tmp_path / "codes" / "trip" / "a.jpg.rgc.partial"
    half.parent.mkdir(parents=True)
    half.write_bytes(b"half")
    with writing_to(str(tmp_path)):
        assert not half.exists()
        with pytest.raises(OSError, match="another"), writing_to(str(tmp_path)):
            pass
    failed: list[OSError] = []

    def write() -> None:
        try:
            with writing_to(str(tmp_path)):
                pass
        except OSError as error:
            failed.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    thread.join()
    assert not failed


def test_other_stores_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="s3://bucket/a: neither"):
        read_bytes("s3://bucket/a")

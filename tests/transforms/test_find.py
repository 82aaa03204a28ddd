import os
import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.storage import Storage, upload_folder
from transforms import find
from transforms.find import find_files, find_source
from transforms.storage.files import join, read_bytes, write_bytes
from transforms.storage.status import Status


def names(source: str, suffix: str = "") -> list[str]:
    return sorted(photo.relative for photo in find_files(source, suffix))


def test_folder_file_and_glob(photo_folder: Path) -> None:
    everything = ["a.jpg", "notes.txt", "trip/b.png", "trip/broken.jpg"]
    assert names(str(photo_folder)) == names(f"{photo_folder}/") == everything
    assert names(f"{photo_folder}/a.jpg") == ["a.jpg"]
    assert names(f"{photo_folder}/*.jpg") == ["a.jpg"]
    assert names(f"{photo_folder}/**.jpg") == ["a.jpg", "trip/broken.jpg"]
    assert names(str(photo_folder), ".txt") == ["notes.txt"]


def test_relative_sources(photo_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photo_folder)
    assert names("trip") == ["b.png", "broken.jpg"]
    assert names("a.jpg") == ["a.jpg"]
    assert names("*.jpg") == ["a.jpg"]


def test_names_with_glob_characters(tmp_path: Path) -> None:
    folder = tmp_path / "best [2019] *"
    folder.mkdir()
    (folder / "a[1]?.jpg").write_bytes(b"x")
    assert names(str(folder)) == ["a[1]?.jpg"]
    assert names(str(folder / "a[1]?.jpg")) == ["a[1]?.jpg"]


def test_what_is_there_by_name_comes_before_what_matches_it(storage: Storage) -> None:
    write_bytes("gs://archive/best [2019]/a.jpg", b"x")
    write_bytes("gs://archive/best 2/b.jpg", b"x")
    assert names("gs://archive/best [2019]") == names("gs://archive/best [2019]/a.jpg") == ["a.jpg"]
    assert names("gs://archive/best [29]/*") == ["best 2/b.jpg"]


def test_objects_whose_names_are_no_paths_are_unreadable(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As files, `a//b.jpg` and `a/b.jpg` would be one, and `../x.jpg` would lie outside OUTPUT."""
    objects = ("a/b.jpg", "a//b.jpg", "../x.jpg", "a/./c.jpg", "/d.jpg", "a..b/..c.jpg")
    now = datetime.now(UTC)
    monkeypatch.setattr(  # the emulator cannot hold these
        find, "list_folder", lambda uri: iter(Status(f"{uri}/{name}", 1, now, "1-1-x") for name in objects)
    )
    found = {photo.relative: photo for photo in find_files("gs://archive/photos")}
    assert found.keys() == set(objects)
    readable = {name for name, photo in found.items() if not photo.unreadable}
    assert readable == {"a/b.jpg", "a..b/..c.jpg"}
    assert found["a//b.jpg"].unreadable == "a//b.jpg: an empty part, . or .. in a name makes it no path"
    assert found["/d.jpg"].size == 1


@pytest.mark.parametrize("source", ["", "/", "/a.jpg", "/*.jpg", "/trip/b*"])
def test_a_uri_is_the_base_and_the_relative_name(
    storage: Storage, photo_folder: Path, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_folder(photo_folder, "gs://archive/photos")
    monkeypatch.chdir(photo_folder.parent)
    for whole in (f"{photo_folder}{source}", f"photos{source}", f"gs://archive/photos{source}"):
        found = list(find_files(whole))
        assert found and {photo.uri for photo in found} == {
            find_source(whole).base + p.relative for p in found
        }


def test_fingerprints_change_with_the_file(tmp_path: Path) -> None:
    photo = tmp_path / "a.jpg"
    photo.write_bytes(b"one")
    (first,) = find_files(str(photo))
    photo.write_bytes(b"three")
    (second,) = find_files(str(photo))
    assert (first.size, second.size) == (3, 5)
    assert first.fingerprint != second.fingerprint


def test_what_cannot_be_looked_at_is_still_found(tmp_path: Path) -> None:
    (tmp_path / "link.jpg").symlink_to(tmp_path / "gone.jpg")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jpg")).write_bytes(b"x")
    found = {photo.relative: photo.unreadable for photo in find_files(str(tmp_path))}
    assert "No such file" in found["link.jpg"]
    assert found[r"caf\xe9.jpg"] == "its name is not UTF-8"
    by_glob = {photo.relative: photo.unreadable for photo in find_files(f"{tmp_path}/c*.jpg")}
    assert by_glob == {r"caf\xe9.jpg": "its name is not UTF-8"}


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="missing"):
        list(find_files(str(tmp_path / "missing")))


def test_writing_leaves_only_the_file(tmp_path: Path) -> None:
    uri = join(str(tmp_path), "deep/er/file.gz")
    write_bytes(uri, b"plain bytes, whatever the name says")
    write_bytes(uri, b"again")
    assert read_bytes(uri) == Path(uri).read_bytes() == b"again"
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["file.gz"]


def test_what_is_no_file_is_one_row_each_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket.jpg"))
        found = {photo.relative: photo for photo in find_files(str(tmp_path))}
    assert "a named pipe, not a file" in found["pipe.jpg"].unreadable
    assert "a socket, not a file" in found["socket.jpg"].unreadable
    assert "a device, not a file" in next(iter(find_files("/dev/null"))).unreadable
    with pytest.raises(OSError, match="a named pipe"):  # it may have come in a file's place
        read_bytes(str(tmp_path / "pipe.jpg"))


@pytest.mark.parametrize("seconds", [-(10**11), 2**38, 10**11])
def test_any_time_of_change(tmp_path: Path, seconds: int) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    try:
        os.utime(tmp_path / "a.jpg", (seconds, seconds))
    except OSError:
        pytest.skip("this disk holds no such time")
    (photo,) = find_files(str(tmp_path))
    assert not photo.unreadable
    assert photo.modified_ns == (tmp_path / "a.jpg").stat().st_mtime_ns


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    (inside / "b").mkdir(parents=True)
    (outside / "deep").mkdir(parents=True)
    for folder in (inside, inside / "b", outside, outside / "deep"):
        (folder / "x.jpg").write_bytes(b"x")
    (inside / "a").symlink_to(inside / "b")  # listed under its own name, though this one comes first
    (inside / "link").symlink_to(outside)
    (inside / "once more").symlink_to(outside)
    (outside / "deep" / "loop").symlink_to(inside)
    assert names(str(inside)) == ["b/x.jpg", "link/deep/x.jpg", "link/x.jpg", "x.jpg"]
    (tmp_path / "entry").symlink_to(inside)
    assert len(names(str(tmp_path / "entry"))) == 4

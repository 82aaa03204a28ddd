import os
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.util import assert_that, equal_to

from pipeline.runners.local import local_runner
from tests.storage import Storage, upload_folder
from transforms import find, resume
from transforms.balance import Balance
from transforms.elements import Photo
from transforms.find import FindFiles, Source, cut_source, find_files, find_source, list_source
from transforms.manifest.rows import Run
from transforms.resume import TO_DO, SkipFinished
from transforms.storage import gcs
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


def test_files_come_in_the_order_of_their_paths(tmp_path: Path) -> None:
    found = [
        "0.jpg",
        "a-b/2.jpg",
        "a.jpg",
        "a/b/1.jpg",
        "a/b/c/2.jpg",
        "a/b/z.jpg",
        "a/z.jpg",
        "b/1.jpg",
        "c.jpg",
    ]
    for name in found:
        write_bytes(str(tmp_path / name), b"x")
    assert [photo.relative for photo in find_files(str(tmp_path))] == found


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
        gcs,
        "list_folder",
        lambda uri, *names: iter(Status(f"{uri}/{name}", 1, now, "1-1-x") for name in objects),
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


def test_a_prefix_is_listed_in_parts(storage: Storage) -> None:
    """Each object in one of them, in the order of names."""
    everything = [f"{n // 40}/{n // 8 % 5}/{n}.jpg" for n in range(200)] + ["0.jpg", "2 more.jpg", "9.jpg"]
    for name in everything:
        write_bytes(f"gs://archive/photos/{name}", b"x")
    source = find_source("gs://archive/photos")
    assert cut_source(source) == [source]  # one page
    storage.page_size = 20
    parts = [[photo.relative for photo in list_source(part)] for part in cut_source(source)]
    assert len(parts) == 1 + 5 + 25 and max(map(len, parts)) < 12
    assert [name for part in parts for name in part] == sorted(everything)
    with beam.Pipeline(runner=local_runner(PipelineOptions([]))) as pipeline:
        found = pipeline | FindFiles(source, "1.jpg", "gs://archive") | beam.Map(lambda photo: photo.relative)
        assert_that(found, equal_to([name for name in everything if name.endswith("1.jpg")]))


def test_what_rgc_has_written_is_not_found(photo_folder: Path) -> None:
    write_bytes(f"{photo_folder}/codes/a.jpg.rgc", b"x")
    write_bytes(f"{photo_folder}/manifest/run=1/rows.parquet", b"x")
    with beam.Pipeline(runner=local_runner(PipelineOptions([]))) as pipeline:
        found = pipeline | FindFiles(find_source(str(photo_folder)), output=str(photo_folder))
        names = found | beam.Map(lambda photo: photo.relative)
        assert_that(names, equal_to(["a.jpg", "notes.txt", "trip/b.png", "trip/broken.jpg"]))


BEGUN = threading.Event()


def list_slowly(source: Source, suffix: str) -> Iterator[Photo]:
    for number in range(6):
        assert number < 5 or BEGUN.wait(60), "no photo was begun before all were found"
        yield Photo(f"/photos/{number}.jpg", f"{number}.jpg", 1, "")


def begin(photo: Photo) -> Photo:
    BEGUN.set()
    return photo


def test_photos_are_begun_before_all_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find, "_LOCAL_CHUNK", 1)
    monkeypatch.setattr(resume, "_CHUNK", 2)
    monkeypatch.setattr(find, "list_source", list_slowly)
    source, run = Source("/photos", "/photos/", "folder"), Run("1", "", "")
    with beam.Pipeline(runner=local_runner(PipelineOptions([]))) as pipeline:
        split = pipeline | FindFiles(source) | SkipFinished(run, str(tmp_path), source)
        begun = split[TO_DO] | Balance(workers=1) | beam.Map(begin)
        assert_that(begun | beam.combiners.Count.Globally(), equal_to([6]))

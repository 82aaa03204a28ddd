"""What a run need not do again, and what it costs to find that out."""

import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.util import assert_that, equal_to

from model.codec import Codec
from model.files import encode_photo
from model.format.source import SourceRecord
from model.photos.reading import DecodedPhoto
from model.settings import Settings
from pipeline.runners.local import local_runner
from tests.storage import Storage
from transforms import resume
from transforms.elements import Photo
from transforms.find import Source
from transforms.manifest import writing
from transforms.manifest.earlier import EarlierRows
from transforms.manifest.reading import manifest_files, run_folder
from transforms.manifest.rows import ManifestRow, Run
from transforms.manifest.runs import RunRecord, begin_run
from transforms.manifest.writing import WriteManifest, table_of
from transforms.resume import DONE, TO_DO, SkipFinished, row_of_file
from transforms.storage.files import find_status, write_bytes
from transforms.storage.status import Status

SETTINGS = Settings(iterations=1)
RUN = Run("2", "rgc-0123456789ab", SETTINGS.to_json())
EARLIER = replace(RUN, run_id="1")
BASE, OUTPUT = "gs://archive/photos/", "gs://archive/out"
NOW = datetime.now(UTC)


def photo(name: str) -> Photo:
    return Photo(f"{BASE}{name}", name, 10**6, "f")


def kept(run: Run, name: str, fingerprint: str = "f") -> ManifestRow:
    return ManifestRow.not_encoded(run, replace(photo(name), fingerprint=fingerprint), "kept", "why")


def rgc_bytes(codec: Codec, fingerprint: str = "f") -> bytes:
    source = SourceRecord(10**6, fingerprint, "JPEG", (), RUN.settings, "0" * 64, "1" * 64)
    pixels = DecodedPhoto(np.zeros((16, 16, 3), np.uint8), False, "JPEG")
    return encode_photo(codec, pixels, SETTINGS, source).to_bytes()


def check(photos: Sequence[Photo], done: list[str], to_do: list[str], stop_path: str | None = None) -> None:
    source = Source(BASE, BASE, "folder")
    with beam.Pipeline(runner=local_runner(PipelineOptions([]))) as pipeline:
        split = pipeline | beam.Create(photos) | SkipFinished(RUN, OUTPUT, source, stop_path)
        rows = split[DONE] | beam.FlatMap(lambda table: table.to_pylist())
        names = rows | "Done" >> beam.Map(lambda row: row["source_uri"].removeprefix(BASE))
        assert_that(names, equal_to(done), label="done")
        assert_that(split[TO_DO] | "Names" >> beam.Map(lambda p: p.relative), equal_to(to_do), label="to do")


def write_manifest(rows: Sequence[ManifestRow], run_id: str, complete: bool = False) -> None:
    folder = run_folder(OUTPUT, run_id)
    if complete:
        begin_run(folder, RunRecord(run_id, BASE, RUN.model, RUN.settings))
    with beam.Pipeline(runner=local_runner(PipelineOptions([]))) as pipeline:
        created, finished = pipeline | beam.Create(rows), pipeline | "Finished" >> beam.Create([])
        _ = (created,) | WriteManifest(OUTPUT, run_id, created, finished, regroup=False)


def test_photos_of_which_nothing_is_there_cost_no_request(storage: Storage) -> None:
    """A million of them would be hours of waiting before the first one is encoded."""
    names = [f"{number:03}.jpg" for number in range(200)]
    check([photo(name) for name in names], [], names)
    assert storage.requests < 10


def test_what_is_there_is_looked_up_at_the_same_time(storage: Storage, tiny_codec: Codec) -> None:
    names = [f"trip/{number:02}.jpg" for number in range(40)]
    data = rgc_bytes(tiny_codec)
    for name in names:
        write_bytes(f"{OUTPUT}/codes/{name}.rgc", data)
    storage.latency, storage.most_at_once = 0.1, 0
    check([photo(name) for name in [*names, "new.jpg"]], names, ["new.jpg"])
    assert storage.most_at_once > 10


def test_asked_to_stop_photos_are_passed_over(storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "stop").touch()
    check([photo("a.jpg")], [], [], str(tmp_path / "stop"))


def test_of_many_earlier_rows_the_latest_counts(storage: Storage) -> None:
    """In whatever order files are read: the photo was another one in between."""
    for run_id, fingerprint in (("3", "f"), ("1", "f"), ("2", "another")):
        write_manifest([kept(replace(RUN, run_id=run_id), "a.jpg", fingerprint)], run_id)
    check([photo("a.jpg")], ["a.jpg"], [])
    check([replace(photo("a.jpg"), fingerprint="another")], [], ["a.jpg"])


def test_rows_of_other_work_and_of_other_photos_are_not_read(storage: Storage) -> None:
    rows = [
        kept(EARLIER, "a.jpg"),
        kept(replace(EARLIER, settings="{}"), "b.jpg"),
        kept(replace(EARLIER, model="rgc-another"), "c.jpg"),
        ManifestRow.not_encoded(EARLIER, photo("d.jpg"), "failed", "why"),
        replace(kept(EARLIER, "e.jpg"), source_uri="gs://archive/elsewhere/e.jpg"),
    ]
    write_manifest(rows, "1")
    (uri,) = manifest_files(OUTPUT)
    earlier = EarlierRows([uri], RUN, BASE)
    uris = sorted(row.source_uri for row in rows)
    assert earlier.of(uris).to_pylist() == [asdict(rows[0])]
    assert not len(earlier.of(uris[2:]))
    write_bytes(uri, b"no Parquet")
    del earlier
    assert not len(EarlierRows([uri], RUN, BASE).of(uris))


def test_of_complete_runs_the_last_says_all(storage: Storage) -> None:
    """What was before it is not read, however many runs there were."""
    write_manifest(
        [kept(replace(RUN, run_id="0"), "a.jpg"), kept(replace(RUN, run_id="0"), "b.jpg")], "0", True
    )
    check([photo("a.jpg"), photo("b.jpg")], ["a.jpg", "b.jpg"], [])
    write_manifest([kept(EARLIER, "a.jpg")], "1", complete=True)
    check([photo("a.jpg"), photo("b.jpg")], ["a.jpg"], ["b.jpg"])
    write_manifest([kept(replace(RUN, run_id="3"), "b.jpg")], "3")  # it was stopped, or is of an earlier rgc
    check([photo("a.jpg"), photo("b.jpg")], ["a.jpg", "b.jpg"], [])


def test_photos_in_any_order_and_rows_in_many_groups(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "_ROWS_PER_FILE", 40)
    monkeypatch.setattr(writing, "_ROWS_PER_GROUP", 7)
    monkeypatch.setattr(writing, "_ROWS_PACKED", 20)
    monkeypatch.setattr(resume, "_CHUNK", 16)
    names = [f"{number:03}.jpg" for number in range(100)]
    random.Random(0).shuffle(names)
    write_manifest([kept(EARLIER, name) for name in names[:70]], "1")
    assert len(manifest_files(OUTPUT)) == 2
    check([photo(name) for name in sorted(names)], names[:70], names[70:])
    check([photo(name) for name in names], names[:70], names[70:])


def row_of_a_file(codec: Codec) -> tuple[Status, ManifestRow]:
    """A file that is finished, and the row that the run which wrote it would have left."""
    write_bytes(f"{OUTPUT}/codes/a.jpg.rgc", rgc_bytes(codec))
    there = find_status(f"{OUTPUT}/codes/a.jpg.rgc")
    assert there is not None
    row = row_of_file(EARLIER, photo("a.jpg"), there, None)
    assert row is not None and row.finished_at == there.modified
    return there, replace(row, finished_at=there.modified + timedelta(seconds=1), encode_seconds=5.0)


def split_one(earlier: ManifestRow) -> list[dict[str, Any]]:
    with ThreadPoolExecutor(1) as threads:
        done, _ = resume.split(RUN, OUTPUT, [photo("a.jpg")], table_of([earlier]), threads)
    return done.to_pylist()


def test_a_file_that_a_manifest_knows_is_not_read_again(storage: Storage, tiny_codec: Codec) -> None:
    _, row = row_of_a_file(tiny_codec)
    before = storage.requests
    assert split_one(row) == [asdict(replace(row, run_id="2"))]
    assert split_one(replace(row, rgc_uri="gs://elsewhere/codes/a.jpg.rgc")) == split_one(row)
    assert storage.requests == before + 3  # listings


def test_a_file_that_was_written_since_is_read(storage: Storage, tiny_codec: Codec) -> None:
    there, row = row_of_a_file(tiny_codec)
    older = replace(row, finished_at=there.modified - timedelta(microseconds=1))
    assert split_one(older) == [asdict(replace(older, run_id="2"))]
    write_bytes(there.uri, rgc_bytes(tiny_codec, "another"))
    assert split_one(replace(row, rgc_bytes=1)) == []
    assert row_of_file(RUN, photo("a.jpg"), there, None) is None  # it is another one than was listed


@pytest.mark.parametrize("content", [b"", b"GIF89a"])
def test_a_file_that_is_no_rgc_file_is_made_again(storage: Storage, content: bytes) -> None:
    write_bytes(f"{OUTPUT}/codes/a.jpg.rgc", content)
    check([photo("a.jpg")], [], ["a.jpg"])

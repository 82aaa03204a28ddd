"""What a run need not do again, and what it costs to find that out."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

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
from transforms.elements import Photo
from transforms.manifest.reading import read_rows
from transforms.manifest.rows import ManifestRow, Run
from transforms.manifest.writing import WriteManifest
from transforms.resume import DONE, TO_DO, SkipFinished, finished_row
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
    with beam.Pipeline(runner=local_runner(PipelineOptions([]))) as pipeline:
        split = pipeline | beam.Create(photos) | SkipFinished(RUN, OUTPUT, BASE, stop_path)
        names = split[DONE] | beam.Map(lambda row: row.source_uri.removeprefix(BASE))
        assert_that(names, equal_to(done), label="done")
        assert_that(split[TO_DO] | "Names" >> beam.Map(lambda p: p.relative), equal_to(to_do), label="to do")


def write_manifest(rows: Sequence[ManifestRow], run_id: str) -> None:
    with beam.Pipeline(runner=local_runner(PipelineOptions([]))) as pipeline:
        created = pipeline | beam.Create(rows)
        _ = (created,) | WriteManifest(OUTPUT, run_id, created)


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
    storage.latency = 0.1
    started = datetime.now(UTC)
    check([photo(name) for name in [*names, "new.jpg"]], names, ["new.jpg"])
    assert datetime.now(UTC) - started < timedelta(seconds=0.1 * len(names))


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
    uri = f"{OUTPUT}/manifest/run=1/rows-00000-of-00001.parquet"
    assert list(read_rows(uri, RUN, BASE)) == rows[:1]
    write_bytes(uri, b"no Parquet")
    assert list(read_rows(uri, RUN, BASE)) == []


def file_and_row(codec: Codec) -> tuple[Status, ManifestRow]:
    """A file that is finished, and the row that the run which wrote it would have left."""
    write_bytes(f"{OUTPUT}/codes/a.jpg.rgc", rgc_bytes(codec))
    there = find_status(f"{OUTPUT}/codes/a.jpg.rgc")
    assert there is not None
    row = finished_row(EARLIER, photo("a.jpg"), there, None)
    assert row is not None and row.finished_at == there.modified
    return there, replace(row, finished_at=there.modified + timedelta(seconds=1), encode_seconds=5.0)


def test_a_file_that_a_manifest_knows_is_not_read_again(storage: Storage, tiny_codec: Codec) -> None:
    there, row = file_and_row(tiny_codec)
    before = storage.requests
    assert finished_row(RUN, photo("a.jpg"), there, row) == replace(row, run_id="2")
    moved = replace(there, uri="gs://elsewhere/codes/a.jpg.rgc")
    assert finished_row(RUN, photo("a.jpg"), moved, row) == replace(row, run_id="2", rgc_uri=moved.uri)
    assert storage.requests == before


def test_a_file_that_was_written_since_is_read(storage: Storage, tiny_codec: Codec) -> None:
    there, row = file_and_row(tiny_codec)
    touched = replace(there, modified=row.finished_at + timedelta(seconds=1))
    assert finished_row(RUN, photo("a.jpg"), touched, row) == replace(row, run_id="2")
    write_bytes(there.uri, rgc_bytes(tiny_codec, "another"))
    other = find_status(there.uri)
    assert finished_row(RUN, photo("a.jpg"), other, replace(row, rgc_bytes=1)) is None
    assert finished_row(RUN, photo("a.jpg"), there, None) is None  # it is another one than was listed


@pytest.mark.parametrize("content", [b"", b"GIF89a"])
def test_a_file_that_is_no_rgc_file_is_made_again(storage: Storage, content: bytes) -> None:
    write_bytes(f"{OUTPUT}/codes/a.jpg.rgc", content)
    check([photo("a.jpg")], [], ["a.jpg"])

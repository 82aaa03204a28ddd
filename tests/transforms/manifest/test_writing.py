from datetime import UTC, datetime, timedelta
from pathlib import Path

import apache_beam as beam
import pyarrow.compute as pc
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from pipeline.runners.local import local_runner
from transforms.elements import Photo
from transforms.manifest import writing
from transforms.manifest.reading import manifest_files, read_table
from transforms.manifest.rows import ManifestRow
from transforms.manifest.runs import RunRecord, begin_run, incomplete_runs
from transforms.manifest.writing import WriteManifest, table_of
from transforms.storage.files import write_bytes

ROWS = [
    ManifestRow(
        source_uri=f"/photos/{number:04}.jpg",
        status="encoded" if number % 3 else "kept",
        source_bytes=number,
        source_fingerprint=f"{number}-é",
        model="rgc-0123456789ab",
        settings='{"iterations":1}',
        run_id="1",
        finished_at=datetime(2026, 11, 26, 1, 2, 3, 456789, UTC) + timedelta(seconds=number),
        ms_ssim=number / 7 if number % 3 else None,
    )
    for number in range(1_000)
]


@pytest.mark.parametrize("regroup", [False, True])
def test_rows_of_several_stages_come_back_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, regroup: bool
) -> None:
    """Each once, in sorted files of about the size that is wanted, from packs that are full or not."""
    monkeypatch.setattr(writing, "_ROWS_PER_FILE", 200)
    monkeypatch.setattr(writing, "_ROWS_PACKED", 90)
    monkeypatch.setattr(writing, "_SHARDS", 2)
    folder = tmp_path / "manifest" / "run=1"
    begin_run(str(folder), RunRecord("1", "/photos", "rgc-0123456789ab", '{"iterations":1}'))
    write_bytes(str(folder / "rows-of-a-bundle-that-failed.parquet"), b"")
    with beam.Pipeline(runner=local_runner(PipelineOptions([]))) as pipeline:
        every = pipeline | beam.Create(ROWS)
        photos = every | beam.Map(lambda row: Photo(row.source_uri, row.source_uri, row.source_bytes, ""))
        encoded = every | "Encoded" >> beam.Filter(lambda row: row.status == "encoded")
        kept = every | "Kept" >> beam.Filter(lambda row: row.status == "kept" and row.source_bytes < 900)
        finished = pipeline | "Finished" >> beam.Create([table_of(ROWS[900:950]), table_of(ROWS[950:])])
        finished |= beam.Map(lambda table: table.filter(pc.field("status") == "kept"))
        _ = (encoded, kept) | WriteManifest(str(tmp_path), "1", photos, finished, regroup)
    tables = [read_table(uri) for uri in manifest_files(str(folder))]
    assert len(tables) >= 5
    for table in tables:
        assert table.schema.equals(writing.SCHEMA, check_metadata=True)
        uris = table["source_uri"].to_pylist()
        assert uris == sorted(uris) and len(uris) < 200 + 90
    rows = [ManifestRow(**row) for table in tables for row in table.to_pylist()]
    assert sorted(rows, key=lambda row: row.source_uri) == ROWS
    assert not incomplete_runs(str(folder))


def test_a_reference_passes_between_workers_whole_and_small() -> None:
    photo = Photo("gs://a/b/ü.jpg", "b/ü.jpg", 1 << 40, "1-é", "it's a link to nothing")
    coder = beam.coders.registry.get_coder(Photo)
    encoded = coder.encode(photo)
    assert coder.decode(encoded) == photo
    assert len(encoded) < len(beam.coders.FastPrimitivesCoder().encode(photo)) - 50

from datetime import UTC, datetime, timedelta
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from pipeline.runners.local import local_runner
from transforms.elements import Photo
from transforms.manifest import writing
from transforms.manifest.reading import read_table
from transforms.manifest.rows import ManifestRow
from transforms.manifest.writing import WriteManifest

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


def test_rows_of_several_stages_come_back_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each once, in sorted files of about the size that is wanted, from packs that are full or not."""
    monkeypatch.setattr(writing, "_ROWS_PER_FILE", 400)
    monkeypatch.setattr(writing, "_ROWS_PACKED", 100)
    with beam.Pipeline(runner=local_runner(PipelineOptions([]))) as pipeline:
        every = pipeline | beam.Create(ROWS)
        photos = every | beam.Map(lambda row: Photo(row.source_uri, row.source_uri, row.source_bytes, ""))
        encoded = every | "Encoded" >> beam.Filter(lambda row: row.status == "encoded")
        kept = every | "Kept" >> beam.Filter(lambda row: row.status == "kept")
        _ = (encoded, kept) | WriteManifest(str(tmp_path), "1", photos)
    files = sorted((tmp_path / "manifest" / "run=1").iterdir())
    assert [file.name for file in files] == [f"rows-{n:05}-of-00003.parquet" for n in range(3)]
    tables = [read_table(str(file)) for file in files]
    for table in tables:
        assert table.schema.equals(writing.SCHEMA, check_metadata=True)
        uris = table["source_uri"].to_pylist()
        assert uris == sorted(uris) and 250 < len(uris) < 420
    rows = [ManifestRow(**row) for table in tables for row in table.to_pylist()]
    assert sorted(rows, key=lambda row: row.source_uri) == ROWS


def test_a_reference_passes_between_workers_whole_and_small() -> None:
    photo = Photo("gs://a/b/ü.jpg", "b/ü.jpg", 1 << 40, "1-é", "it's a link to nothing")
    coder = beam.coders.registry.get_coder(Photo)
    encoded = coder.encode(photo)
    assert coder.decode(encoded) == photo
    assert len(encoded) < len(beam.coders.FastPrimitivesCoder().encode(photo)) - 50

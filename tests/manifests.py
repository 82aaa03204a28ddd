"""Manifests made up row by row."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from transforms.manifest.rows import ManifestRow
from transforms.manifest.schema import SCHEMA

SETTINGS = '{"target_ms_ssim":0.95}'
FIRST, SECOND = "20261101T220000.000000Z-aaaaaa", "20261102T220000.000000Z-bbbbbb"


def row(uri: str, run: str = FIRST, **columns: Any) -> dict[str, Any]:
    """A row of a photo of 2 megapixels; encoded, from 1,000,000 to 100,000 bytes, if not said otherwise."""
    encoded = {
        "status": "encoded",
        "source_bytes": 1_000_000,
        "saved_bytes": 900_000,
        "source_format": "JPEG",
    }
    measured = {"width": 2000, "height": 1000, "bits_per_pixel": 0.4, "ms_ssim": 0.96}
    made = ManifestRow(
        source_uri=uri,
        **{**encoded, **measured, **columns},
        source_fingerprint="1-2",
        model="rgc-0123456789ab",
        settings=SETTINGS,
        run_id=run,
        finished_at=datetime(2026, 11, 1, tzinfo=UTC),
    )
    return asdict(made)


def kept(uri: str, reason: str, run: str = FIRST, **columns: Any) -> dict[str, Any]:
    columns = {"status": "kept", "saved_bytes": 0, "ms_ssim": None, "bits_per_pixel": None, **columns}
    return row(uri, run, reason=reason, **columns)


def write(
    path: Path, rows: Sequence[dict[str, Any]], schema: pa.Schema = SCHEMA, version: int | None = None
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = None if version is None else {"rgc_manifest": str(version)}
    table = pa.Table.from_pylist(list(rows), schema.with_metadata(metadata))
    pq.write_table(table, path, compression="zstd")
    return path


def write_run(output: Path, run: str, rows: Sequence[dict[str, Any]]) -> Path:
    path = output / "manifest" / f"run={run}" / "rows-00000-of-00001.parquet"
    return write(path, rows)

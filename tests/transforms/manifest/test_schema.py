"""What may change in a manifest's columns, for resuming and for the audit alike."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline.audit.manifests import ManifestError, open_manifests, query
from tests.manifests import SETTINGS, row, write
from transforms.manifest.earlier import EarlierRows
from transforms.manifest.rows import Run
from transforms.manifest.schema import ADDED_LATER, SCHEMA, VERSION, ColumnsError, known_columns

RUN = Run("2", "rgc-0123456789ab", SETTINGS)


def without(*names: str) -> pa.Schema:
    return pa.schema([field for field in SCHEMA if field.name not in names])


def resumed(path: Path) -> list[dict[str, Any]]:
    return EarlierRows([str(path)], RUN, "/p/").of(["/p/a.jpg"]).to_pylist()


def audited(path: Path) -> list[dict[str, Any]]:
    with open_manifests([str(path)]) as database:
        return query(database, f"SELECT {', '.join(SCHEMA.names)} FROM latest")


@pytest.mark.parametrize("read", [resumed, audited])
def test_a_column_that_a_manifest_lacks_is_null_and_one_more_is_not_read(tmp_path: Path, read: Any) -> None:
    more = without(*ADDED_LATER).insert(3, pa.field("camera", pa.string()))
    path = write(tmp_path / "rows.parquet", [{**row("/p/a.jpg"), "camera": "of a later rgc"}], more)
    assert read(path) == [{**row("/p/a.jpg"), **dict.fromkeys(ADDED_LATER)}]


def test_other_columns_are_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for schema, message in (
        (without("status"), "status missing"),
        (SCHEMA.set(5, pa.field("width", pa.string())), "width is string, not int32"),
        (SCHEMA.with_metadata({"rgc_manifest": "one"}), "its version is 'one', not a number"),
    ):
        with pytest.raises(ColumnsError, match=message):
            known_columns(schema)
    newer = write(tmp_path / "rows.parquet", [row("/p/a.jpg")], version=VERSION + 1)
    with pytest.raises(ManifestError, match=f"of version {VERSION + 1}, this rgc reads up to {VERSION}"):
        audited(newer)
    assert resumed(newer) == []
    assert f"passed over: a manifest of version {VERSION + 1}" in caplog.text

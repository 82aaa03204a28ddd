"""The manifest's columns, one row an input, and what may change in them.

A column that is added goes into `SCHEMA` and `ADDED_LATER`: in rows of earlier manifests it is null. Columns
that this rgc does not know are not read. Who changes a column's type or meaning, or removes it, raises
`VERSION`: an older rgc refuses such manifests.
"""

import pyarrow as pa

VERSION = 1  # of the columns; the first manifests say none
VERSION_KEY = b"rgc_manifest"
ADDED_LATER = frozenset({"source_fingerprint"})

SCHEMA = pa.schema(
    [
        pa.field("source_uri", pa.string(), nullable=False),
        pa.field("rgc_uri", pa.string()),
        pa.field("status", pa.string(), nullable=False),
        pa.field("reason", pa.string()),
        pa.field("source_format", pa.string()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("source_bytes", pa.int64(), nullable=False),
        pa.field("rgc_bytes", pa.int64()),
        pa.field("saved_bytes", pa.int64(), nullable=False),
        pa.field("source_bits_per_pixel", pa.float64()),
        pa.field("bits_per_pixel", pa.float64()),
        pa.field("ms_ssim", pa.float64()),
        pa.field("iterations", pa.int32()),
        pa.field("source_sha256", pa.string()),
        pa.field("source_fingerprint", pa.string(), nullable=False),
        pa.field("rgc_sha256", pa.string()),
        pa.field("model", pa.string(), nullable=False),
        pa.field("settings", pa.string(), nullable=False),
        pa.field("encode_seconds", pa.float64()),
        pa.field("run_id", pa.string(), nullable=False),
        pa.field("finished_at", pa.timestamp("us", tz="UTC"), nullable=False),
    ],
    metadata={VERSION_KEY: str(VERSION)},
)


class ColumnsError(ValueError):
    """A Parquet file is no manifest: it has other columns."""


class NewerManifestError(ValueError):
    """A manifest of a newer rgc."""


def known_columns(schema: pa.Schema) -> list[str]:
    """Those of `SCHEMA` that a manifest's file has.

    Raises:
        ColumnsError: one is missing, or of another type; or the version is no number.
        NewerManifestError: its version is newer than `VERSION`.
    """
    version = (schema.metadata or {}).get(VERSION_KEY, b"0").decode(errors="replace")
    if not version.isdecimal():
        raise ColumnsError(f"its version is {version!r}, not a number")
    if int(version) > VERSION:
        raise NewerManifestError(
            f"a manifest of version {version}, this rgc reads up to {VERSION}: take a newer rgc"
        )
    if missing := set(SCHEMA.names) - set(schema.names) - ADDED_LATER:
        raise ColumnsError(f"not rgc's columns: {', '.join(sorted(missing))} missing")
    present = [field for field in SCHEMA if field.name in schema.names]
    for field in present:
        if (found := schema.field(field.name).type) != field.type:
            raise ColumnsError(f"not rgc's columns: {field.name} is {found}, not {field.type}")
    return [field.name for field in present]


def with_all_columns(table: pa.Table) -> pa.Table:
    """Rows with `SCHEMA`'s columns, null where the table lacks one. Raises as `known_columns` does."""
    present = known_columns(table.schema)
    columns = [
        table[field.name] if field.name in present else pa.nulls(len(table), field.type) for field in SCHEMA
    ]
    return pa.table(columns, SCHEMA)

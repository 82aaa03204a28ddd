"""The manifest's columns, one row an input."""

import pyarrow as pa

VERSION = 1  # of the columns; the first manifests say none
VERSION_KEY = b"rgc_manifest"

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

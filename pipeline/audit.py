"""What manifests say: totals, by folder and format, best and worst."""

from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from transforms.manifest import SCHEMA, manifest_files, read_table

EXTREMES = 5
_PATTERNS = ("*.parquet", "run=*/*.parquet", "manifest/run=*/*.parquet")
# Of a photo's rows in several runs, the latest run's counts: run ids begin with the time.
_LATEST = """
    CREATE TEMP TABLE latest AS
    SELECT *, regexp_replace(source_uri, '/[^/]*$', '') AS folder FROM manifest
    QUALIFY row_number() OVER (PARTITION BY source_uri ORDER BY run_id DESC) = 1
"""
_FIGURES = """
    count(*) AS photos,
    count(*) FILTER (status = 'encoded') AS encoded,
    count(*) FILTER (status = 'kept') AS kept,
    count(*) FILTER (status = 'failed') AS failed,
    coalesce(sum(source_bytes), 0)::BIGINT AS source_bytes,
    coalesce(sum(source_bytes - saved_bytes), 0)::BIGINT AS bytes_after,
    coalesce(sum(saved_bytes), 0)::BIGINT AS saved_bytes,
    avg(bits_per_pixel) AS mean_bits_per_pixel,
    avg(ms_ssim) AS mean_ms_ssim,
    min(ms_ssim) AS worst_ms_ssim
"""


class ManifestError(ValueError):
    """A manifest that is not there or has other columns."""


@dataclass(frozen=True)
class AuditReport:
    """Rows of figures, ready for JSON; the keys are those of the queries above."""

    totals: dict[str, Any]
    by_folder: list[dict[str, Any]]
    by_format: list[dict[str, Any]]
    kept: list[dict[str, Any]]
    failed: list[dict[str, Any]]
    most_saved: list[dict[str, Any]]
    worst_quality: list[dict[str, Any]]


def audit(manifest: str) -> AuditReport:
    """Reads all Parquet files of a manifest: its folder, one run's, the output folder or one file.

    Raises:
        ManifestError: no Parquet file is there, or one cannot be read.
    """
    with duckdb.connect() as database:
        database.register("manifest", _read(manifest))
        database.execute(_LATEST)

        def query(sql: str) -> list[dict[str, Any]]:
            table: pa.Table = database.sql(sql).to_arrow_table()
            return table.to_pylist()

        def extremes(order: str) -> list[dict[str, Any]]:
            return query(
                f"SELECT source_uri, saved_bytes, bits_per_pixel, ms_ssim FROM latest "
                f"WHERE status = 'encoded' ORDER BY {order}, source_uri LIMIT {EXTREMES}"
            )

        def reasons(status: str) -> list[dict[str, Any]]:
            return query(
                f"SELECT source_uri, reason FROM latest WHERE status = '{status}' ORDER BY source_uri"
            )

        return AuditReport(
            totals=query(f"SELECT {_FIGURES} FROM latest")[0],
            by_folder=query(f"SELECT folder, {_FIGURES} FROM latest GROUP BY folder ORDER BY folder"),
            by_format=query(
                f"SELECT coalesce(source_format, 'unknown') AS format, {_FIGURES} "
                f"FROM latest GROUP BY 1 ORDER BY 1"
            ),
            kept=reasons("kept"),
            failed=reasons("failed"),
            most_saved=extremes("saved_bytes DESC"),
            worst_quality=extremes("ms_ssim ASC"),
        )


def _read(manifest: str) -> pa.Table:
    files = manifest_files(manifest)
    if not files:
        raise ManifestError(f"{manifest}: no Parquet file there, in run=*/ or in manifest/run=*/")
    return pa.concat_tables(_read_file(file) for file in files)


def _read_file(uri: str) -> pa.Table:
    try:
        return read_table(uri).select(SCHEMA.names).cast(SCHEMA)
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise ManifestError(f"{uri}: no manifest of rgc: {error}") from error


def print_audit(report: AuditReport, console: Console) -> None:
    print_totals(report, console)
    _print_groups("By folder", "folder", report.by_folder, console)
    _print_groups("By format", "format", report.by_format, console)
    for title, rows in (("Most saved", report.most_saved), ("Lowest MS-SSIM", report.worst_quality)):
        table = Table("photo", "saved", "bits per pixel", "MS-SSIM", title=title, title_justify="left")
        for row in rows:
            saved, rate, quality = (row[key] for key in ("saved_bytes", "bits_per_pixel", "ms_ssim"))
            table.add_row(row["source_uri"], _bytes(saved), f"{rate:.3f}", f"{quality:.4f}")
        console.print(table)
    _print_reasons("kept", report.kept, console)
    _print_reasons("failed", report.failed, console)


def print_totals(report: AuditReport, console: Console) -> None:
    totals = report.totals
    counts = f"{totals['encoded']} encoded, {totals['kept']} kept, {totals['failed']} failed"
    console.print(f"{totals['photos']} photos: {counts}", highlight=False)
    if totals["source_bytes"]:
        share = totals["saved_bytes"] / totals["source_bytes"]
        before, after = _bytes(totals["source_bytes"]), _bytes(totals["bytes_after"])
        console.print(f"{before} before, {after} after: {share:.1%} saved", highlight=False)
    if totals["encoded"]:
        rate, quality = totals["mean_bits_per_pixel"], totals["mean_ms_ssim"]
        console.print(f"mean of encoded photos: {rate:.3f} bits per pixel, MS-SSIM {quality:.4f}")


def _print_groups(title: str, key: str, groups: list[dict[str, Any]], console: Console) -> None:
    columns = (key, "photos", "encoded", "kept", "failed", "before", "after", "saved", "bpp", "MS-SSIM")
    table = Table(*columns, title=title, title_justify="left")
    for group in groups:
        counts = [str(group[name]) for name in ("photos", "encoded", "kept", "failed")]
        sizes = [_bytes(group[name]) for name in ("source_bytes", "bytes_after", "saved_bytes")]
        measured = [
            "" if group[name] is None else f"{group[name]:.{digits}f}"
            for name, digits in (("mean_bits_per_pixel", 3), ("mean_ms_ssim", 4))
        ]
        table.add_row(group[key], *counts, *sizes, *measured)
    console.print(table)


def _print_reasons(status: str, rows: list[dict[str, Any]], console: Console) -> None:
    for row in rows:
        console.print(f"{status}: {row['source_uri']}: {row['reason']}", highlight=False, markup=False)


def _bytes(count: int) -> str:
    return f"-{decimal(-count)}" if count < 0 else decimal(count)

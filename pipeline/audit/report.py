"""What manifests say: totals, groups by reason, folder, format and size, quality, best and worst."""

from dataclasses import dataclass
from typing import Any

import duckdb
from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table

from pipeline.audit.manifests import open_manifests, query
from pipeline.estimate.costs import STORAGE_PRICE, usd_a_month

LISTED = 100  # photos, and reasons, that a report names; it counts the others
LISTED_FOLDERS = 1000
_SHOWN = 20  # of each, in the terminal
_EXTREMES = 5
_PERCENTILES = (1, 5, 50, 95, 99)
_MEGAPIXEL_CLASSES = {1: "under 1", 4: "1 to 4", 12: "4 to 12", 24: "12 to 24", 48: "24 to 48"}

_MEASURES = (
    "MS-SSIM says how alike a decoded photo and its original are; 1 means equal.",
    "Bits per pixel count the whole file. 5% of the photos have less than p5, half have less than p50.",
)

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
_BY_SIZE = f"list_position({[*_MEGAPIXEL_CLASSES.values(), 'from 48', 'unknown']}, megapixel_class)"
_CASES = " ".join(f"WHEN megapixels < {most} THEN '{name}'" for most, name in _MEGAPIXEL_CLASSES.items())
# Totals and all groups in one pass. `kind` has a bit for each column that is not grouped by.
_GROUPS = f"""
    CREATE TEMP TABLE groups AS
    SELECT grouping(folder, format, megapixel_class) AS kind, folder, format, megapixel_class, {_FIGURES}
    FROM (
        SELECT *, coalesce(source_format, 'unknown') AS format,
            CASE {_CASES} WHEN megapixels IS NULL THEN 'unknown' ELSE 'from 48' END AS megapixel_class
        FROM latest
    )
    GROUP BY GROUPING SETS ((), (folder), (format), (megapixel_class))
"""
_TOTALS, _BY_FOLDER, _BY_FORMAT, _BY_MEGAPIXELS = 0b111, 0b011, 0b101, 0b110
_QUANTILES = ", ".join(str(percentile / 100) for percentile in _PERCENTILES)
_QUALITY = f"""
    SELECT quantile_cont(ms_ssim, [{_QUANTILES}]) AS ms_ssim, min(ms_ssim) AS worst_ms_ssim,
        quantile_cont(bits_per_pixel, [{_QUANTILES}]) AS bits_per_pixel,
        max(bits_per_pixel) AS worst_bits_per_pixel
    FROM latest WHERE status = 'encoded'
"""
QUALITY_STEP = 1 / 65535  # of a manifest's MS-SSIM; rounding may move it below a target that it reached
_BY_TARGET = f"""
    SELECT target_ms_ssim, count(*) AS encoded,
        count(*) FILTER (ms_ssim < target_ms_ssim - {QUALITY_STEP}) AS below_target,
        min(ms_ssim) AS worst_ms_ssim
    FROM latest WHERE status = 'encoded' GROUP BY target_ms_ssim ORDER BY target_ms_ssim
"""
# Reasons that differ only in numbers, quoted text or the file's name count as one.
_BY_REASON = r"""
    CREATE TEMP TABLE reasons AS
    SELECT status,
        regexp_replace(
            regexp_replace(replace(reason, source_uri, '...'), '''[^'']*''|"[^"]*"', '...', 'g'),
            '\b([0-9]+x[0-9]+|0x[0-9a-f]+|[0-9]+(\.[0-9]+)?)\b', 'N', 'g'
        ) AS reason,
        count(*) AS photos, sum(source_bytes)::BIGINT AS source_bytes, min(source_uri) AS example
    FROM latest WHERE status <> 'encoded' GROUP BY ALL
"""


@dataclass(frozen=True)
class AuditReport:
    """Rows of figures, ready for JSON; the keys are those of the queries above.

    Attributes:
        usd_per_gb_month, saved_usd_per_month: price of 2**30 stored bytes, and of the saved ones.
        ms_ssim, bits_per_pixel: of encoded photos, percentiles `p1` to `p99` and `worst`.
        by_target: encoded photos by target, null if none was set, and how many of them are below it.
        reasons, by_reason: number of reasons why photos were kept or failed, and the most frequent ones.
        folders, by_folder: number of folders, and those that save most.
        kept, failed: the first `LISTED`.
        skipped: `uri` and `reason` of files that are truncated, or are no manifests.
        incomplete: runs whose manifest does not have a row for every file: see `open_manifests`.
    """

    totals: dict[str, Any]
    usd_per_gb_month: float
    saved_usd_per_month: float
    ms_ssim: dict[str, float | None]
    bits_per_pixel: dict[str, float | None]
    by_target: list[dict[str, Any]]
    reasons: int
    by_reason: list[dict[str, Any]]
    folders: int
    by_folder: list[dict[str, Any]]
    by_format: list[dict[str, Any]]
    by_megapixels: list[dict[str, Any]]
    kept: list[dict[str, Any]]
    failed: list[dict[str, Any]]
    most_saved: list[dict[str, Any]]
    worst_quality: list[dict[str, Any]]
    skipped: list[dict[str, Any]]
    incomplete: list[dict[str, Any]]


def audit(*manifests: str, where: str | None = None) -> AuditReport:
    """Sums up the latest row of each photo over any number of manifests.

    Raises:
        ManifestError, WhereError: see `open_manifests`.
    """
    with open_manifests(manifests, where) as database:
        return read_audit(database)


def read_audit(database: duckdb.DuckDBPyConnection, usd_per_gb_month: float = STORAGE_PRICE) -> AuditReport:
    """Sums up a database of `open_manifests`. Once: it makes tables in it."""
    database.execute(_GROUPS)
    database.execute(_BY_REASON)
    (totals,) = _groups(database, _TOTALS)
    (quality,) = query(database, _QUALITY)
    return AuditReport(
        totals=totals,
        usd_per_gb_month=usd_per_gb_month,
        saved_usd_per_month=usd_a_month(totals["saved_bytes"], usd_per_gb_month),
        ms_ssim=_percentiles(quality, "ms_ssim"),
        bits_per_pixel=_percentiles(quality, "bits_per_pixel"),
        by_target=query(database, _BY_TARGET),
        reasons=_count(database, "reasons"),
        by_reason=query(database, f"FROM reasons ORDER BY photos DESC, status, reason LIMIT {LISTED}"),
        folders=_count(database, f"groups WHERE kind = {_BY_FOLDER}"),
        by_folder=_groups(database, _BY_FOLDER, "folder, ", "saved_bytes DESC, folder"),
        by_format=_groups(database, _BY_FORMAT, "format, ", "format"),
        by_megapixels=_groups(database, _BY_MEGAPIXELS, "megapixel_class AS megapixels, ", _BY_SIZE),
        kept=_reasons(database, "kept"),
        failed=_reasons(database, "failed"),
        most_saved=_extremes(database, "saved_bytes DESC"),
        worst_quality=_extremes(database, "ms_ssim"),
        skipped=query(database, "FROM skipped ORDER BY uri"),
        incomplete=query(database, "FROM incomplete ORDER BY run_id"),
    )


def _count(database: duckdb.DuckDBPyConnection, rows: str) -> int:
    return int(query(database, f"SELECT count(*) AS count FROM {rows}")[0]["count"])


def _groups(
    database: duckdb.DuckDBPyConnection, kind: int, key: str = "", order: str = "kind"
) -> list[dict[str, Any]]:
    return query(
        database,
        f"SELECT {key}* EXCLUDE (kind, folder, format, megapixel_class) FROM groups "
        f"WHERE kind = {kind} ORDER BY {order} LIMIT {LISTED_FOLDERS}",
    )


def _percentiles(quality: dict[str, Any], column: str) -> dict[str, float | None]:
    values = quality[column] or [None] * len(_PERCENTILES)
    names = [f"p{percentile}" for percentile in _PERCENTILES]
    return {**dict(zip(names, values, strict=True)), "worst": quality[f"worst_{column}"]}


def _reasons(database: duckdb.DuckDBPyConnection, status: str) -> list[dict[str, Any]]:
    return query(
        database,
        f"SELECT source_uri, reason FROM latest WHERE status = '{status}' ORDER BY source_uri LIMIT {LISTED}",
    )


def _extremes(database: duckdb.DuckDBPyConnection, order: str) -> list[dict[str, Any]]:
    return query(
        database,
        f"SELECT source_uri, saved_bytes, bits_per_pixel, ms_ssim FROM latest "
        f"WHERE status = 'encoded' ORDER BY {order}, source_uri LIMIT {_EXTREMES}",
    )


def print_audit(report: AuditReport, console: Console) -> None:
    print_totals(report, console)
    for run in report.incomplete:
        known = "how many files it found is not known"
        if run["found"] is not None:
            known = f"{run['finished']} of {run['found']} files are in it"
        text = f"the manifest of run {run['run_id']} of {run['source']} is not complete: {known}"
        console.print(text, highlight=False, markup=False)
    if not report.totals["photos"]:
        return
    price = f"{report.usd_per_gb_month:.3f} USD per GiB and month"
    console.print(f"worth {report.saved_usd_per_month:,.2f} USD a month, at {price}", highlight=False)
    if report.totals["encoded"]:
        _print_quality(report, console)
    if report.by_reason:
        _print_by_reason(report, console)
    title = "By folder" if report.folders <= _SHOWN else f"By folder, {_SHOWN} of {report.folders}"
    _print_groups(title, "folder", report.by_folder[:_SHOWN], console)
    _print_groups("By format", "format", report.by_format, console)
    _print_groups("By megapixels", "megapixels", report.by_megapixels, console)
    for title, rows in (("Most saved", report.most_saved), ("Lowest MS-SSIM", report.worst_quality)):
        table = Table("photo", "saved", "bits per pixel", "MS-SSIM", title=title, title_justify="left")
        for row in rows:
            saved, rate, quality = (row[key] for key in ("saved_bytes", "bits_per_pixel", "ms_ssim"))
            table.add_row(escape(row["source_uri"]), format_bytes(saved), _fixed(rate, 3), _fixed(quality, 4))
        console.print(table)
    print_failed(report, console, _SHOWN)


def print_totals(report: AuditReport, console: Console) -> None:
    totals = report.totals
    counts = f"{totals['encoded']} encoded, {totals['kept']} kept, {totals['failed']} failed"
    console.print(f"{totals['photos']} files: {counts}", highlight=False)
    if totals["source_bytes"]:
        share = totals["saved_bytes"] / totals["source_bytes"]
        before, after = format_bytes(totals["source_bytes"]), format_bytes(totals["bytes_after"])
        console.print(f"{before} before, {after} after: {share:.1%} saved", highlight=False)
    if totals["encoded"]:
        rate, quality = _fixed(totals["mean_bits_per_pixel"], 3), _fixed(totals["mean_ms_ssim"], 4)
        console.print(f"mean of encoded photos: {rate} bits per pixel, MS-SSIM {quality}")


def print_failed(report: AuditReport, console: Console, most: int = LISTED) -> None:
    """Names failed files, at most so many, and says how many more there are."""
    shown = report.failed[:most]
    for row in shown:
        console.print(f"failed: {row['source_uri']}: {row['reason']}", highlight=False, markup=False)
    if (more := report.totals["failed"] - len(shown)) > 0:
        console.print(f"failed: {more} more files")


def format_bytes(count: int) -> str:
    return f"-{decimal(-count)}" if count < 0 else decimal(count)


def _fixed(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _print_quality(report: AuditReport, console: Console) -> None:
    for line in _MEASURES:
        console.print(line, highlight=False)
    names = [f"p{percentile}" for percentile in _PERCENTILES]
    table = Table("encoded photos", *names, "worst", title="Quality", title_justify="left")
    rows = (("MS-SSIM", report.ms_ssim, 4), ("bits per pixel", report.bits_per_pixel, 3))
    for title, figures, digits in rows:
        table.add_row(title, *(_fixed(figures[name], digits) for name in (*names, "worst")))
    console.print(table)
    for row in report.by_target:
        target, encoded, worst = row["target_ms_ssim"], row["encoded"], _fixed(row["worst_ms_ssim"], 4)
        if target is None:
            text = f"no target of MS-SSIM was set for {encoded} encoded photos; the lowest has {worst}"
        else:
            reached = f"{encoded - row['below_target']} of {encoded} encoded photos reach it"
            text = f"target MS-SSIM {target}: {reached}, the lowest has {worst}"
        console.print(text, highlight=False)


def _print_by_reason(report: AuditReport, console: Console) -> None:
    table = Table("status", "files", "bytes", "reason", "example", title="By reason", title_justify="left")
    for row in report.by_reason[:_SHOWN]:
        size = format_bytes(row["source_bytes"])
        table.add_row(
            row["status"], str(row["photos"]), size, escape(row["reason"] or ""), escape(row["example"])
        )
    console.print(table)
    if (more := report.reasons - _SHOWN) > 0:
        console.print(f"and {more} more reasons")


def _print_groups(title: str, key: str, groups: list[dict[str, Any]], console: Console) -> None:
    columns = (key, "files", "encoded", "kept", "failed", "before", "after", "saved", "bits/pixel", "MS-SSIM")
    table = Table(*columns, title=title, title_justify="left")
    for group in groups:
        counts = [str(group[name]) for name in ("photos", "encoded", "kept", "failed")]
        sizes = [format_bytes(group[name]) for name in ("source_bytes", "bytes_after", "saved_bytes")]
        measured = [_fixed(group["mean_bits_per_pixel"], 3), _fixed(group["mean_ms_ssim"], 4)]
        table.add_row(escape(group[key]), *counts, *sizes, *measured)
    console.print(table)

"""Everything on the page that is read from the manifests."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import duckdb

from pipeline.audit.page.distributions import Distribution, read_distribution
from pipeline.audit.page.folders import Bar, folder_bars
from pipeline.audit.report import AuditReport, format_bytes

MAX_PHOTOS = 2_000  # rows of the table
WORST = 6
_TEXT = 200  # characters of a reason; decoders' messages can be long
_EXTENT = """
    SELECT count(DISTINCT run_id), coalesce(strftime(max(finished_at), '%-d %B %Y, %H:%M UTC'), ''),
        coalesce(min(source_uri), ''), coalesce(max(source_uri), '')
    FROM latest
"""
_COLUMNS = (
    "source_uri, status, source_format, width, height, source_bytes, source_bytes - saved_bytes, "
    f"round(bits_per_pixel, 4), round(ms_ssim, 5), left(reason, {_TEXT})"
)
# If there are more photos than these, the table has the first ones by each of these orders.
_BY_CHANCE = "hash(source_uri)"  # the same ones each time
_AT_RANDOM = MAX_PHOTOS - 900
_SAMPLES = (
    (_AT_RANDOM, "status = 'encoded'", _BY_CHANCE),
    (150, "status = 'kept'", "source_uri"),
    (150, "status = 'failed'", "source_uri"),
    (300, "status = 'encoded'", "ms_ssim, source_uri"),
    (300, "status = 'encoded'", "saved_bytes DESC, source_uri"),
)
_SETTINGS = "SELECT DISTINCT settings FROM latest WHERE status = 'encoded'"


@dataclass(frozen=True)
class Photos:
    """The photos of the table and the scatter.

    Attributes:
        root: the beginning of all names, which is cut off.
        rows: values in the order that `photos.js` names; the last is whether the scatter has the photo.
        at_random: the most photos that the scatter may have; None if it has all.
    """

    root: str
    rows: list[list[Any]]
    at_random: int | None


@dataclass(frozen=True)
class WorstPhoto:
    """What is needed to find and show an encoded photo; names as in the manifest."""

    source_uri: str
    source_fingerprint: str | None
    source_bytes: int
    rgc_uri: str
    rgc_bytes: int
    width: int
    height: int
    iterations: int
    bits_per_pixel: float
    ms_ssim: float


@dataclass(frozen=True)
class Content:
    """What the page shows besides the audit's report.

    Attributes:
        answer: the result in one sentence.
        runs: how many runs have latest rows.
        finished: when the last photo was finished; empty if there is none.
    """

    answer: str
    runs: int
    finished: str
    ms_ssim: Distribution | None
    bits_per_pixel: Distribution | None
    folders: list[Bar]
    photos: Photos
    worst: list[WorstPhoto]


def size(count: int) -> str:
    """Bytes as on the terminal, with a space that does not break."""
    return format_bytes(count).replace(" ", "\u00a0")


def read_content(database: duckdb.DuckDBPyConnection, report: AuditReport) -> Content:
    """Reads `latest`; see `open_manifests`."""
    ((runs, finished, first_uri, last_uri),) = database.execute(_EXTENT).fetchall()
    targets = [row["target_ms_ssim"] for row in report.by_target if row["target_ms_ssim"] is not None]
    settings = [json.loads(text) for (text,) in database.execute(_SETTINGS).fetchall()]
    rates = sorted({rate for each in settings if (rate := each.get("max_bits_per_pixel"))})
    return Content(
        answer(report),
        runs,
        finished,
        read_distribution(database, "ms_ssim", targets),
        read_distribution(database, "bits_per_pixel", rates),
        folder_bars(database),
        # All names lie between these two, so what they have in common all have.
        _read_photos(database, report.totals["photos"], os.path.commonprefix([first_uri, last_uri])),  # noqa: RUF071
        _read_worst(database),
    )


def answer(report: AuditReport) -> str:
    """What was saved at which quality, in one sentence."""
    totals = report.totals
    if not totals["photos"]:
        return "There is no file to show."
    files = "1 file" if totals["photos"] == 1 else f"{totals['photos']:,} files"
    if not totals["encoded"]:
        return f"Nothing is saved: of {files} none is encoded."
    share = totals["saved_bytes"] / max(totals["source_bytes"], 1)
    sizes = f"{size(totals['source_bytes'])} to {size(totals['bytes_after'])}"
    return f"{share:.1%} saved: {files} went from {sizes}{_quality(report)}."


def _quality(report: AuditReport) -> str:
    encoded, targets = report.totals["encoded"], report.by_target
    if below := sum(row["below_target"] for row in targets):
        return f", but of {encoded:,} encoded ones {below:,} did not reach the target"
    if all(row["target_ms_ssim"] is not None for row in targets):
        named = f"MS-SSIM {targets[0]['target_ms_ssim']:g}" if len(targets) == 1 else "its target"
        return f", and every encoded one reaches {named}"
    median = report.ms_ssim["p50"]
    return "" if median is None else f", at a median MS-SSIM of {median:.4f}"


def _read_photos(database: duckdb.DuckDBPyConnection, photos: int, prefix: str) -> Photos:
    fits, root = photos <= MAX_PHOTOS, prefix[: prefix.rfind("/") + 1]
    rows: dict[str, list[Any]] = {}
    for is_drawn, sql in _samples(fits):
        for uri, *values in database.execute(sql).fetchall():
            rows.setdefault(uri, [uri.removeprefix(root), *values, is_drawn])
    return Photos(root, list(rows.values()), None if fits else _AT_RANDOM)


def _samples(fits: bool) -> Iterator[tuple[bool, str]]:
    """Queries for rows, and whether the scatter has them."""
    if fits:
        yield True, f"SELECT {_COLUMNS} FROM latest ORDER BY source_uri"
        return
    for count, condition, order in _SAMPLES:
        is_drawn = order == _BY_CHANCE
        yield is_drawn, f"SELECT {_COLUMNS} FROM latest WHERE {condition} ORDER BY {order} LIMIT {count}"


def _read_worst(database: duckdb.DuckDBPyConnection) -> list[WorstPhoto]:
    columns = list(WorstPhoto.__dataclass_fields__)
    known = " AND ".join(f"{column} IS NOT NULL" for column in columns if column != "source_fingerprint")
    rows = database.execute(
        f"SELECT {', '.join(columns)} FROM latest WHERE status = 'encoded' AND {known} "
        f"ORDER BY ms_ssim, source_uri LIMIT {WORST}"
    )
    return [WorstPhoto(*row) for row in rows.fetchall()]

"""What the page says: everything on it that is read from the manifests."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import duckdb
from rich.filesize import decimal

from pipeline.audit import BELOW_TARGET, BY_REASON
from pipeline.manifests import query
from pipeline.page.distributions import Distribution, read_distribution
from pipeline.page.folders import Bar, folder_bars

MAX_PHOTOS = 2_000  # rows of the table
WORST = 6
_TEXT = 200  # characters of a reason; what decoders say can be long
_TOTALS = """
    SELECT count(*),
        count(*) FILTER (status = 'encoded'),
        count(*) FILTER (status = 'kept'),
        count(*) FILTER (status = 'failed'),
        coalesce(sum(source_bytes), 0)::BIGINT,
        coalesce(sum(saved_bytes), 0)::BIGINT,
        count(DISTINCT run_id),
        epoch_us(max(finished_at)),
        coalesce(min(source_uri), ''),
        coalesce(max(source_uri), '')
    FROM latest
"""
_COLUMNS = (
    "source_uri, status, source_format, width, height, source_bytes, source_bytes - saved_bytes, "
    f"round(bits_per_pixel, 4), round(ms_ssim, 5), left(reason, {_TEXT})"
)
# Of many photos the table has the first of each of these orders.
_BY_CHANCE = "hash(source_uri)"  # the same ones each time
_AT_RANDOM = MAX_PHOTOS - 900
_SAMPLES = (
    (_AT_RANDOM, "status = 'encoded'", _BY_CHANCE),
    (300, "status <> 'encoded'", "status, source_uri"),
    (300, "status = 'encoded'", "ms_ssim, source_uri"),
    (300, "status = 'encoded'", "saved_bytes DESC, source_uri"),
)
_TARGETS = f"""
    SELECT target_ms_ssim, count(*), count(*) FILTER ({BELOW_TARGET})
    FROM latest WHERE status = 'encoded' AND target_ms_ssim IS NOT NULL
    GROUP BY target_ms_ssim ORDER BY target_ms_ssim
"""
_SETTINGS = "SELECT DISTINCT settings FROM latest WHERE status = 'encoded'"


@dataclass(frozen=True)
class Totals:
    """`finished_us` is when the last photo was; the URIs are the first and the last by the alphabet."""

    photos: int
    encoded: int
    kept: int
    failed: int
    before: int
    saved: int
    runs: int
    finished_us: int | None
    first_uri: str
    last_uri: str

    @property
    def after(self) -> int:
        return self.before - self.saved

    @property
    def finished(self) -> str:
        if self.finished_us is None:
            return ""
        time = datetime.fromtimestamp(self.finished_us / 1e6, UTC)
        return f"{time.day} {time:%B %Y, %H:%M} UTC"

    @property
    def share(self) -> float:
        return self.saved / self.before if self.before else 0.0


@dataclass(frozen=True)
class Target:
    """An MS-SSIM that was asked for, of how many encoded photos, and how many of them are below it."""

    ms_ssim: float
    photos: int
    below: int


@dataclass(frozen=True)
class Photos:
    """The photos of the table and the scatter.

    Attributes:
        root: begins all names, and is cut off them.
        rows: values in the order that `table.js` names; the last is whether the scatter has the photo.
        at_random: how many the scatter was to have at most; None if it has all.
    """

    root: str
    rows: list[list[Any]]
    at_random: int | None


@dataclass(frozen=True)
class WorstPhoto:
    """What finding and showing an encoded photo takes; names as in the manifest."""

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
    """All of it. `reasons` as `BY_REASON` has them; `skipped` are manifest files, and why."""

    totals: Totals
    targets: list[Target]
    ms_ssim: Distribution | None
    bits_per_pixel: Distribution | None
    folders: list[Bar]
    reasons: list[dict[str, Any]]
    photos: Photos
    worst: list[WorstPhoto]
    skipped: list[tuple[str, str]]

    @property
    def answer(self) -> str:
        totals = self.totals
        if not totals.photos:
            return "There is no photo to show."
        photos = "1 photo" if totals.photos == 1 else f"{totals.photos:,} photos"
        if not totals.encoded:
            return f"Nothing is saved: of {photos} none is encoded."
        sizes = f"{photos} went from {size(totals.before)} to {size(totals.after)}"
        return f"{totals.share:.1%} saved: {sizes}{self._quality()}."

    def _quality(self) -> str:
        if below := sum(target.below for target in self.targets):
            return f", but of {self.totals.encoded:,} encoded ones {below:,} did not reach the target"
        if sum(target.photos for target in self.targets) == self.totals.encoded:
            named = f"MS-SSIM {self.targets[0].ms_ssim:g}" if len(self.targets) == 1 else "its target"
            return f", and every encoded one reaches {named}"
        return "" if self.ms_ssim is None else f", at a median MS-SSIM of {self.ms_ssim.median:.4f}"


def size(count: int) -> str:
    """As the terminal writes bytes, but never broken across lines."""
    return decimal(count).replace(" ", "\u00a0")


def read_content(database: duckdb.DuckDBPyConnection) -> Content:
    """Reads `latest`; see `open_manifests`."""
    totals = Totals(*database.execute(_TOTALS).fetchall()[0])
    targets = [Target(*row) for row in database.execute(_TARGETS).fetchall()]
    settings = [json.loads(text) for (text,) in database.execute(_SETTINGS).fetchall()]
    rates = sorted({rate for each in settings if (rate := each.get("max_bits_per_pixel"))})
    return Content(
        totals,
        targets,
        read_distribution(database, "ms_ssim", [target.ms_ssim for target in targets]),
        read_distribution(database, "bits_per_pixel", rates),
        folder_bars(database),
        query(database, BY_REASON),
        _read_photos(database, totals),
        _read_worst(database),
        database.execute("SELECT uri, reason FROM skipped ORDER BY uri").fetchall(),
    )


def _read_photos(database: duckdb.DuckDBPyConnection, totals: Totals) -> Photos:
    root = _common_folder(totals.first_uri, totals.last_uri)
    fits = totals.photos <= MAX_PHOTOS
    rows: dict[str, list[Any]] = {}
    for is_drawn, sql in _samples(fits):
        for uri, *values in database.execute(sql).fetchall():
            rows.setdefault(uri, [uri.removeprefix(root), *values, is_drawn])
    return Photos(root, list(rows.values()), None if fits else _AT_RANDOM)


def _common_folder(first: str, last: str) -> str:
    """What begins all that lies between the two by the alphabet, up to a slash."""
    equal = 0
    while equal < min(len(first), len(last)) and first[equal] == last[equal]:
        equal += 1
    return first[: first.rfind("/", 0, equal) + 1]


def _samples(fits: bool) -> Iterator[tuple[bool, str]]:
    """Queries for rows, and whether the scatter has them."""
    if fits:
        yield True, f"SELECT {_COLUMNS} FROM latest ORDER BY source_uri"
        return
    for count, condition, order in _SAMPLES:
        is_drawn = order == _BY_CHANCE
        yield is_drawn, f"SELECT {_COLUMNS} FROM latest WHERE {condition} ORDER BY {order} LIMIT {count}"


def _read_worst(database: duckdb.DuckDBPyConnection) -> list[WorstPhoto]:
    columns = ", ".join(WorstPhoto.__dataclass_fields__)
    rows = database.execute(
        f"SELECT {columns} FROM latest WHERE status = 'encoded' ORDER BY ms_ssim, source_uri LIMIT {WORST}"
    )
    return [WorstPhoto(*row) for row in rows.fetchall()]

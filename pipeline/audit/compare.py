"""Two runs on the same photos side by side: bytes, quality, speed, and the photos that changed most."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipeline.audit.manifests import (
    ManifestError,
    create_latest,
    data_errors,
    find_manifests,
    literal,
    manifest_uris,
    new_database,
    query,
    read_files,
)
from pipeline.audit.report import format_bytes
from transforms.storage.files import is_remote

_CHANGED = 10
_MADE_BY = """
    SELECT model, settings, count(*) AS rows FROM {side} GROUP BY ALL ORDER BY rows DESC, settings LIMIT 5
"""
# A photo whose file changed between the runs is not the same photo.
_BOTH = """
    CREATE TEMP TABLE common AS
    SELECT source_uri, before.status AS before_status, after.status AS after_status,
        before.source_bytes, before.saved_bytes AS before_saved, after.saved_bytes AS after_saved,
        before.bits_per_pixel AS before_bpp, after.bits_per_pixel AS after_bpp,
        before.ms_ssim AS before_ms_ssim, after.ms_ssim AS after_ms_ssim,
        before.encode_seconds AS before_seconds, after.encode_seconds AS after_seconds, after.megapixels,
        before.source_bytes = after.source_bytes
            AND coalesce(before.source_sha256 = after.source_sha256, TRUE) AS same
    FROM before JOIN after USING (source_uri)
"""
_COUNTS = """
    SELECT (SELECT count(*) FROM common WHERE same) AS photos,
        (SELECT count(*) FROM common WHERE NOT same) AS changed,
        (SELECT count(*) FROM before) - (SELECT count(*) FROM common) AS only_before,
        (SELECT count(*) FROM after) - (SELECT count(*) FROM common) AS only_after
"""
# Bytes of all photos; rate and quality only of those that both encoded, speed only of those that both timed:
# a run that keeps the hard photos would look better than it is.
_SIDE = """
    SELECT count(*) FILTER ({side}_status = 'encoded') AS encoded,
        count(*) FILTER ({side}_status = 'kept') AS kept,
        count(*) FILTER ({side}_status = 'failed') AS failed,
        coalesce(sum(source_bytes - {side}_saved), 0)::BIGINT AS bytes_after,
        coalesce(sum({side}_saved), 0)::BIGINT AS saved_bytes,
        avg({side}_bpp) FILTER (encoded_twice) AS mean_bits_per_pixel,
        avg({side}_ms_ssim) FILTER (encoded_twice) AS mean_ms_ssim,
        quantile_cont({side}_ms_ssim, 0.05) FILTER (encoded_twice) AS p5_ms_ssim,
        min({side}_ms_ssim) FILTER (encoded_twice) AS worst_ms_ssim,
        sum(megapixels) FILTER (timed_twice) / nullif(sum({side}_seconds) FILTER (timed_twice), 0)
            AS megapixels_per_second
    FROM (
        SELECT *, before_bpp IS NOT NULL AND after_bpp IS NOT NULL AS encoded_twice,
            before_seconds IS NOT NULL AND after_seconds IS NOT NULL AS timed_twice
        FROM common WHERE same
    )
"""
_MOVED = """
    SELECT before_status AS before, after_status AS after, count(*) AS photos
    FROM common WHERE same AND before_status <> after_status GROUP BY ALL ORDER BY photos DESC
"""
_CHANGED_MOST = """
    SELECT source_uri, {columns} FROM common
    WHERE same AND {after} <> {before} ORDER BY abs({after} - {before}) DESC, source_uri LIMIT {limit}
"""


@dataclass(frozen=True)
class Comparison:
    """Two runs, ready for JSON; the keys are those of the queries above.

    Attributes:
        counts: photos in both runs, photos whose file changed in between, which are left out of everything
            else, and photos in one run only.
        before_made_by, after_made_by: the models and settings of each run's rows, the most frequent first.
        before, after: figures of each run on the photos in both.
        moved: photos whose status changed.
        bytes_changed: photos whose size changed most, in bytes.
        quality_changed: photos whose MS-SSIM changed most.
    """

    counts: dict[str, Any]
    before_made_by: list[dict[str, Any]]
    after_made_by: list[dict[str, Any]]
    before: dict[str, Any]
    after: dict[str, Any]
    moved: list[dict[str, Any]]
    bytes_changed: list[dict[str, Any]]
    quality_changed: list[dict[str, Any]]
    skipped: list[dict[str, Any]]


def compare(manifests: Sequence[str], run: str, where: str | None = None) -> Comparison:
    """Compares an earlier run with the latest rows of the other runs.

    Args:
        manifests, where: see `open_manifests`; `where` applies to both sides.
        run: the earlier run: its folder, another manifest, or the id of a run in `manifests`.

    Raises:
        ManifestError: `run` is neither a manifest nor a run's id; and see `open_manifests`.
        WhereError: see `open_manifests`.
    """
    with new_database() as (database, scratch):
        files = find_manifests(database, manifests, scratch)
        if manifest_uris(run):
            earlier, rows, earlier_rows = find_manifests(database, [run], scratch), "TRUE", "TRUE"
            known = {_full(file.uri) for file in earlier}
            files = [file for file in files if _full(file.uri) not in known]
        else:
            run_id = literal(run.removeprefix("run="))
            earlier, rows, earlier_rows = files, f"run_id <> {run_id}", f"run_id = {run_id}"
        with data_errors([*files, *earlier], where):
            named = ", ".join(manifests)
            if not query(database, f"{read_files(earlier)} WHERE {earlier_rows} LIMIT 1"):
                raise ManifestError(f"{run}: no manifest there, and no run of that name in {named}")
            if not files or not query(database, f"{read_files(files)} WHERE {rows} LIMIT 1"):
                raise ManifestError(f"{run}: nothing to compare with: no other run in {named}")
            create_latest(database, "before", earlier, earlier_rows, where)
            create_latest(database, "after", files, rows, where)
            database.execute(_BOTH)
            return Comparison(
                counts=query(database, _COUNTS)[0],
                before_made_by=query(database, _MADE_BY.format(side="before")),
                after_made_by=query(database, _MADE_BY.format(side="after")),
                before=query(database, _SIDE.format(side="before"))[0],
                after=query(database, _SIDE.format(side="after"))[0],
                moved=query(database, _MOVED),
                bytes_changed=query(database, _changed_most("saved")),
                quality_changed=query(database, _changed_most("ms_ssim")),
                skipped=query(database, "FROM skipped ORDER BY uri"),
            )


def _full(uri: str) -> str:
    """The same for one file, however its path is spelled."""
    return uri if is_remote(uri) else os.path.realpath(uri)


def _changed_most(figure: str) -> str:
    before, after = f"before_{figure}", f"after_{figure}"
    columns = f"{before}, {after}"
    if figure == "saved":
        columns = f"source_bytes - {before} AS before_bytes, source_bytes - {after} AS after_bytes"
    return _CHANGED_MOST.format(columns=columns, before=before, after=after, limit=_CHANGED)


def print_comparison(comparison: Comparison, console: Console) -> None:
    counts = comparison.counts
    console.print(
        f"{counts['photos']} files in both runs; {counts['only_before']} only before, "
        f"{counts['only_after']} only after, {counts['changed']} that were changed in between",
        highlight=False,
    )
    for side, made_by in (("before", comparison.before_made_by), ("after", comparison.after_made_by)):
        for row in made_by:
            text = f"{side}: {row['rows']} rows of model {row['model']}, {row['settings']}"
            console.print(text, highlight=False, markup=False)
    table = Table("", "before", "after")
    for name, before in comparison.before.items():
        sides = (before, comparison.after[name])
        table.add_row(
            name.replace("ms_ssim", "MS-SSIM").replace("_", " "), *(_figure(name, value) for value in sides)
        )
    console.print(table)
    for row in comparison.moved:
        console.print(f"{row['photos']} files: {row['before']} before, {row['after']} after", highlight=False)
    _print_changed("Bytes changed most", comparison.bytes_changed, console)
    _print_changed("MS-SSIM changed most", comparison.quality_changed, console)


def _print_changed(title: str, rows: list[dict[str, Any]], console: Console) -> None:
    if rows:
        table = Table("photo", "before", "after", title=title, title_justify="left")
        for row in rows:
            uri, *sides = row.items()
            table.add_row(escape(uri[1]), *(_figure(name, value) for name, value in sides))
        console.print(table)


def _figure(name: str, value: float | None) -> str:
    if value is None:
        return ""
    if "bytes" in name:
        return format_bytes(int(value))
    if isinstance(value, int):
        return str(value)
    return f"{value:.4f}" if "ms_ssim" in name else f"{value:.3f}"

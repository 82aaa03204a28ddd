"""Figures of folders with everything below them, as many as a page can hold."""

from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import duckdb

MAX_FOLDERS = 1_000
_HERE, _SMALLER = "files in this folder itself", "smaller folders"
# Paths get a slash in front, so that "" is the parent of all of them, absolute, relative or gs://.
# A folder has at least the bytes of each folder in it, so the first rows of this order are a tree.
_TREE = """
    WITH leaves AS (
        SELECT '/' || folder AS path, string_split(path, '/') AS parts, count(*) AS photos,
            sum(source_bytes)::BIGINT AS before, sum(saved_bytes)::BIGINT AS saved
        FROM latest GROUP BY folder
    ), tree AS (
        SELECT array_to_string(parts[:depth], '/') AS path, depth, sum(photos)::BIGINT AS photos,
            sum(before)::BIGINT AS before, sum(saved)::BIGINT AS saved
        FROM (SELECT *, unnest(range(1, len(parts) + 1)) AS depth FROM leaves) GROUP BY ALL
    )
    SELECT path, tree.photos, tree.before, tree.saved,
        coalesce(leaves.photos, 0), coalesce(leaves.before, 0), coalesce(leaves.saved, 0)
    FROM tree LEFT JOIN leaves USING (path) ORDER BY tree.before DESC, depth, path LIMIT $limit
"""


@dataclass(frozen=True)
class Bar:
    """A folder, the files in `parent` itself, or the folders there that the page has no room for.

    Attributes:
        parent: index of the bar that opens to show this one; None for the first.
        photos, before, saved: how many files, bytes before, bytes saved.
        is_rest: the bar is of the folders that the page has no room for.
    """

    parent: int | None
    name: str
    photos: int
    before: int
    saved: int
    is_rest: bool = False


class _Figures(NamedTuple):
    photos: int
    before: int
    saved: int

    def less(self, others: "Iterable[_Figures]") -> "_Figures":
        return _Figures(*(mine - sum(theirs) for mine, *theirs in zip(self, *others, strict=True)))


def folder_bars(database: duckdb.DuckDBPyConnection, limit: int = MAX_FOLDERS) -> list[Bar]:
    """Bars of a tree, parents first. A folder that holds only one folder is joined with it: "2019/summer"."""
    totals: dict[str, _Figures] = {}
    here: dict[str, _Figures] = {}
    folders_in: dict[str, list[str]] = defaultdict(list)
    for path, *figures in database.execute(_TREE, {"limit": limit}).fetchall():
        totals[path], here[path] = _Figures(*figures[:3]), _Figures(*figures[3:])
        if path:
            folders_in[path.rpartition("/")[0]].append(path)
    bars: list[Bar] = []
    to_do: deque[tuple[str, int | None, str]] = deque([("", None, "")] if totals else [])
    while to_do:
        path, parent, above = to_do.popleft()
        inside = folders_in[path]
        if len(inside) == 1 and totals[inside[0]] == totals[path]:
            to_do.append((inside[0], parent, above))
            continue
        index = len(bars)
        bars.append(Bar(parent, path[len(above) + 1 :] or "everything", *totals[path]))
        if inside:
            smaller = totals[path].less([here[path], *(totals[folder] for folder in inside)])
            parts = (Bar(index, _HERE, *here[path]), Bar(index, _SMALLER, *smaller, True))
            bars += [bar for bar in parts if bar.photos]
            to_do += [(folder, index, path) for folder in inside]
    return bars

"""The rows that earlier runs have left of photos, a bounded part of them in memory."""

import logging
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from tempfile import TemporaryDirectory
from weakref import WeakValueDictionary

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from transforms.manifest.reading import local_copy
from transforms.manifest.rows import Run
from transforms.manifest.schema import SCHEMA, ColumnsError, NewerManifestError, with_all_columns

_LOG = logging.getLogger(__name__)
_DOWNLOADS = 8  # at a time, of some 40 MB each
_COPYING = threading.Lock()  # else each of a worker's threads would make its own copies
_UNREADABLE = (pa.ArrowException, OSError, ColumnsError, NewerManifestError)


class EarlierRows:
    """The rows of `files`; where a photo has several, the first file's come first.

    Rows count if their model and settings are `run`'s and their URIs begin with `base`. Rows that `failed` do
    not: these photos are tried again. Files that cannot be read are passed over.

    Files are sorted by URI. If photos are asked for in that order, neighbours together, each row group is
    read once, and one group of each file is held in memory.
    """

    def __init__(self, files: Sequence[str], run: Run, base: str) -> None:
        with _COPYING:
            self._copies = _IN_USE.get(tuple(files)) or _Copies(files)
            _IN_USE[tuple(files)] = self._copies
        same_work = (pc.field("model") == run.model) & (pc.field("settings") == run.settings)
        of_these = pc.starts_with(pc.field("source_uri"), base) & (pc.field("status") != "failed")
        opened = (_open(uri, path, same_work & of_these) for uri, path in self._copies.paths.items())
        self._files = [file for file in opened if file is not None]

    def of(self, uris: Sequence[str]) -> pa.Table:
        """The rows of photos, with `SCHEMA`'s columns; `uris` are in order."""
        wanted = pa.array(uris, pa.string())
        found = [part for file in self._files for part in file.parts(uris[0], uris[-1], wanted)]
        return pa.concat_tables([SCHEMA.empty_table(), *found])


class _SortedFile:
    def __init__(self, uri: str, path: str, bounds: list[tuple[str, str]], counts: pc.Expression) -> None:
        self._uri = uri
        self._path = path
        self._bounds = bounds  # first and last URI of each row group
        self._counts = counts
        self._held: dict[int, pa.Table] = {}

    def parts(self, first: str, last: str, wanted: pa.Array) -> Iterator[pa.Table]:
        held, self._held = self._held, {}
        for n, (low, high) in enumerate(self._bounds):
            if low <= last and first <= high:
                group = held[n] if n in held else self._read(n)
                if high > last:
                    self._held[n] = group
                # There may be very many others between them, if originals were deleted.
                yield group.filter(pc.is_in(group["source_uri"], wanted))

    def _read(self, group: int) -> pa.Table:
        try:
            with pq.ParquetFile(self._path) as file:
                return with_all_columns(file.read_row_group(group)).filter(self._counts)
        except _UNREADABLE as error:
            _LOG.warning("%s: a part cannot be read and is passed over: %s", self._uri, error)
            return SCHEMA.empty_table()


def _open(uri: str, path: str | None, counts: pc.Expression) -> _SortedFile | None:
    if path is None:
        return None
    try:
        with pq.ParquetFile(path) as file:
            with_all_columns(file.schema_arrow.empty_table())
            column = file.schema_arrow.names.index("source_uri")
            groups = [file.metadata.row_group(n).column(column) for n in range(file.num_row_groups)]
    except _UNREADABLE as error:
        _LOG.warning("%s: cannot be read and is passed over: %s", uri, error)
        return None
    statistics = [group.statistics for group in groups]
    bounds = [(s.min, s.max) if s and s.has_min_max else ("", "\U0010ffff") for s in statistics]
    return _SortedFile(uri, path, bounds, counts)


class _Copies:
    """Files on this machine, for as long as this object lives. What cannot be copied is None."""

    def __init__(self, uris: Sequence[str]) -> None:
        self._folder = TemporaryDirectory(prefix="rgc-manifests-")
        with ThreadPoolExecutor(_DOWNLOADS) as threads:
            paths = threads.map(self._copy, uris)
            self.paths: dict[str, str | None] = dict(zip(uris, paths, strict=True))

    def _copy(self, uri: str) -> str | None:
        try:
            return local_copy(uri, self._folder.name)
        except OSError as error:
            _LOG.warning("%s: cannot be read and is passed over: %s", uri, error)
            return None


_IN_USE: WeakValueDictionary[tuple[str, ...], _Copies] = WeakValueDictionary()

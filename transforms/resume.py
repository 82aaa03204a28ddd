"""Stage 2: skips photos that earlier runs have finished."""

import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import apache_beam as beam
import pyarrow as pa
from apache_beam.pvalue import AsSingleton, TaggedOutput

from model.format.container import RgcError, RgcFile, read_rgc
from transforms.counters import count_retries
from transforms.elements import Photo
from transforms.find import Source
from transforms.manifest.earlier import EarlierRows
from transforms.manifest.reading import manifest_folder
from transforms.manifest.rows import ManifestRow, Run
from transforms.manifest.runs import RunRecord, newest_files
from transforms.manifest.schema import SCHEMA
from transforms.manifest.writing import table_of
from transforms.storage.files import find_statuses, join, read_bytes
from transforms.storage.gcs import CONNECTIONS
from transforms.storage.status import Status
from transforms.threaded_map import windowed

_LOG = logging.getLogger(__name__)

DONE = "done"
TO_DO = "to_do"
_SUFFIX = ".rgc"
_CHUNK = 5_000  # photos looked at together; with rows and files, some 10 MB
_LISTED = 1_000  # of their files in one request, beside the others
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Earlier(NamedTuple):
    """What tells whether an earlier row still holds; see `SCHEMA`. Microseconds are since 1970."""

    source_fingerprint: str
    status: str
    rgc_bytes: int | None
    finished_us: int


def rgc_uri(output: str, photo: Photo) -> str:
    """Where a photo's .rgc file belongs."""
    return join(output, f"codes/{photo.relative}{_SUFFIX}")


def is_known(photo: Photo, there: Status | None, earlier: Earlier) -> bool:
    """Whether the row of an earlier run with this model and these settings still holds.

    That run made the .rgc file that is there, and it has not been written since; or it kept the original.
    Else the file has to be read.

    Args:
        there: the file at the photo's `rgc_uri`.
    """
    if earlier.source_fingerprint != photo.fingerprint:
        return False
    if there is None:
        return earlier.status == "kept"
    return earlier.rgc_bytes == there.size and earlier.finished_us >= _microseconds(there.modified)


def row_of_file(run: Run, photo: Photo, there: Status, earlier: ManifestRow | None) -> ManifestRow | None:
    """The row of a photo whose .rgc file was made of the same source, by the same model and settings.

    None if it was not, or cannot be read.

    Args:
        earlier: the row of an earlier run, if there is one, for what the file does not say.
    """
    try:
        code = read_code(there)
    except OSError:
        return None
    row = row_of_code(run, photo, there, code)
    if row is not None and earlier is not None and earlier.rgc_sha256 == row.rgc_sha256:
        return replace(row, finished_at=earlier.finished_at, encode_seconds=earlier.encode_seconds)
    return row


@dataclass(frozen=True)
class Code:
    """A .rgc file and its bytes."""

    data: bytes
    file: RgcFile


def read_code(there: Status) -> Code | None:
    """The file at a photo's `rgc_uri`; None, and a warning, if it is no .rgc file.

    Raises:
        OSError: it cannot be read, or was replaced.
    """
    data = read_bytes(there.uri, fingerprint=there.fingerprint)
    try:
        return Code(data, read_rgc(data, there.uri))
    except RgcError as error:
        _LOG.warning("%s; it is encoded again", error)
        return None


def row_of_code(run: Run, photo: Photo, there: Status, code: Code | None) -> ManifestRow | None:
    """A row rebuilt from a .rgc file; None if the file is not what `run` would make of the photo."""
    if code is None or not _is_of(code.file, run, photo):
        return None
    return ManifestRow.encoded(
        run, photo, there.uri, code.file, code.data, there.modified, encode_seconds=None
    )


def is_of_another_photo(file: RgcFile, photo: Photo, sha256: str) -> bool:
    """Whether a .rgc file was made of neither these bytes nor an earlier file at the photo's URI."""
    source = file.source
    return source is not None and source.sha256 != sha256 and source.uri_sha256 != photo.uri_sha256()


def _is_of(file: RgcFile, run: Run, photo: Photo) -> bool:
    if file.source is None or len(file.codes) < len(file.ms_ssim):
        return False
    made_of = (file.source.fingerprint, file.model_id, file.source.settings)
    return made_of == (photo.fingerprint, run.model, run.settings)


class SkipFinished(beam.PTransform):
    """Splits photos into rows that are `DONE`, as tables, and photos `TO_DO`.

    Photos are looked at some thousand neighbours at a time: their .rgc files are listed, and their rows are
    looked up in the files of earlier runs, both from the first name to the last. So memory hardly depends on
    how many there are, and the first photo need not wait for the last.

    Args:
        stop_path: see `ThreadedMap`.
    """

    def __init__(self, run: Run, output: str, source: Source, stop_path: str | None = None) -> None:
        super().__init__()
        self._wanted = RunRecord(run.run_id, source.uri, run.model, run.settings)
        self._output = output
        self._skip = _Skip(run, output, source.base, stop_path)

    def expand(self, photos: beam.PCollection[Photo]) -> Any:
        earlier = (
            photos.pipeline
            | beam.Create([manifest_folder(self._output)])
            | "NewestManifests" >> beam.Map(newest_files, self._wanted)
        )
        return photos | beam.ParDo(self._skip, AsSingleton(earlier)).with_outputs(DONE, TO_DO)


class _Skip(beam.DoFn):
    def __init__(self, run: Run, output: str, base: str, stop_path: str | None) -> None:
        self._run = run
        self._output = output
        self._base = base
        self._stop_path = stop_path

    def setup(self) -> None:
        self._threads = ThreadPoolExecutor(CONNECTIONS)
        self._earlier: EarlierRows | None = None

    def start_bundle(self) -> None:
        self._photos: list[Photo] = []

    def process(self, photo: Photo, earlier: list[str]) -> Iterator[TaggedOutput]:
        self._earlier = self._earlier or EarlierRows(earlier, self._run, self._base)
        # Photos that are not in order are no neighbours.
        if self._photos and (len(self._photos) == _CHUNK or photo.uri < self._photos[-1].uri):
            yield from self._split()
        self._photos.append(photo)

    def finish_bundle(self) -> Iterator[TaggedOutput]:
        if self._photos:
            yield from map(windowed, self._split())

    def teardown(self) -> None:
        self._threads.shutdown()
        self._earlier = None

    def _split(self) -> Iterator[TaggedOutput]:
        photos, self._photos = self._photos, []
        if self._stop_path is not None and os.path.exists(self._stop_path):
            return
        assert self._earlier is not None
        rows = self._earlier.of([photo.uri for photo in photos])
        done, to_do = split(self._run, self._output, photos, rows, self._threads)
        count_retries()
        if len(done):
            yield TaggedOutput(DONE, done)
        for photo in to_do:
            yield TaggedOutput(TO_DO, photo)


def split(
    run: Run, output: str, photos: Sequence[Photo], earlier: pa.Table, threads: ThreadPoolExecutor
) -> tuple[pa.Table, list[Photo]]:
    """The rows of photos that need no work in this run, and the other photos.

    Args:
        photos: neighbours: their .rgc files are listed from the first to the last.
        earlier: rows of earlier runs, see `EarlierRows`.
    """
    readable = [photo for photo in photos if not photo.unreadable]
    uris = [rgc_uri(output, photo) for photo in readable]
    there = _find_files(uris, threads)
    known, at = _by_uri(earlier)
    holding: dict[int, str | None] = {}  # rows that still hold, and where the .rgc file is now
    to_read: list[tuple[Photo, Status]] = []
    to_do = [photo for photo in photos if photo.unreadable]
    for photo, uri in zip(readable, uris, strict=True):
        file, row = there.get(uri), at.get(photo.uri)
        if row is not None and is_known(photo, file, known[row]):
            holding[row] = None if file is None else file.uri
        elif file is not None:
            to_read.append((photo, file))
        else:
            to_do.append(photo)

    def read(photo: Photo, file: Status) -> ManifestRow | None:
        row = at.get(photo.uri)
        known = None if row is None else ManifestRow(**earlier.slice(row, 1).to_pylist()[0])
        return row_of_file(run, photo, file, known)

    made = list(threads.map(read, *zip(*to_read, strict=True))) if to_read else []
    to_do += [photo for (photo, _), row in zip(to_read, made, strict=True) if row is None]
    rows = earlier.take(pa.array(holding, pa.int64()))
    for name, values in (("run_id", [run.run_id] * len(rows)), ("rgc_uri", list(holding.values()))):
        column = SCHEMA.get_field_index(name)
        rows = rows.set_column(column, SCHEMA.field(name), pa.array(values, pa.string()))
    return pa.concat_tables([rows, table_of([row for row in made if row is not None])]), to_do


def _find_files(uris: list[str], threads: ThreadPoolExecutor) -> dict[str, Status]:
    parts = threads.map(find_statuses, (uris[n : n + _LISTED] for n in range(0, len(uris), _LISTED)))
    return {uri: status for part in parts for uri, status in part.items()}


def _by_uri(rows: pa.Table) -> tuple[list[Earlier], dict[str, int]]:
    """The rows, and the first one's number for each photo."""
    columns = [rows[name].to_pylist() for name in ("source_fingerprint", "status", "rgc_bytes")]
    times = rows["finished_at"].cast(pa.int64()).to_pylist()
    uris = rows["source_uri"].to_pylist()
    first = {uri: number for number, uri in reversed(list(enumerate(uris)))}
    return list(map(Earlier, *columns, times)), first


def _microseconds(time: datetime) -> int:
    return (time - _EPOCH) // timedelta(microseconds=1)

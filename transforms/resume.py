"""Stage 2: skips photos that earlier runs have finished."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput

from model.format.container import RgcError, RgcFile, read_rgc
from transforms.elements import Photo
from transforms.manifest.reading import manifest_files, manifest_folder, read_rows
from transforms.manifest.rows import ManifestRow, Run
from transforms.storage.files import is_utf8, join, list_folder, read_bytes
from transforms.storage.gcs import CONNECTIONS
from transforms.storage.status import Status
from transforms.threaded_map import ThreadedMap

_LOG = logging.getLogger(__name__)

DONE = "done"
TO_DO = "to_do"
_SUFFIX = ".rgc"


def rgc_uri(output: str, photo: Photo) -> str:
    """Where a photo's .rgc file belongs."""
    return join(_codes(output), f"{photo.relative}{_SUFFIX}")


def finished_row(
    run: Run, photo: Photo, there: Status | None, earlier: ManifestRow | None
) -> ManifestRow | None:
    """The row of a photo that needs no work in this run, or None.

    Its .rgc file was made of the same source by the same model with the same settings, or an earlier run
    with the same source, model and settings kept the original.

    Args:
        there: the file at its `rgc_uri`.
        earlier: the row of an earlier run with this model and these settings, see `read_rows`. It saves
            reading the file, if that has not been written since.
    """
    if earlier is not None and earlier.source_fingerprint != photo.fingerprint:
        earlier = None
    if there is None:
        kept = earlier if earlier is not None and earlier.status == "kept" else None
        return kept and replace(kept, run_id=run.run_id)
    if earlier is not None and earlier.rgc_bytes == there.size and earlier.finished_at >= there.modified:
        return replace(earlier, run_id=run.run_id, rgc_uri=there.uri)
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


def _codes(output: str) -> str:
    return join(output, "codes")


def _is_of(file: RgcFile, run: Run, photo: Photo) -> bool:
    if file.source is None or len(file.codes) < len(file.ms_ssim):
        return False
    made_of = (file.source.fingerprint, file.model_id, file.source.settings)
    return made_of == (photo.fingerprint, run.model, run.settings)


class SkipFinished(beam.PTransform):
    """Splits photos into rows that are `DONE` and photos `TO_DO`.

    OUTPUT is listed once; then a photo without a .rgc file costs no request. Joining photos and files also
    spreads the photos over the workers.

    Args:
        base: see `Source`.
        stop_path: see `ThreadedMap`.
    """

    def __init__(self, run: Run, output: str, base: str, stop_path: str | None = None) -> None:
        super().__init__()
        self._run = run
        self._output = output
        self._base = base
        self._stop_path = stop_path

    def expand(self, photos: beam.PCollection[Photo]) -> Any:
        output = photos.pipeline | beam.Create([self._output])
        files = output | "ListFinished" >> beam.FlatMap(finished_files, self._base)
        earlier = (
            output
            | "ListManifests" >> beam.FlatMap(lambda output: manifest_files(manifest_folder(output)))
            | beam.Reshuffle()
            | "ReadManifests" >> beam.FlatMap(read_rows, self._run, self._base)
            | "ByUri" >> beam.Map(lambda row: (row.source_uri, row))
            | "Latest" >> beam.CombinePerKey(latest)
        )
        keyed = photos | "PhotosByUri" >> beam.Map(lambda photo: (photo.uri, photo))
        split = ThreadedMap(partial(_split, run=self._run), CONNECTIONS, self._stop_path)
        return (
            {"photos": keyed, "files": files, "earlier": earlier}
            | beam.CoGroupByKey()
            | "Joined" >> beam.FlatMap(_joined)
            | "Skip" >> beam.ParDo(split).with_outputs(DONE, TO_DO)
        )


def finished_files(output: str, base: str) -> Iterator[tuple[str, Status]]:
    """The .rgc files in `output`, each with its photo's URI below `base`."""
    codes = join(_codes(output), "")
    for status in list_folder(codes):
        if status.uri.endswith(_SUFFIX) and is_utf8(status.uri):  # photos with other names are not encoded
            yield base + status.uri.removeprefix(codes).removesuffix(_SUFFIX), status


def latest(rows: Iterable[ManifestRow]) -> ManifestRow:
    return max(rows, key=lambda row: (row.run_id, row.finished_at))


def _joined(grouped: tuple[str, dict[str, Any]]) -> Iterator[tuple[Photo, Status | None, ManifestRow | None]]:
    _, found = grouped
    there, earlier = (next(iter(found[name]), None) for name in ("files", "earlier"))
    for photo in found["photos"]:
        yield photo, there, earlier


def _split(joined: tuple[Photo, Status | None, ManifestRow | None], run: Run) -> TaggedOutput:
    photo, there, earlier = joined
    row = finished_row(run, photo, there, earlier)
    return TaggedOutput(TO_DO, photo) if row is None else TaggedOutput(DONE, row)

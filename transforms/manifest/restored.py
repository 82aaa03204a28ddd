"""What decompress leaves of a run: a row for each .rgc file, from which the next run knows what is done."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.pvalue import TaggedOutput

from transforms.elements import Photo
from transforms.manifest.reading import SUFFIX, read_table
from transforms.storage.files import find_status, join, list_folder
from transforms.storage.gcs import CONNECTIONS
from transforms.threaded_map import ThreadedMap

_LOG = logging.getLogger(__name__)

DONE, TO_DO = "done", "to_do"
SCHEMA = pa.schema(
    [
        pa.field("rgc_uri", pa.string(), nullable=False),
        pa.field("image_uri", pa.string()),
        pa.field("status", pa.string(), nullable=False),
        pa.field("reason", pa.string()),
        pa.field("left_out", pa.string()),
        pa.field("rgc_bytes", pa.int64(), nullable=False),
        pa.field("rgc_fingerprint", pa.string(), nullable=False),
        pa.field("image_fingerprint", pa.string()),
        pa.field("image_sha256", pa.string()),
        pa.field("format", pa.string(), nullable=False),
        pa.field("iterations", pa.int32()),
        pa.field("pixels", pa.int64(), nullable=False),
        pa.field("run_id", pa.string(), nullable=False),
        pa.field("finished_at", pa.timestamp("us", tz="UTC"), nullable=False),
    ]
)


@dataclass(frozen=True)
class Wanted:
    """What a run makes of each .rgc file: a format as the command line names it, and how many iterations."""

    output: str
    format: str
    iterations: int | None
    run_id: str


@dataclass(frozen=True, slots=True)
class RestoredRow:
    """One row; columns as in `SCHEMA`.

    Attributes:
        status: decoded or failed; `reason` says why.
        left_out: what the image's format has no place for, in words.
        image_sha256: of the image as rgc has written it; None if an equal picture of other bytes was there.
    """

    rgc_uri: str
    status: str
    rgc_bytes: int
    rgc_fingerprint: str
    format: str
    iterations: int | None
    run_id: str
    finished_at: datetime
    image_uri: str | None = None
    image_fingerprint: str | None = None
    image_sha256: str | None = None
    pixels: int = 0
    reason: str | None = None
    left_out: str | None = None


def rows_folder(output: str) -> str:
    """Out of the way of the images, whose names it could have."""
    return join(output, ".rgc")


def read_restored(output: str, wanted: Wanted) -> Iterator[tuple[str, RestoredRow]]:
    """What earlier runs have decoded to the same format; files that cannot be read are passed over."""
    for file in list_folder(rows_folder(output)):
        if not file.uri.endswith(SUFFIX):
            continue
        try:
            table = read_table(file.uri)
            rows = table.to_pylist() if table.schema.equals(SCHEMA) else []
        except (pa.ArrowException, OSError) as error:
            _LOG.warning("%s: cannot be read and is passed over: %s", file.uri, error)
            continue
        for row in rows:
            if row["format"] == wanted.format and row["status"] == "decoded":
                yield row["rgc_uri"], RestoredRow(**row)


def image_there(earlier: Iterable[RestoredRow]) -> RestoredRow | None:
    """The latest row whose image is there as that run has left it."""
    for row in sorted(earlier, key=lambda row: row.run_id, reverse=True):
        if row.image_uri is None:
            continue
        try:
            there = find_status(row.image_uri)
        except OSError:
            continue
        if there is not None and there.fingerprint == row.image_fingerprint:
            return row
    return None


class SkipRestored(beam.PTransform):
    """Splits .rgc files into rows that are `DONE` and files `TO_DO`."""

    def __init__(self, wanted: Wanted, stop_path: str | None) -> None:
        super().__init__()
        self._wanted = wanted
        self._stop_path = stop_path

    def expand(self, files: beam.PCollection[Photo]) -> Any:
        wanted = self._wanted
        earlier = (
            files.pipeline
            | beam.Create([wanted.output])
            | "ReadRestored" >> beam.FlatMap(read_restored, wanted)
        )
        keyed = files | "ByUri" >> beam.Map(lambda photo: (photo.uri, photo))
        split = ThreadedMap(partial(_split, wanted=wanted), CONNECTIONS, self._stop_path)
        return (
            {"files": keyed, "earlier": earlier}
            | beam.CoGroupByKey()
            | "Join"
            >> beam.FlatMapTuple(lambda _, of: [(photo, list(of["earlier"])) for photo in of["files"]])
            | "Skip" >> beam.ParDo(split).with_outputs(DONE, TO_DO)
        )


def _split(joined: tuple[Photo, list[RestoredRow]], wanted: Wanted) -> TaggedOutput:
    photo, earlier = joined
    row = None if photo.unreadable else image_there(earlier)
    if row is None:
        return TaggedOutput(TO_DO, photo)
    if (row.rgc_fingerprint, row.iterations) == (photo.fingerprint, wanted.iterations):
        return TaggedOutput(DONE, replace(row, run_id=wanted.run_id))
    return TaggedOutput(TO_DO, replace(photo, image_sha256=row.image_sha256 or ""))

"""Stage 2: what earlier runs have already done."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput

from model.container import RgcError, RgcFile, read_rgc
from transforms.elements import Photo
from transforms.manifest import ManifestRow, Run, read_rows
from transforms.storage import find_status, join, read_bytes

_LOG = logging.getLogger(__name__)

DONE = "done"
TO_DO = "to_do"


def rgc_uri(output: str, photo: Photo) -> str:
    """Where a photo's .rgc file belongs."""
    return join(output, f"codes/{photo.relative}.rgc")


def finished_row(run: Run, output: str, photo: Photo, earlier: Iterable[ManifestRow]) -> ManifestRow | None:
    """The row of a photo that needs no work in this run, or None; `earlier` are its rows of earlier runs.

    That is so where its .rgc file is there, made of the same source by the same model with the same
    settings, or where an earlier run with all of these the same decided to keep the original.
    """
    earlier = [row for row in earlier if row.source_fingerprint == photo.fingerprint]
    kept = [row for row in earlier if row.status == "kept"]
    uri = rgc_uri(output, photo)
    try:
        status = find_status(uri)
        if status is None:  # else it is of another target, and `write_rgc` removes it
            return replace(kept[-1], run_id=run.run_id) if kept else None
        data = read_bytes(uri)
        file = read_rgc(data, uri)
    except OSError:
        return None
    except RgcError as error:
        _LOG.warning("%s; it is encoded again", error)
        return None
    if not _is_of(file, run, photo):
        return None
    row = ManifestRow.encoded(run, photo, uri, file, data, status.modified, encode_seconds=None)
    same_file = [known for known in earlier if known.rgc_sha256 == row.rgc_sha256]
    return replace(same_file[-1], run_id=run.run_id) if same_file else row


def _is_of(file: RgcFile, run: Run, photo: Photo) -> bool:
    complete = len(file.codes) == len(file.ms_ssim)
    made_of = (file.source.get("fingerprint"), file.model_id, file.source.get("settings"))
    return complete and made_of == (photo.fingerprint, run.model, run.settings)


class SkipFinished(beam.PTransform):
    """Splits photos into rows that are `DONE` and photos `TO_DO`.

    The join with earlier manifests also spreads the photos over the workers.
    """

    def __init__(self, run: Run, output: str) -> None:
        super().__init__()
        self._run = run
        self._output = output

    def expand(self, photos: beam.PCollection[Photo]) -> Any:
        earlier = (
            photos.pipeline
            | beam.Create([self._output])
            | "ReadEarlierManifests" >> beam.FlatMap(read_rows, self._run)
            | "ByUri" >> beam.Map(lambda row: (row.source_uri, row))
        )
        keyed = photos | "PhotosByUri" >> beam.Map(lambda photo: (photo.uri, photo))
        return (
            {"photos": keyed, "earlier": earlier}
            | beam.CoGroupByKey()
            | "Skip" >> beam.FlatMap(_split, self._run, self._output).with_outputs(DONE, TO_DO)
        )


def _split(grouped: tuple[str, dict[str, Any]], run: Run, output: str) -> Iterator[Any]:
    for photo in grouped[1]["photos"]:
        row = finished_row(run, output, photo, grouped[1]["earlier"])
        yield TaggedOutput(TO_DO, photo) if row is None else TaggedOutput(DONE, row)

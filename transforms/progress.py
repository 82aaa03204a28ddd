"""Progress in Beam's counters and, where that is on the workers' machine, to the terminal; a request to stop.

For the terminal, workers append lines to a file, which the command line reads: that works alike from threads
and from worker processes. (Beam's local runner has its counters only once a run has ended.) The run is asked
to stop by a second file, from either side; its first line says why.
"""

import contextlib
import errno
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import pyarrow as pa

from transforms.counters import count_photos
from transforms.elements import Photo
from transforms.manifest.rows import ManifestRow

INTERRUPTED = "interrupted"
OUTPUT_FULL = "OUTPUT is full"
WORKER_ENDED = "a worker process was killed"


@dataclass(frozen=True)
class ProgressEvent:
    """A photo that was found (`status` "found") or finished (its row's status).

    Attributes:
        uri: empty where it stands for several `photos` with the same status.
        resumed: finished in an earlier run.
        pixels: 0 where unknown.
    """

    uri: str
    status: str
    source_bytes: int
    pixels: int = 0
    saved_bytes: int = 0
    reason: str = ""
    resumed: bool = False
    photos: int = 1


def count_and_report(event: ProgressEvent, path: str | None) -> None:
    """Counts finished photos, in one of Beam's threads, and reports them."""
    count_photos(event.status, event.photos, event.pixels, event.resumed)
    report(event, path)


def report(event: ProgressEvent, path: str | None) -> None:
    """Appends an event to the file at `path`, if there is one, as a line of JSON.

    Lines are lost or cut short if the disk is full. That is no reason to stop encoding.
    """
    if path is None:
        return
    line = (json.dumps(asdict(event)) + "\n").encode()
    with contextlib.suppress(OSError):
        file = os.open(path, os.O_WRONLY | os.O_APPEND)  # one write each, so lines never mix
        try:
            os.write(file, line)
        finally:
            os.close(file)


def request_stop(path: str | None, why: str) -> None:
    """Makes workers drop the photos that they have not begun, where there is a `path` to say so."""
    if path is None:
        return
    # The file alone is enough: on a full disk its line may be missing.
    with contextlib.suppress(OSError), open(path, "a", encoding="utf-8") as file:
        file.write(f"{why}\n")


def stop_if_full(error: Exception, path: str | None) -> None:
    """Requests a stop if a photo's output could not be written because no space is left."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        request_stop(path, OUTPUT_FULL)


def report_found(photos: Sequence[Photo], path: str | None) -> None:
    source_bytes = sum(photo.size for photo in photos)
    report(ProgressEvent("", "found", source_bytes, photos=len(photos)), path)


def report_row(row: ManifestRow, path: str | None) -> ManifestRow:
    pixels, reason = (row.width or 0) * (row.height or 0), row.reason or ""
    event = ProgressEvent(row.source_uri, row.status, row.source_bytes, pixels, row.saved_bytes, reason)
    count_and_report(event, path)
    return row


def report_finished(rows: pa.Table, path: str | None) -> pa.Table:
    """Reports rows of photos that earlier runs have finished."""
    sums = [("source_bytes", "sum"), ("saved_bytes", "sum"), ("status", "count")]
    for each in rows.group_by("status").aggregate(sums).to_pylist():
        event = ProgressEvent(
            "",
            each["status"],
            each["source_bytes_sum"],
            saved_bytes=each["saved_bytes_sum"],
            resumed=True,
            photos=each["status_count"],
        )
        count_and_report(event, path)
    return rows

"""Progress from workers to the terminal, where both are on one machine.

Workers append lines to a file, which the command line follows: that works alike from threads,
from worker processes and from a portable runner's, and leaves Beam's data alone.
"""

import json
import os
from dataclasses import asdict, dataclass

from transforms.elements import Photo
from transforms.manifest import ManifestRow


@dataclass(frozen=True)
class Tick:
    """A photo that was found (`status` "found") or finished (its row's status).

    Attributes:
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


def report(tick: Tick, path: str | None) -> None:
    """Appends a tick to the file at `path`, if there is one, as a line of JSON."""
    if path is None:
        return
    line = (json.dumps(asdict(tick)) + "\n").encode()
    file = os.open(path, os.O_WRONLY | os.O_APPEND)  # one write each, so lines never mix
    try:
        os.write(file, line)
    finally:
        os.close(file)


def report_found(photo: Photo, path: str | None) -> Photo:
    report(Tick(photo.uri, "found", photo.size), path)
    return photo


def report_row(row: ManifestRow, resumed: bool, path: str | None) -> ManifestRow:
    pixels = (row.width or 0) * (row.height or 0)
    tick = Tick(
        row.source_uri, row.status, row.source_bytes, pixels, row.saved_bytes, row.reason or "", resumed
    )
    report(tick, path)
    return row

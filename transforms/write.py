"""Stage 5: range-codes and writes each .rgc file. From then on the photo is done."""

import logging
import time
from dataclasses import replace
from datetime import UTC, datetime

from model.settings import Settings
from transforms.elements import Encoded, Photo
from transforms.manifest.rows import ManifestRow, Run
from transforms.progress import stop_if_full
from transforms.resume import is_of_another_photo, read_code, rgc_uri, row_of_code
from transforms.storage.files import delete_if_there, find_status, write_over
from transforms.storage.status import ConflictError

_LOG = logging.getLogger(__name__)


def write_rgc(
    encoded: Encoded, run: Run, settings: Settings, output: str, stop_path: str | None = None
) -> ManifestRow:
    """Writes the .rgc file if it is worth it, and returns the photo's row.

    Args:
        stop_path: see `request_stop`; used if `output` is full.
    """
    photo, result = encoded.photo, encoded.result
    if result is None:
        return ManifestRow.not_encoded(run, photo, "failed", encoded.error, encoded)
    uri, reason, started = rgc_uri(output, photo), "", time.monotonic()
    try:
        data = result.file.to_bytes()  # codes it, while the networks work on the next photo
    except Exception as error:  # one bad photo never stops a run
        _LOG.exception("%s: coding failed", photo.uri)
        why = f"encoding failed: {type(error).__name__}: {error}"
        return ManifestRow.not_encoded(run, photo, "failed", why, encoded)
    encoded = replace(encoded, seconds=encoded.seconds + time.monotonic() - started)
    if not result.reached:
        reason = result.why_not(settings)
    elif len(data) >= photo.size:
        reason = f"not smaller: {len(data)} bytes against the original's {photo.size}"
    try:
        if (theirs := _put(None if reason else data, uri, photo, encoded.sha256, run)) is not None:
            return theirs
    except OSError as error:
        stop_if_full(error, stop_path)
        return ManifestRow.not_encoded(run, photo, "failed", f"writing {uri}: {error}", encoded)
    if reason:
        return ManifestRow.not_encoded(run, photo, "kept", reason, encoded)
    return ManifestRow.encoded(run, photo, uri, result.file, data, datetime.now(UTC), encoded.seconds)


def _put(data: bytes | None, uri: str, photo: Photo, sha256: str, run: Run) -> ManifestRow | None:
    """Makes `data` the file at `uri`, or with None makes sure that there is none.

    Returns None, or the row of a file of the same work that is there already. That file stays: another run,
    or a worker that was taken for dead, may have reported it.

    Raises:
        OSError: it cannot be written; the file there changed twice meanwhile; or it is of another photo, and
            may be all that is left of that.
    """
    if data is not None:
        try:
            write_over(uri, data, None)
            return None
        except ConflictError:
            pass
    if (there := find_status(uri)) is None:
        if data is not None:  # deleted meanwhile
            write_over(uri, data, None)
        return None
    code = read_code(there)
    if (theirs := row_of_code(run, photo, there, code)) is not None:
        return theirs
    if code is not None and is_of_another_photo(code.file, photo, sha256):
        raise OSError("it is of another photo; each INPUT needs an OUTPUT of its own")
    if data is None:
        delete_if_there(uri, there.fingerprint)
    else:
        write_over(uri, data, there.fingerprint)
    return None

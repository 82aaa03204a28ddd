"""Stage 5: writes each .rgc file, the point from which a photo is done."""

from datetime import UTC, datetime

from model.settings import Settings
from transforms.elements import Encoded
from transforms.gcs import ConflictError
from transforms.manifest import ManifestRow, Run
from transforms.resume import finished_row, rgc_uri
from transforms.storage import delete_if_there, write_bytes


def write_rgc(encoded: Encoded, run: Run, settings: Settings, output: str) -> ManifestRow:
    """Writes the .rgc file where it is worth it, and returns the photo's row."""
    photo, result = encoded.photo, encoded.result
    if result is None:
        return ManifestRow.not_encoded(run, photo, "failed", encoded.error, encoded)
    uri = rgc_uri(output, photo)
    data = result.file.to_bytes()
    reason = ""
    if not result.reached:
        reason = result.why_not(settings)
    elif len(data) >= photo.size:
        reason = f"not smaller: {len(data)} bytes against the original's {photo.size}"
    try:
        if reason:
            delete_if_there(uri)  # of the photo as it was before, or at another target
            return ManifestRow.not_encoded(run, photo, "kept", reason, encoded)
        write_bytes(uri, data)
    except ConflictError as error:
        # Another run encodes the same photos at the same time; the row tells of the file that is there.
        row = finished_row(run, output, photo, ())
        return row or ManifestRow.not_encoded(run, photo, "failed", str(error), encoded)
    except OSError as error:
        return ManifestRow.not_encoded(run, photo, "failed", f"writing {uri}: {error}", encoded)
    return ManifestRow.encoded(run, photo, uri, result.file, data, datetime.now(UTC), encoded.seconds)

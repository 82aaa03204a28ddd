"""Stage 5: writes each .rgc file, the point from which a photo is done."""

from datetime import UTC, datetime

from model.settings import Settings
from transforms.elements import Encoded
from transforms.manifest import ManifestRow, Run
from transforms.resume import rgc_uri
from transforms.storage import write_bytes


def write_rgc(encoded: Encoded, run: Run, settings: Settings, output: str) -> ManifestRow:
    """Writes the .rgc file where it is worth it, and returns the photo's row."""
    photo, result = encoded.photo, encoded.result
    if result is None:
        return ManifestRow.not_encoded(run, photo, "failed", encoded.error, encoded)
    if not result.reached:
        return ManifestRow.not_encoded(run, photo, "kept", result.why_not(settings), encoded)
    data = result.file.to_bytes()
    if len(data) >= photo.size:
        reason = f"not smaller: {len(data)} bytes against the original's {photo.size}"
        return ManifestRow.not_encoded(run, photo, "kept", reason, encoded)
    uri = rgc_uri(output, photo)
    try:
        write_bytes(uri, data)
    except OSError as error:
        return ManifestRow.not_encoded(run, photo, "failed", f"writing {uri}: {error}", encoded)
    return ManifestRow.encoded(run, photo, uri, result.file, data, datetime.now(UTC), encoded.seconds)

"""Stage 3: reads and decodes photos."""

import hashlib

from apache_beam.pvalue import TaggedOutput

from model.photos.errors import UnreadablePhotoError
from model.photos.names import NotAPhotoError, check_name, check_start
from model.photos.reading import read_photo
from transforms.elements import LoadedPhoto, Photo
from transforms.manifest.rows import ManifestRow, Run
from transforms.progress import report_in_progress
from transforms.storage.files import read_bytes

LOADED = "loaded"
REJECTED = "rejected"
KILLS_WORKERS = "the worker process that worked on it was killed, twice; the next run tries it again"


def load_photo(photo: Photo) -> LoadedPhoto:
    """A photo's pixels.

    Raises:
        NotAPhotoError, UnreadablePhotoError, OSError: see `read_photo`; also where the file is no longer
            the one that was listed.
    """
    if photo.unreadable:
        raise UnreadablePhotoError(photo.unreadable)
    check_name(photo.relative)
    data = read_bytes(photo.uri, fingerprint=photo.fingerprint)
    check_start(photo.relative, data)
    return LoadedPhoto(photo, hashlib.sha256(data).hexdigest(), read_photo(data))


def load_or_reject(
    photo: Photo, run: Run, given_up: frozenset[str] = frozenset(), progress_path: str | None = None
) -> TaggedOutput:
    """A `LOADED` photo, or a `REJECTED` one's row: `kept` if it is no photo, `failed` if unreadable.

    Args:
        given_up: URIs of photos that are not to be read: see `pipeline.runners.supervise`.
        progress_path: see `report`.
    """
    if photo.uri in given_up:
        return TaggedOutput(REJECTED, ManifestRow.not_encoded(run, photo, "failed", KILLS_WORKERS))
    report_in_progress(photo, "begun", progress_path)
    try:
        loaded = load_photo(photo)
        report_in_progress(photo, "loaded", progress_path)
        return TaggedOutput(LOADED, loaded)
    except NotAPhotoError as error:
        row = ManifestRow.not_encoded(run, photo, "kept", str(error))
    except (UnreadablePhotoError, OSError, MemoryError) as error:
        row = ManifestRow.not_encoded(run, photo, "failed", str(error) or type(error).__name__)
    return TaggedOutput(REJECTED, row)

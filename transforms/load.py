"""Stage 3: reads and decodes photos."""

import hashlib

from apache_beam.pvalue import TaggedOutput

from model.photos.errors import UnreadablePhotoError
from model.photos.isolation.pool import read_photo_in_child
from model.photos.names import NotAPhotoError, check_name, check_start
from transforms.elements import LoadedPhoto, Photo
from transforms.manifest.rows import ManifestRow, Run
from transforms.storage.files import read_bytes

LOADED = "loaded"
REJECTED = "rejected"


def load_photo(photo: Photo) -> LoadedPhoto:
    """A photo's pixels. They are decoded in a child process: whatever a file does there costs that one photo.

    Raises:
        NotAPhotoError, UnreadablePhotoError, OSError: see `read_photo_in_child`; also where the file is no
            longer the one that was listed.
    """
    if photo.unreadable:
        raise UnreadablePhotoError(photo.unreadable)
    check_name(photo.relative)
    data = read_bytes(photo.uri, fingerprint=photo.fingerprint)
    check_start(photo.relative, data)
    return LoadedPhoto(photo, hashlib.sha256(data).hexdigest(), read_photo_in_child(data))


def load_or_reject(photo: Photo, run: Run) -> TaggedOutput:
    """A `LOADED` photo, or a `REJECTED` one's row: `kept` if it is no photo, `failed` if unreadable."""
    try:
        return TaggedOutput(LOADED, load_photo(photo))
    except NotAPhotoError as error:
        row = ManifestRow.not_encoded(run, photo, "kept", str(error))
    except (UnreadablePhotoError, OSError, MemoryError) as error:
        row = ManifestRow.not_encoded(run, photo, "failed", str(error) or type(error).__name__)
    return TaggedOutput(REJECTED, row)

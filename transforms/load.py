"""Stage 3: reads and decodes photos that are still to be encoded."""

import hashlib

from apache_beam.pvalue import TaggedOutput

from model.photos.errors import UnreadablePhotoError
from model.photos.isolation.pool import read_photo_in_child
from model.photos.names import NotAPhotoError, check_name, check_start
from transforms.elements import LoadedPhoto, Photo
from transforms.manifest.rows import ManifestRow, Run
from transforms.resume import rgc_uri, row_of_file
from transforms.storage.files import find_status, read_bytes

LOADED = "loaded"
SETTLED = "settled"


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


def load_or_settle(photo: Photo, run: Run, output: str) -> TaggedOutput:
    """A `LOADED` photo, or a `SETTLED` one's row: `kept` if it is no photo, `failed` if unreadable.

    Or `encoded`, by an earlier try: a runner does all of a bundle again if anything in it fails.
    """
    try:
        if (row := _row_of_an_earlier_try(photo, run, output)) is not None:
            return TaggedOutput(SETTLED, row)
        return TaggedOutput(LOADED, load_photo(photo))
    except NotAPhotoError as error:
        row = ManifestRow.not_encoded(run, photo, "kept", str(error))
    except (UnreadablePhotoError, OSError, MemoryError) as error:
        row = ManifestRow.not_encoded(run, photo, "failed", str(error) or type(error).__name__)
    return TaggedOutput(SETTLED, row)


def _row_of_an_earlier_try(photo: Photo, run: Run, output: str) -> ManifestRow | None:
    if photo.unreadable or (there := find_status(rgc_uri(output, photo))) is None:
        return None
    return row_of_file(run, photo, there, None)

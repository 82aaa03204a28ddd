"""Stage 3: reads and decodes photos."""

import hashlib
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput

from model.photo import NotAPhotoError, UnreadablePhotoError, check_name, read_photo
from transforms.elements import LoadedPhoto, Photo
from transforms.manifest import ManifestRow, Run
from transforms.storage import read_bytes

LOADED = "loaded"
REJECTED = "rejected"


def load_photo(photo: Photo) -> LoadedPhoto:
    """A photo's pixels.

    Raises:
        NotAPhotoError, UnreadablePhotoError, OSError: see `read_photo`.
    """
    if photo.unreadable:
        raise UnreadablePhotoError(photo.unreadable)
    check_name(photo.relative)
    data = read_bytes(photo.uri)
    return LoadedPhoto(photo, hashlib.sha256(data).hexdigest(), read_photo(data))


def load_or_reject(photo: Photo, run: Run) -> LoadedPhoto | ManifestRow:
    """A photo's pixels, or its row: `kept` where it is no photo, `failed` where it cannot be read."""
    try:
        return load_photo(photo)
    except NotAPhotoError as error:
        return ManifestRow.not_encoded(run, photo, "kept", str(error))
    except (UnreadablePhotoError, OSError, MemoryError) as error:
        return ManifestRow.not_encoded(run, photo, "failed", str(error) or type(error).__name__)


class LoadPhotos(beam.DoFn):
    """Photos to `LOADED` photos and rows of those `REJECTED`."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def process(self, photo: Photo) -> Iterator[Any]:
        loaded = load_or_reject(photo, self._run)
        yield TaggedOutput(LOADED if isinstance(loaded, LoadedPhoto) else REJECTED, loaded)

"""Stage 3: reads and decodes photos."""

import hashlib
import os
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms.window import GlobalWindows

from model.photo import NotAPhotoError, UnreadablePhotoError, check_name, read_photo
from transforms.elements import LoadedPhoto, Photo
from transforms.manifest import ManifestRow, Run
from transforms.storage import read_bytes

LOADED = "loaded"
REJECTED = "rejected"
_LOADED_AHEAD = 2  # photos; each holds its pixels in memory
WAITED = Metrics.counter("rgc", "microseconds_waited_for_photos")


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
    """Photos to `LOADED` photos and rows of those `REJECTED`.

    The next photos are read, hashed and decoded in threads while this one is being encoded.

    Args:
        stop_path: once a file is there, photos are passed over: neither loaded nor rejected.
    """

    def __init__(self, run: Run, stop_path: str | None = None) -> None:
        self._run = run
        self._stop_path = stop_path

    def setup(self) -> None:
        self._threads = ThreadPoolExecutor(_LOADED_AHEAD)
        self._ahead: deque[Future[LoadedPhoto | ManifestRow | None]] = deque()

    def process(self, photo: Photo) -> Iterator[Any]:
        self._ahead.append(self._threads.submit(self._load, photo))
        if len(self._ahead) > _LOADED_AHEAD:
            yield from _tagged(self._next())

    def finish_bundle(self) -> Iterator[Any]:
        while self._ahead:
            for tagged in _tagged(self._next()):
                yield TaggedOutput(tagged.tag, GlobalWindows.windowed_value_at_end_of_window(tagged.value))

    def teardown(self) -> None:
        self._threads.shutdown()

    def _load(self, photo: Photo) -> LoadedPhoto | ManifestRow | None:
        stopped = self._stop_path is not None and os.path.exists(self._stop_path)
        return None if stopped else load_or_reject(photo, self._run)

    def _next(self) -> LoadedPhoto | ManifestRow | None:
        started = time.monotonic()
        loaded = self._ahead.popleft().result()
        WAITED.inc(int((time.monotonic() - started) * 1e6))
        return loaded


def _tagged(loaded: LoadedPhoto | ManifestRow | None) -> Iterator[TaggedOutput]:
    if loaded is not None:
        yield TaggedOutput(LOADED if isinstance(loaded, LoadedPhoto) else REJECTED, loaded)

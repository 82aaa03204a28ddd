"""Google Cloud Storage, one client a process, every request tried again for a quarter of an hour.

Not through Beam's filesystem, which makes a client for each call, checks no checksums, and knows no
object's generation. STORAGE_EMULATOR_HOST leads to an emulator, without credentials.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from google.api_core.exceptions import GoogleAPICallError, NotFound, PreconditionFailed, RetryError
from google.auth.exceptions import GoogleAuthError
from google.cloud.storage import Blob, Client
from google.cloud.storage.exceptions import DataCorruption
from google.cloud.storage.retry import DEFAULT_RETRY
from requests import RequestException
from requests.adapters import HTTPAdapter

SCHEME = "gs://"
_SECONDS_OF_RETRYING = 900.0  # an outage of minutes must not cost a night's work
_RETRY = DEFAULT_RETRY.with_timeout(_SECONDS_OF_RETRYING)
_FIELDS = "items(name,size,generation,crc32c,updated),nextPageToken"
CONNECTIONS = 32  # of a process, and so as many requests at the same time
_MAKING_THE_CLIENT = threading.Lock()


class ConflictError(OSError):
    """A file is not, or no longer, the one that was meant."""


def client() -> Client:
    with _MAKING_THE_CLIENT:  # else each of the first threads would make its own
        return _client()


@lru_cache(1)
def _client() -> Client:
    made = Client(project=None)  # a project is only needed to make buckets
    made._http.mount("https://", HTTPAdapter(pool_maxsize=CONNECTIONS))  # as Google's own samples do
    return made


def fingerprint_of(blob: Blob) -> str:
    """Changes when the object does. All that takes a fingerprint takes this one."""
    return f"{blob.generation}-{blob.size}-{blob.crc32c}"


def read(uri: str, length: int | None = None, fingerprint: str | None = None) -> bytes:
    """A whole object, its checksum verified; or its first `length` bytes, which have none.

    Raises:
        ConflictError: it is no longer what had the `fingerprint`.
    """
    with _errors(uri):
        end = None if length is None else length - 1
        generation = None if fingerprint is None else _generation(fingerprint)
        data: bytes = _blob(uri).download_as_bytes(
            end=end, if_generation_match=generation, checksum="auto", retry=_RETRY
        )
        return data


def write(uri: str, data: bytes) -> None:
    """Makes or replaces an object, whatever is there."""
    with _errors(uri):
        _upload(uri, data, None)


def write_over(uri: str, data: bytes, fingerprint: str | None) -> None:
    """Replaces what had the `fingerprint`; with None, makes an object where none is.

    Raises:
        ConflictError: another one is there, of other bytes than these.
    """
    with _errors(uri):
        try:
            _upload(uri, data, 0 if fingerprint is None else _generation(fingerprint))
        except PreconditionFailed:
            # Also where our own first try arrived, and only its answer was lost.
            if read(uri) != data:
                raise


def delete(uri: str, fingerprint: str | None = None) -> None:
    """Deletes an object if it is there, and if a `fingerprint` is given, only what had that.

    Raises:
        ConflictError: another one is there.
    """
    with _errors(uri):
        generation = None if fingerprint is None else _generation(fingerprint)
        try:
            _blob(uri).delete(if_generation_match=generation, retry=_RETRY)
        except (NotFound, PreconditionFailed):
            # Also where our own first try arrived, and only its answer was lost.
            if find(uri) is not None:
                raise


def find(uri: str) -> Blob | None:
    """An object's metadata, or None if it is not there."""
    with _errors(uri):
        bucket, name = split(uri)
        return client().bucket(bucket).get_blob(name, retry=_RETRY) if name else None


def list_prefix(uri: str) -> Iterator[Blob]:
    """The objects whose names begin with `uri`, page by page."""
    bucket, prefix = split(uri)
    with _errors(uri):
        yield from client().list_blobs(bucket, prefix=prefix, fields=_FIELDS, retry=_RETRY)


def list_glob(uri: str) -> Iterator[Blob]:
    """The objects whose names match a pattern of *, **, ?, [] and {}."""
    bucket, pattern = split(uri)
    with _errors(uri):
        yield from client().list_blobs(bucket, match_glob=pattern, fields=_FIELDS, retry=_RETRY)


def split(uri: str) -> tuple[str, str]:
    bucket, _, name = uri.removeprefix(SCHEME).partition("/")
    return bucket, name


def _blob(uri: str) -> Blob:
    bucket, name = split(uri)
    return client().bucket(bucket).blob(name)


def _generation(fingerprint: str) -> int:
    return int(fingerprint.partition("-")[0])


def _upload(uri: str, data: bytes, generation: int | None) -> None:
    _blob(uri).upload_from_string(
        data,
        content_type="application/octet-stream",
        if_generation_match=generation,
        checksum="crc32c",
        retry=_RETRY,
    )


@contextmanager
def _errors(uri: str) -> Iterator[None]:
    """What the client raises, as the OSError that a local file would give."""
    try:
        yield
    except NotFound as error:
        raise FileNotFoundError(f"{uri}: not there") from error
    except PreconditionFailed as error:
        raise ConflictError(f"{uri}: another file is there by now") from error
    except (GoogleAPICallError, GoogleAuthError, RetryError, RequestException, DataCorruption) as error:
        message = getattr(error, "message", None) or str(error)
        raise OSError(f"{uri}: {type(error).__name__}: {message}") from error

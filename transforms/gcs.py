"""Google Cloud Storage, one client a process, every request tried again for a quarter of an hour.

Not through Beam's filesystem, which makes a client for each call, checks no checksums, and knows no
object's generation. STORAGE_EMULATOR_HOST leads to an emulator, without credentials.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from google.api_core.exceptions import GoogleAPICallError, NotFound, PreconditionFailed, RetryError
from google.auth.exceptions import GoogleAuthError
from google.cloud.storage import Blob, Client
from google.cloud.storage.exceptions import DataCorruption
from google.cloud.storage.retry import DEFAULT_RETRY
from requests import RequestException

SCHEME = "gs://"
_SECONDS_OF_RETRYING = 900.0  # an outage of minutes must not cost a night's work
_RETRY = DEFAULT_RETRY.with_timeout(_SECONDS_OF_RETRYING)
_FIELDS = "items(name,size,generation,crc32c,updated),nextPageToken"


class ConflictError(OSError):
    """Another writer was first."""


@lru_cache(1)
def client() -> Client:
    return Client(project=None)  # a project is only needed to make buckets


def read(uri: str, length: int | None = None) -> bytes:
    """A whole object, its checksum verified; or its first `length` bytes, which have none."""
    with _errors(uri):
        end = None if length is None else length - 1
        data: bytes = _blob(uri).download_as_bytes(end=end, checksum="auto", retry=_RETRY)
        return data


def write(uri: str, data: bytes) -> None:
    """Makes or replaces an object.

    Raises:
        ConflictError: another writer changed it meanwhile, to other bytes than these.
    """
    with _errors(uri):
        blob = _blob(uri)
        there = find(uri)
        generation = 0 if there is None else there.generation
        try:
            blob.upload_from_string(
                data,
                content_type="application/octet-stream",
                if_generation_match=generation,
                checksum="crc32c",
                retry=_RETRY,
            )
        except PreconditionFailed as error:
            # Also where our own first try arrived, and only its answer was lost.
            if read(uri) != data:
                raise ConflictError(f"{uri}: written by another run at the same time") from error


def delete(uri: str) -> None:
    with _errors(uri):
        try:
            _blob(uri).delete(retry=_RETRY)
        except NotFound:  # also where our own first try arrived
            return


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


@contextmanager
def _errors(uri: str) -> Iterator[None]:
    """What the client raises, as the OSError that a local file would give."""
    try:
        yield
    except NotFound as error:
        raise FileNotFoundError(f"{uri}: not there") from error
    except (GoogleAPICallError, GoogleAuthError, RetryError, RequestException, DataCorruption) as error:
        message = getattr(error, "message", None) or str(error)
        raise OSError(f"{uri}: {type(error).__name__}: {message}") from error

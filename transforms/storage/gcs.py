"""Google Cloud Storage, one client a process, every request tried again for a quarter of an hour.

`files` says what each function does, for both kinds of storage. Not by Beam's filesystem: it makes a client
for each call, verifies no checksums, and knows no object's generation. Not by obstore 0.12: its listings
have neither generations nor checksums, which a photo is known by. STORAGE_EMULATOR_HOST names an emulator,
which needs no credentials.
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

from transforms.storage.status import ConflictError, Status

SCHEME = "gs://"
_SECONDS_OF_RETRYING = 900.0  # an outage of minutes must not cost a run
_RETRY = DEFAULT_RETRY.with_timeout(_SECONDS_OF_RETRYING)
_FIELDS = "items(name,size,generation,crc32c,updated),nextPageToken"
CONNECTIONS = 32  # of a process, and so as many requests at the same time
_MAKING_THE_CLIENT = threading.Lock()


def client() -> Client:
    with _MAKING_THE_CLIENT:  # else each of the first threads would make its own
        return _client()


@lru_cache(1)
def _client() -> Client:
    made = Client(project=None)  # a project is only needed to make buckets
    made._http.mount("https://", HTTPAdapter(pool_maxsize=CONNECTIONS))  # as Google's own samples do
    return made


def read(uri: str, length: int | None = None, fingerprint: str | None = None) -> bytes:
    """A whole object has a checksum, which is verified; its first bytes have none."""
    with _errors(uri):
        end = None if length is None else length - 1
        generation = None if fingerprint is None else _generation(fingerprint)
        data: bytes = _blob(uri).download_as_bytes(
            end=end, if_generation_match=generation, checksum="auto", retry=_RETRY
        )
        return data


def write(uri: str, data: bytes) -> None:
    with _errors(uri):
        _upload(uri, data, None)


def write_over(uri: str, data: bytes, fingerprint: str | None) -> None:
    with _errors(uri):
        try:
            _upload(uri, data, 0 if fingerprint is None else _generation(fingerprint))
        except PreconditionFailed:
            # Also where our own first try arrived, and only its answer was lost.
            if read(uri) != data:
                raise


def delete(uri: str, fingerprint: str | None = None) -> None:
    with _errors(uri):
        generation = None if fingerprint is None else _generation(fingerprint)
        try:
            _blob(uri).delete(if_generation_match=generation, retry=_RETRY)
        except (NotFound, PreconditionFailed):
            # Also where our own first try arrived, and only its answer was lost.
            if find(uri) is not None:
                raise


def find(uri: str) -> Status | None:
    with _errors(uri):
        bucket, name = _split(uri)
        blob = client().bucket(bucket).get_blob(name, retry=_RETRY) if name else None
        return None if blob is None else _status_of(blob)


def list_folder(uri: str) -> Iterator[Status]:
    return _list(uri, prefix=_split(f"{uri.rstrip('/')}/")[1])


def list_glob(uri: str) -> Iterator[Status]:
    """The objects whose names match a pattern of *, **, ?, [] and {}."""
    return _list(uri, match_glob=_split(uri)[1])


def _list(uri: str, **which: str) -> Iterator[Status]:
    """Page by page."""
    with _errors(uri):
        for blob in client().list_blobs(_split(uri)[0], fields=_FIELDS, retry=_RETRY, **which):
            if not blob.name.endswith("/"):  # a "folder" that a browser has made
                yield _status_of(blob)


def _status_of(blob: Blob) -> Status:
    fingerprint = f"{blob.generation}-{blob.size}-{blob.crc32c}"
    return Status(f"{SCHEME}{blob.bucket.name}/{blob.name}", blob.size, blob.updated, fingerprint)


def _split(uri: str) -> tuple[str, str]:
    bucket, _, name = uri.removeprefix(SCHEME).partition("/")
    return bucket, name


def _blob(uri: str) -> Blob:
    bucket, name = _split(uri)
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

"""Google Cloud Storage, one client a process, every request tried again for a quarter of an hour.

`files` says what each function does, for both kinds of storage. Beam's filesystem makes a client for each
call, and knows neither checksums nor generations; obstore's listings (0.12) have neither, and a photo is
known by them. STORAGE_EMULATOR_HOST names an emulator, which needs no credentials.
"""

import itertools
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache

from google.api_core.exceptions import GoogleAPICallError, NotFound, PreconditionFailed, RetryError
from google.api_core.retry import Retry
from google.auth.exceptions import GoogleAuthError
from google.cloud.storage import Blob, Client
from google.cloud.storage.exceptions import DataCorruption
from google.cloud.storage.retry import DEFAULT_RETRY
from requests import RequestException
from requests.adapters import HTTPAdapter

from transforms.counters import note_retry
from transforms.storage.status import ConflictError, Status

SCHEME = "gs://"
_SECONDS_OF_RETRYING = 900.0  # an outage of minutes must not cost a run
_RETRY = Retry(DEFAULT_RETRY._predicate, timeout=_SECONDS_OF_RETRYING, on_error=note_retry)
_FIELDS = "items(name,size,generation,crc32c,updated),nextPageToken"
CONNECTIONS = 32  # of a stage, and so as many requests at the same time
_ENOUGH_PARTS, _MOST_PARTS = 64, 1000  # of a prefix that is listed in parts
_PAGES_OF_FOLDERS = 20  # a folder of very many photos is not listed for the folders among them
_MAKING_THE_CLIENT = threading.Lock()


def client() -> Client:
    with _MAKING_THE_CLIENT:  # else each of the first threads would make its own
        return _client()


@lru_cache(1)
def _client() -> Client:
    made = Client(project=None)  # a project is only needed to make buckets
    for scheme in ("https://", "http://"):  # as Google's own samples do; http is an emulator's
        made._http.mount(scheme, HTTPAdapter(pool_maxsize=2 * CONNECTIONS))
    return made


def read(uri: str, fingerprint: str | None = None) -> bytes:
    with _errors(uri):
        data: bytes = _blob(uri).download_as_bytes(
            if_generation_match=_generation(fingerprint), checksum="auto", retry=_RETRY
        )
        return data


def write(uri: str, data: bytes) -> None:
    with _errors(uri):
        _upload(uri, data, None)


def write_over(uri: str, data: bytes, fingerprint: str | None) -> None:
    with _errors(uri):
        try:
            _upload(uri, data, _generation(fingerprint) or 0)  # 0 is for none there
        except PreconditionFailed:
            # Also where our own first try arrived, and only its answer was lost.
            if read(uri) != data:
                raise


def delete(uri: str, fingerprint: str | None = None) -> None:
    with _errors(uri):
        try:
            _blob(uri).delete(if_generation_match=_generation(fingerprint), retry=_RETRY)
        except (NotFound, PreconditionFailed):
            # Also where our own first try arrived, and only its answer was lost.
            if find(uri) is not None:
                raise


def find(uri: str) -> Status | None:
    with _errors(uri):
        bucket, name = _split(uri)
        blob = client().bucket(bucket).get_blob(name, retry=_RETRY) if name else None
        return None if blob is None else _status_of(blob)


def find_all(uris: Sequence[str]) -> dict[str, Status]:
    wanted = set(uris)
    first, last = (_split(uri)[1] for uri in (min(uris), max(uris)))
    listed = _list(uris[0], start_offset=first, end_offset=f"{last} ")  # the end itself is not listed
    return {status.uri: status for status in listed if status.uri in wanted}


def list_folder(uri: str, first: str = "", last: str = "") -> Iterator[Status]:
    """Objects below a prefix; only names from `first` on, and up to and without `last`, where given."""
    within = {"start_offset": first or None, "end_offset": last or None}
    return _list(uri, prefix=_prefix_of(uri), **within)


def cut_folder(uri: str) -> list[str]:
    """Names, in order, that cut a prefix into parts which can be listed at the same time.

    They are names of folders below it, from the first level on that has enough of them. There are none if one
    page holds all objects.
    """
    with _errors(uri):
        pages = client().list_blobs(_split(uri)[0], prefix=_prefix_of(uri), fields=_FIELDS, retry=_RETRY)
        next(pages.pages, None)
        if pages.next_page_token is None:
            return []
        found: list[str] = []
        level = [_prefix_of(uri)]
        with ThreadPoolExecutor(CONNECTIONS) as threads:
            while level and len(found) < _ENOUGH_PARTS:
                deeper = threads.map(lambda prefix: _folders(_split(uri)[0], prefix), level)
                level = sorted(itertools.chain.from_iterable(deeper))
                found += level
        return sorted(found)[:: len(found) // _MOST_PARTS + 1]


def _folders(bucket: str, prefix: str) -> list[str]:
    """The folders in the first pages of what lies directly below a prefix."""
    fields = "prefixes,nextPageToken"
    listed = client().list_blobs(bucket, prefix=prefix, delimiter="/", fields=fields, retry=_RETRY)
    for _ in itertools.islice(listed.pages, _PAGES_OF_FOLDERS):
        pass
    return list(listed.prefixes)


def _prefix_of(uri: str) -> str:
    return _split(f"{uri.rstrip('/')}/")[1]


def list_glob(uri: str) -> Iterator[Status]:
    """The objects whose names match a pattern of *, **, ?, [] and {}."""
    return _list(uri, match_glob=_split(uri)[1])


def _list(uri: str, **which: str | None) -> Iterator[Status]:
    """Page by page."""
    with _errors(uri):
        for blob in client().list_blobs(_split(uri)[0], fields=_FIELDS, retry=_RETRY, **which):
            if not blob.name.endswith("/"):  # a "folder" that a browser has made
                yield _status_of(blob)


def _status_of(blob: Blob) -> Status:
    fingerprint = f"{blob.generation}-{blob.size}-{blob.crc32c}"
    # Not `blob.updated`: it parses time by strptime, which takes longer than all else of a listing.
    updated = datetime.fromisoformat(blob._properties["updated"])
    return Status(f"{SCHEME}{blob.bucket.name}/{blob.name}", blob.size, updated, fingerprint)


def _split(uri: str) -> tuple[str, str]:
    bucket, _, name = uri.removeprefix(SCHEME).partition("/")
    return bucket, name


def _blob(uri: str) -> Blob:
    bucket, name = _split(uri)
    return client().bucket(bucket).blob(name)


def _generation(fingerprint: str | None) -> int | None:
    return None if fingerprint is None else int(fingerprint.partition("-")[0])


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

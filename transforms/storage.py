"""Whole files in local folders and in Google Cloud Storage."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from google.cloud.storage import Blob

from transforms import gcs

OUTPUT_FOLDERS = ("codes", "manifest")  # below OUTPUT; all that rgc compress writes
_GLOB_CHARACTERS = frozenset("*?[")
_PARTIAL = ".partial"


@dataclass(frozen=True)
class Status:
    """A file's URI, size in bytes, when it was last changed, and what changes when its content does."""

    uri: str
    size: int
    modified: datetime
    fingerprint: str


def is_remote(uri: str) -> bool:
    """Whether `uri` is an object's.

    Raises:
        ValueError: it is neither gs:// nor a local path.
    """
    if "://" in uri and not uri.startswith(gcs.SCHEME):
        raise ValueError(f"{uri}: neither a local path nor {gcs.SCHEME}")
    return uri.startswith(gcs.SCHEME)


def read_bytes(uri: str, length: int | None = None) -> bytes:
    """A whole file, or its first `length` bytes, fewer if there are fewer."""
    if is_remote(uri):
        return gcs.read(uri, length)
    with open(uri, "rb") as file:
        return file.read(-1 if length is None else length)


def write_bytes(uri: str, data: bytes) -> None:
    """Writes a file that is there as a whole or not at all.

    On a local disk it is written under another name, then renamed; an object is replaced only if it
    is still the one that was there (see `gcs.write`).

    Raises:
        OSError: it cannot be written, or another run was first.
    """
    if is_remote(uri):
        gcs.write(uri, data)
        return
    os.makedirs(os.path.dirname(uri) or ".", exist_ok=True)
    partial = uri + _PARTIAL
    try:
        Path(partial).write_bytes(data)
        os.replace(partial, uri)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(partial)
        raise


def delete_if_there(uri: str) -> None:
    if is_remote(uri):
        gcs.delete(uri)
    else:
        Path(uri).unlink(missing_ok=True)


def find_status(uri: str) -> Status | None:
    """A file's status, or None if it is not there."""
    if is_remote(uri):
        blob = gcs.find(uri)
        return None if blob is None else _status_of_blob(uri, blob)
    try:
        return local_status(uri)
    except (FileNotFoundError, NotADirectoryError):
        return None


def local_status(path: str) -> Status:
    status = os.stat(path)
    modified = datetime.fromtimestamp(status.st_mtime, UTC)
    return Status(path, status.st_size, modified, f"{status.st_size}-{status.st_mtime:.6f}")


def list_folder(uri: str) -> Iterator[Status]:
    """The files below a folder or gs:// prefix, all the way down; none if it is not there."""
    if is_remote(uri):
        yield from _statuses(uri, gcs.list_prefix(join(uri, "")))
        return
    for parent, _, names in os.walk(uri):
        for name in names:
            yield local_status(join(parent, name))


def list_glob(uri: str) -> Iterator[Status]:
    """The objects that match a gs:// glob."""
    return _statuses(uri, gcs.list_glob(uri))


def _statuses(uri: str, blobs: Iterator[Blob]) -> Iterator[Status]:
    bucket, _ = gcs.split(uri)
    for blob in blobs:
        if not blob.name.endswith("/"):  # a "folder" that a browser has made
            yield _status_of_blob(f"{gcs.SCHEME}{bucket}/{blob.name}", blob)


def _status_of_blob(uri: str, blob: Blob) -> Status:
    return Status(uri, blob.size, blob.updated, f"{blob.generation}-{blob.size}-{blob.crc32c}")


@contextlib.contextmanager
def writing_to(output: str) -> Iterator[None]:
    """For as long as a run writes to `output`: makes sure at once that it can.

    A local folder is locked, so that what another, killed run has left half-written can be removed.

    Raises:
        OSError: it cannot be written, or another run on this machine is writing to it.
    """
    probe = join(output, f"{OUTPUT_FOLDERS[0]}/.rgc-{uuid4().hex}")
    write_bytes(probe, b"")
    delete_if_there(probe)
    if is_remote(output):
        yield
        return
    folder = os.open(output, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OSError(f"{output}: another rgc compress is writing to it") from error
        for part in OUTPUT_FOLDERS:
            for partial in Path(output, part).rglob(f"*{_PARTIAL}"):
                partial.unlink()
        yield
    finally:
        os.close(folder)


def join(base: str, relative: str) -> str:
    """`relative` with forward slashes, below `base`."""
    return f"{base.rstrip('/')}/{relative}"


def is_glob(uri: str) -> bool:
    return not _GLOB_CHARACTERS.isdisjoint(uri)

"""Whole files in local folders and in Google Cloud Storage."""

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from google.cloud.storage import Blob

from transforms.storage import gcs

OUTPUT_FOLDERS = ("codes", "manifest")  # below OUTPUT; all that rgc compress writes
_GLOB_CHARACTERS = frozenset("*?[")
_PARTIAL = re.compile(r"\.rgc-[0-9a-f]{32}\.partial")  # what a file is called while it is written


@dataclass(frozen=True, slots=True)  # slots: pickled without the fields' names
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


def read_bytes(uri: str, length: int | None = None, fingerprint: str | None = None) -> bytes:
    """A whole file, or its first `length` bytes, fewer if there are fewer.

    Raises:
        ConflictError: a `fingerprint` is given, and the file is no longer what had it.
        OSError: it cannot be read.
    """
    if is_remote(uri):
        return gcs.read(uri, length, fingerprint)
    with open(uri, "rb") as file:
        data = file.read(-1 if length is None else length)
    _check_fingerprint(uri, fingerprint)
    return data


def write_bytes(uri: str, data: bytes) -> None:
    """Writes a file that is there as a whole or not at all, over whatever is there.

    On a local disk it is written under a name of its own, then renamed.
    """
    if is_remote(uri):
        gcs.write(uri, data)
        return
    folder = os.path.dirname(uri) or "."
    os.makedirs(folder, exist_ok=True)
    partial = join(folder, f".rgc-{uuid4().hex}.partial")
    try:
        Path(partial).write_bytes(data)
        os.replace(partial, uri)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(partial)
        raise


def write_over(uri: str, data: bytes, fingerprint: str | None) -> None:
    """Writes a file over the one that had the `fingerprint`; with None, where none is.

    It is no conflict if these very bytes are there already. (On a local disk looking and writing are two
    steps; `writing_to` sees to it that there is one writer.)

    Raises:
        ConflictError: another file is there; it stays.
        OSError: it cannot be written.
    """
    if is_remote(uri):
        gcs.write_over(uri, data, fingerprint)
        return
    there = find_status(uri)
    if there is not None and there.fingerprint != fingerprint:
        if read_bytes(uri) == data:
            return
        raise gcs.ConflictError(f"{uri}: another file is there by now")
    write_bytes(uri, data)


def delete_if_there(uri: str, fingerprint: str | None = None) -> None:
    """Deletes a file, and if a `fingerprint` is given, only what had that.

    Raises:
        ConflictError: another file is there; it stays.
    """
    if is_remote(uri):
        gcs.delete(uri, fingerprint)
        return
    with contextlib.suppress(FileNotFoundError):
        _check_fingerprint(uri, fingerprint)
        os.unlink(uri)


def _check_fingerprint(path: str, fingerprint: str | None) -> None:
    if fingerprint is not None and local_status(path).fingerprint != fingerprint:
        raise gcs.ConflictError(f"{path}: another file is there by now")


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
            with contextlib.suppress(FileNotFoundError):  # renamed or deleted meanwhile
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
    return Status(uri, blob.size, blob.updated, gcs.fingerprint_of(blob))


@contextlib.contextmanager
def writing_to(output: str, folders: Sequence[str]) -> Iterator[None]:
    """For as long as a run writes to `folders` below `output`: makes sure at once that it can.

    A local `output` is locked, so that what another, killed run has left half-written can be removed.

    Args:
        folders: all that the run writes to, "" for `output` itself.

    Raises:
        OSError: it cannot be written, or another run on this machine is writing to it.
    """
    probe = join(join(output, folders[0]), f".rgc-{uuid4().hex}")
    write_bytes(probe, b"")
    delete_if_there(probe)
    if is_remote(output):
        yield
        return
    lock = os.open(output, os.O_RDONLY)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OSError(f"{output}: another run of rgc is writing to it") from error
        for folder in folders:
            for file in Path(output, folder).rglob(".rgc-*"):
                if _PARTIAL.fullmatch(file.name):
                    file.unlink(missing_ok=True)
        yield
    finally:
        os.close(lock)


def join(base: str, relative: str) -> str:
    """`relative` with forward slashes, below `base`."""
    return f"{base.rstrip('/')}/{relative}"


def absolute(uri: str) -> str:
    """A local path in full, whatever way it was written; a gs:// URI as it is."""
    return uri if is_remote(uri) else os.path.abspath(uri)


def is_utf8(uri: str) -> bool:
    """False for a local name of other bytes."""
    try:
        uri.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_glob(uri: str) -> bool:
    return not _GLOB_CHARACTERS.isdisjoint(uri)

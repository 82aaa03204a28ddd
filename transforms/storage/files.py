"""Whole files, wherever they are: on local disks or in Google Cloud Storage."""

import contextlib
import fcntl
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

from transforms.storage import gcs, local
from transforms.storage.status import Status

OUTPUT_FOLDERS = ("codes", "manifest")  # below OUTPUT; all that rgc compress writes
_PROBE = ".rgc-probe"  # always one name, so that the next run removes what a killed one has left
_GLOB_CHARACTERS = frozenset("*?[")


def is_remote(uri: str) -> bool:
    """Whether `uri` is an object's.

    Raises:
        ValueError: it is neither gs:// nor a local path.
    """
    if "://" in uri and not uri.startswith(gcs.SCHEME):
        raise ValueError(f"{uri}: neither a local path nor {gcs.SCHEME}")
    return uri.startswith(gcs.SCHEME)


def _store(uri: str) -> ModuleType:
    return gcs if is_remote(uri) else local


def read_bytes(uri: str, fingerprint: str | None = None) -> bytes:
    """A whole file.

    Raises:
        ConflictError: a `fingerprint` is given, and the file is no longer what had it.
        OSError: it cannot be read.
    """
    return _store(uri).read(uri, fingerprint)


def write_bytes(uri: str, data: bytes) -> None:
    """Writes a file that is there as a whole or not at all, over whatever is there."""
    _store(uri).write(uri, data)


def write_over(uri: str, data: bytes, fingerprint: str | None) -> None:
    """Writes a file over the one that had the `fingerprint`; with None, where none is.

    It is no conflict if these very bytes are there already.

    Raises:
        ConflictError: another file is there; it stays.
        OSError: it cannot be written.
    """
    _store(uri).write_over(uri, data, fingerprint)


def delete_if_there(uri: str, fingerprint: str | None = None) -> None:
    """Deletes a file, and if a `fingerprint` is given, only what had that.

    Raises:
        ConflictError: another file is there; it stays.
    """
    _store(uri).delete(uri, fingerprint)


def find_status(uri: str) -> Status | None:
    """A file's status, or None if it is not there."""
    return _store(uri).find(uri)


def find_statuses(uris: Sequence[str]) -> dict[str, Status]:
    """The status of each file that is there, by its URI.

    Objects are listed from the first name to the last, so these should be neighbours; they are of one bucket.
    """
    if not uris:
        return {}
    if is_remote(uris[0]):
        return gcs.find_all(uris)
    found = {}
    for uri in uris:
        with contextlib.suppress(OSError):  # no file, or none that can be looked at
            found[uri] = local.status_of(uri)
    return found


def is_same_file(uri: str, other: str) -> bool:
    """Whether two names are of one file, by links or otherwise; False where one is not there."""
    if is_remote(uri) or is_remote(other):
        return uri == other
    try:
        return os.path.samefile(uri, other)
    except OSError:
        return False


def set_modified(uri: str, modified_ns: int | None) -> None:
    """Sets when a local file was last changed, if it is known; objects have a time of their own."""
    if modified_ns is not None and not is_remote(uri):
        os.utime(uri, ns=(modified_ns, modified_ns))


def list_folder(uri: str) -> Iterator[Status]:
    """The files below a folder or gs:// prefix, all the way down; none if it is not there."""
    return _store(uri).list_folder(uri)


@contextlib.contextmanager
def writing_to(output: str, folders: Sequence[str]) -> Iterator[None]:
    """For as long as a run writes to `folders` below `output`: makes sure at once that it can.

    A local `output` is locked. What another, killed run has left half-written there is removed.

    Args:
        folders: all that the run writes to, "" for `output` itself.

    Raises:
        OSError: it cannot be written, or another run on this machine is writing to it.
    """
    probe = join(join(output, folders[0]), _PROBE)
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
                if local.PARTIAL.fullmatch(file.name):
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

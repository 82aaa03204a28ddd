"""Files on local disks. `files` says what each function does, for both kinds of storage."""

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from transforms.storage.status import ConflictError, Status

_FIRST, _LAST = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)
_NO_FILES = {
    stat.S_ISDIR: "a folder",
    stat.S_ISFIFO: "a named pipe",
    stat.S_ISSOCK: "a socket",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
}
PARTIAL = re.compile(r"\.rgc-[0-9a-f]{32}\.partial")  # what a file is called while it is written


def read(path: str, fingerprint: str | None = None) -> bytes:
    with open(path, "rb", opener=_without_waiting) as file:
        _status(path, os.fstat(file.fileno()))
        data = file.read()
    _check_fingerprint(path, fingerprint)
    return data


def _without_waiting(path: str, flags: int) -> int:
    """Opens a file, also where a named pipe has come in its place."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


def write(path: str, data: bytes) -> None:
    """Writes under another name, then renames."""
    folder = os.path.dirname(path) or "."
    os.makedirs(folder, exist_ok=True)
    partial = f"{folder}/.rgc-{uuid4().hex}.partial"
    try:
        Path(partial).write_bytes(data)
        os.replace(partial, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(partial)
        raise


def write_over(path: str, data: bytes, fingerprint: str | None) -> None:
    """Looking and writing are two steps here; `files.writing_to` makes sure that there is one writer."""
    there = find(path)
    if there is None or there.fingerprint == fingerprint:
        write(path, data)
    elif read(path) != data:
        raise ConflictError(f"{path}: another file is there by now")


def delete(path: str, fingerprint: str | None = None) -> None:
    with contextlib.suppress(FileNotFoundError):
        _check_fingerprint(path, fingerprint)
        os.unlink(path)


def _check_fingerprint(path: str, fingerprint: str | None) -> None:
    if fingerprint is not None and status_of(path).fingerprint != fingerprint:
        raise ConflictError(f"{path}: another file is there by now")


def find(path: str) -> Status | None:
    try:
        return status_of(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def status_of(path: str) -> Status:
    """Raises OSError, also for what is no file: a named pipe would keep whoever opens it waiting."""
    return _status(path, os.stat(path))


def _status(path: str, status: os.stat_result) -> Status:
    if not stat.S_ISREG(status.st_mode):
        kind = next((name for is_kind, name in _NO_FILES.items() if is_kind(status.st_mode)), "no file")
        raise OSError(f"{path}: {kind}, not a file")
    # `datetime` has no other times, which broken clocks and archives give files.
    seconds = min(max(status.st_mtime, _FIRST.timestamp()), _LAST.timestamp())
    fingerprint = f"{status.st_size}-{status.st_mtime:.6f}"
    return Status(path, status.st_size, datetime.fromtimestamp(seconds, UTC), fingerprint, status.st_mtime_ns)


def list_folder(folder: str) -> Iterator[Status]:
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):  # renamed or deleted meanwhile, or no file
                yield status_of(f"{parent.rstrip('/')}/{name}")

"""Files on local disks. `files` says what each function does, for both kinds of storage."""

import contextlib
import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from transforms.storage.status import ConflictError, Status

PARTIAL = re.compile(r"\.rgc-[0-9a-f]{32}\.partial")  # what a file is called while it is written


def read(path: str, length: int | None = None, fingerprint: str | None = None) -> bytes:
    with open(path, "rb") as file:
        data = file.read(-1 if length is None else length)
    _check_fingerprint(path, fingerprint)
    return data


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
    status = os.stat(path)
    modified = datetime.fromtimestamp(status.st_mtime, UTC)
    return Status(path, status.st_size, modified, f"{status.st_size}-{status.st_mtime:.6f}")


def list_folder(folder: str) -> Iterator[Status]:
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # renamed or deleted meanwhile
                yield status_of(f"{parent.rstrip('/')}/{name}")

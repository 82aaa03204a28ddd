"""Temporary files of a run, which are removed with it."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PREFIX = "rgc-run-"
_LOCK = ".lock"


@contextmanager
def temporary_folder() -> Iterator[None]:
    """Within its context, this process and those it starts make their temporary files in a folder that is
    removed at the end.

    Beam leaves some behind when it submits a job to a job server, and so does every run that is killed. The
    folders of such runs are removed first. A lock tells which these are, not a process number: containers
    that share /tmp have numbers of their own.
    """
    usual, of_children = tempfile.tempdir, os.environ.get("TMPDIR")
    _remove_left_behind(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as folder, open(Path(folder, _LOCK), "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        tempfile.tempdir = os.environ["TMPDIR"] = folder
        try:
            yield
        finally:
            tempfile.tempdir = usual
            if of_children is None:
                del os.environ["TMPDIR"]
            else:
                os.environ["TMPDIR"] = of_children


def _remove_left_behind(parent: Path) -> None:
    for folder in parent.glob(f"{_PREFIX}*"):
        try:
            with open(folder / _LOCK, "rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:  # in use, not ours, or begun this moment
            continue

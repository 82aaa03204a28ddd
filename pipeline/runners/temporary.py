"""Temporary files of a run, which are removed with it."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PREFIX = "rgc-run-"


@contextmanager
def temporary_folder() -> Iterator[None]:
    """Within its context, this process makes its temporary files in a folder that is removed at the end.

    Folders of runs that were killed are removed first. (Beam leaves files behind when it submits a job.)
    """
    usual = tempfile.tempdir
    _remove_left_behind(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{os.getpid()}-") as folder:
        tempfile.tempdir = folder
        try:
            yield
        finally:
            tempfile.tempdir = usual


def _remove_left_behind(parent: Path) -> None:
    for folder in parent.glob(f"{_PREFIX}*-*"):
        try:
            os.kill(int(folder.name.removeprefix(_PREFIX).partition("-")[0]), 0)
        except ProcessLookupError:
            shutil.rmtree(folder, ignore_errors=True)
        except (ValueError, PermissionError):  # not ours
            continue

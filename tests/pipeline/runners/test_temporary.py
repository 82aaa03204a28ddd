import fcntl
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pipeline.runners.temporary import temporary_folder


def test_temporary_files_go_with_the_run_and_those_of_killed_runs_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    killed, running, begun = (tmp_path / f"rgc-run-{name}" for name in ("killed", "running", "begun"))
    for folder in (killed, running, begun):
        (folder / "beam").mkdir(parents=True)
        if folder != begun:
            (folder / ".lock").touch()
    with open(running / ".lock", "rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # by a process in another container, for all that is known
        with temporary_folder():
            assert not killed.exists()
            path = Path(tempfile.mkdtemp())
            assert path.parent.parent == tmp_path
            with temporary_folder():
                assert path.exists()
        assert set(tmp_path.iterdir()) == {running, begun}
    assert tempfile.gettempdir() == str(tmp_path)


def test_processes_that_are_started_within_it_use_it_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    command = [sys.executable, "-c", "import tempfile; print(tempfile.mkdtemp())"]
    with temporary_folder():
        made = Path(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())
        assert made.is_dir() and made.parent == Path(tempfile.gettempdir()) != tmp_path
    assert not made.exists() and os.environ["TMPDIR"] == str(tmp_path)

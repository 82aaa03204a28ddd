import fcntl
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

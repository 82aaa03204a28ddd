import os
import subprocess
import tempfile
from pathlib import Path

import pytest

from pipeline.runners.temporary import temporary_folder


def test_temporary_files_go_with_the_run_and_those_of_killed_runs_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ended = subprocess.Popen(["true"])
    ended.wait()
    killed, running, other = (tmp_path / f"rgc-run-{name}-x" for name in (ended.pid, os.getppid(), "notes"))
    for folder in (killed, running, other):
        (folder / "beam").mkdir(parents=True)
    with temporary_folder():
        assert not killed.exists()
        path = Path(tempfile.mkdtemp())
        assert path.parent.parent == tmp_path
    assert set(tmp_path.iterdir()) == {running, other}
    assert tempfile.gettempdir() == str(tmp_path)

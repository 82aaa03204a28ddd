"""Starting rgc and Beam's servers, and comparing what runs leave."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from pipeline.cli.main import app
from transforms.manifest.reading import manifest_files, read_table
from transforms.storage.files import list_folder, read_bytes

TWO_PROCESSES = ["--direct_running_mode", "multi_processing", "--direct_num_workers", "2"]


def rgc(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def run_rows(output: str | Path, run: int = -1) -> list[dict[str, Any]]:
    """All rows of one of an output's runs, counted in their order."""
    files = manifest_files(str(output))
    wanted = sorted({Path(file).parent for file in files})[run]
    return [row for file in files if Path(file).parent == wanted for row in read_table(file).to_pylist()]


def rows(output: str | Path) -> dict[str, dict[str, Any]]:
    """All rows of an output's last run by URI, without what two runs never share."""
    found = run_rows(output)
    for row in found:
        for column in ("run_id", "finished_at", "encode_seconds"):
            row.pop(column)
        if row["rgc_uri"]:
            row["rgc_uri"] = row["rgc_uri"].removeprefix(str(output))
    by_uri = {row["source_uri"]: row for row in found}
    assert len(by_uri) == len(found)
    return by_uri


def codes(output: str | Path) -> dict[str, bytes]:
    files = list_folder(f"{output}/codes")
    return {file.uri.removeprefix(str(output)): read_bytes(file.uri) for file in files}


def left_behind(output: str | Path) -> list[str]:
    """Files of an output that are neither codes nor a run's manifest."""
    expected = r"/codes/.*\.rgc$|/manifest/run=\S+(\.parquet|/run\.json)$"
    return [file.uri for file in list_folder(str(output)) if not re.search(expected, file.uri)]


def words(output: str | Path) -> set[str]:
    """Those of photos that are being encoded, or were when their run was killed: see `Attempts`."""
    return {uri for uri in left_behind(output) if "/encoding-" in uri}


def _search_path() -> str:
    search = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return os.pathsep.join(filter(None, search))


def start(*arguments: str | Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "pipeline.cli.main", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": _search_path()}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command,
        env=environment,
        stdout=pipe,
        stderr=pipe,
        start_new_session=True,
        # A shell's & has it ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )


def wait_until(holds: Callable[[], object], seconds: float = 120.0) -> None:
    """Waits until something holds, with an AssertionError if that takes too long."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def wait_for(pattern: str, output: Path, process: subprocess.Popen[bytes]) -> None:
    """Waits for the first such file, for as long as the process is running."""
    wait_until(lambda: list(output.rglob(pattern)) or process.poll() is not None)
    assert list(output.rglob(pattern))


def more_photos(folder: Path, count: int) -> None:
    """Copies of the folder's a.jpg."""
    for number in range(count):
        (folder / f"copy{number}.jpg").write_bytes((folder / "a.jpg").read_bytes())


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def worker_pool() -> Iterator[list[str]]:
    """A job server and a pool that starts worker processes for it; gives Beam's options for them."""
    ports = []
    for _ in range(2):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports.append(str(free.getsockname()[1]))
    modules = [
        ["apache_beam.runners.portability.local_job_service_main", "--port", ports[0]],
        ["apache_beam.runners.worker.worker_pool_main", "--service_port", ports[1]],
    ]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # the pool starts "python"
    environment = {**os.environ, "PYTHONPATH": _search_path(), "PATH": path}
    quiet = subprocess.DEVNULL
    servers = [
        subprocess.Popen([sys.executable, "-m", *module], env=environment, stderr=quiet, stdout=quiet)
        for module in modules
    ]
    try:
        for port in ports:
            wait_until(partial(_listens, int(port)))
        address = ["--job_endpoint", f"127.0.0.1:{ports[0]}", "--environment_config", f"127.0.0.1:{ports[1]}"]
        yield ["--runner", "PortableRunner", "--environment_type", "EXTERNAL", *address]
    finally:
        for server in servers:
            server.terminate()
            server.wait()

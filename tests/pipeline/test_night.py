"""What a night brings: another machine's storage, faults, kills, a full disk; with every way to run."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from pipeline.cli import app
from tests.storage import Storage, upload_folder
from transforms.manifest import manifest_files, read_table
from transforms.storage import list_folder, read_bytes, write_bytes

ONE_BY_ONE = ["--iterations", "1", "--max-batch-pixels", "1"]
TWO_PROCESSES = ["--direct_running_mode", "multi_processing", "--direct_num_workers", "2"]
SOURCE = "gs://archive/photos"


def rgc(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def rows(output: str | Path) -> dict[str, dict[str, Any]]:
    """All rows of an output's last run by URI, without what two runs never share."""
    files = manifest_files(str(output))
    last = max(Path(file).parent.name for file in files)
    found = [row for file in files if Path(file).parent.name == last for row in read_table(file).to_pylist()]
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


def start(*arguments: str | Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "pipeline.cli", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, start_new_session=True)


def wait_for_codes(output: Path, process: subprocess.Popen[bytes]) -> None:
    while not list(output.rglob("*.rgc")):
        assert process.poll() is None
        time.sleep(0.01)


def more_photos(folder: Path, count: int) -> None:
    for number in range(count):
        (folder / f"copy{number}.jpg").write_bytes((folder / "a.jpg").read_bytes())


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
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "PATH": path}
    quiet = subprocess.DEVNULL
    servers = [
        subprocess.Popen([sys.executable, "-m", *module], env=environment, stderr=quiet, stdout=quiet)
        for module in modules
    ]
    try:
        for port in ports:
            while socket.socket().connect_ex(("127.0.0.1", int(port))):
                time.sleep(0.05)
        address = ["--job_endpoint", f"127.0.0.1:{ports[0]}", "--environment_config", f"127.0.0.1:{ports[1]}"]
        yield ["--runner", "PortableRunner", "--environment_type", "EXTERNAL", *address]
    finally:
        for server in servers:
            server.terminate()
            server.wait()


def test_storage_and_every_way_to_run(storage: Storage, photo_folder: Path) -> None:
    upload_folder(photo_folder, SOURCE)
    results = {}
    with worker_pool() as external:
        for name, options in {"memory": [], "processes": TWO_PROCESSES, "pool": external}.items():
            output = f"gs://archive/{name}"
            result = rgc("compress", SOURCE, output, *ONE_BY_ONE, *options)
            assert "4 photos: 2 encoded, 1 kept, 1 failed" in result.output
            results[name] = rows(output), codes(output)
    assert results["memory"] == results["processes"] == results["pool"]
    assert sorted(results["memory"][1]) == ["/codes/a.jpg.rgc", "/codes/trip/b.png.rgc"]

    again = rgc("compress", SOURCE, "gs://archive/memory", *ONE_BY_ONE)
    assert "3 of them were finished in an earlier run" in again.output
    write_bytes(f"{SOURCE}/a.jpg", (photo_folder / "trip" / "b.png").read_bytes())
    assert "2 of them were finished" in rgc("compress", SOURCE, "gs://archive/memory", *ONE_BY_ONE).output

    info = rgc("info", "gs://archive/pool/codes/a.jpg.rgc")
    assert "iteration 1:" in info.output
    assert "4 photos" in rgc("audit", "gs://archive/pool").output
    restored = rgc("decompress", "gs://archive/pool/codes", "gs://archive/images")
    assert restored.exit_code == 0 and "2 decoded" in restored.output
    assert len(list(list_folder("gs://archive/images"))) == 2


def test_a_night_of_faults(storage: Storage, photo_folder: Path) -> None:
    more_photos(photo_folder, 6)
    upload_folder(photo_folder, SOURCE)
    rgc("compress", SOURCE, "gs://archive/calm", *ONE_BY_ONE)
    storage.fault_rate, storage.stall_seconds = 0.2, 0.2
    result = rgc("compress", SOURCE, "gs://archive/night", *ONE_BY_ONE)
    storage.fault_rate = 0.0
    assert "10 photos: 8 encoded, 1 kept, 1 failed" in result.output
    assert storage.faults.total() > 5
    assert rows("gs://archive/night") == rows("gs://archive/calm")
    assert codes("gs://archive/night") == codes("gs://archive/calm")
    assert not [file for file in list_folder("gs://archive") if "partial" in file.uri or "temp" in file.uri]


def test_ctrl_c_keeps_what_is_done(photo_folder: Path, tmp_path: Path) -> None:
    more_photos(photo_folder, 40)
    output = tmp_path / "out"
    process = start("compress", photo_folder, output, "--max-batch-pixels", "1", *TWO_PROCESSES)
    wait_for_codes(output, process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the workers too
    said = process.communicate()[0].decode()
    assert process.returncode == 130 and "stopped: " in said
    assert 1 <= len(codes(output)) < 42
    assert {row["rgc_uri"] for row in rows(output).values()} - {None} == set(codes(output))
    result = rgc("compress", photo_folder, output, "--max-batch-pixels", "1")
    assert "44 photos: 42 encoded, 1 kept, 1 failed" in result.output and "finished" in result.output


def test_ctrl_c_twice_stops_at_once(photo_folder: Path, tmp_path: Path) -> None:
    more_photos(photo_folder, 40)
    output = tmp_path / "out"
    process = start("compress", photo_folder, output, *ONE_BY_ONE, *TWO_PROCESSES)
    wait_for_codes(output, process)
    os.killpg(process.pid, signal.SIGINT)
    time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=5)  # also: no worker holds the pipes open any longer
    assert process.returncode == 130
    assert "44 photos: 42 encoded" in rgc("compress", photo_folder, output, *ONE_BY_ONE).output


def test_a_full_disk_fails_photos_and_leaves_nothing_half_written(photo_folder: Path, tmp_path: Path) -> None:
    more_photos(photo_folder, 40)
    output = tmp_path / "disk"
    output.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=48k", "tmpfs", str(output)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounting takes root")
    try:
        result = rgc("compress", photo_folder, output, *ONE_BY_ONE)
        assert result.exit_code == 1 and "No space left" in result.output and "goes on" in result.output
        assert not list(output.rglob("*.partial"))
        subprocess.run(["mount", "-o", "remount,size=4m", str(output)], check=True)
        result = rgc("compress", photo_folder, output, *ONE_BY_ONE)
        assert "44 photos: 42 encoded, 1 kept, 1 failed" in result.output
    finally:
        subprocess.run(["umount", str(output)], check=True)


def test_an_output_that_cannot_be_written_is_a_wrong_call(
    storage: Storage, photo_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    for output in (tmp_path / "file", "gs://no-such-bucket/out"):
        result = rgc("compress", photo_folder, output, *ONE_BY_ONE)
        assert result.exit_code == 2 and "OUTPUT" in result.output

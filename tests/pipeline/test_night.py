"""What a night brings: another machine's storage, faults, kills, a full disk; with every way to run."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from pipeline.cli import app
from tests.runs import TWO_PROCESSES, codes, rows, start, worker_pool
from tests.storage import Storage, upload_folder
from transforms.storage import list_folder, write_bytes

ONE_BY_ONE = ["--iterations", "1", "--max-batch-pixels", "1"]
SOURCE = "gs://archive/photos"


def rgc(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def wait_for_codes(output: Path, process: subprocess.Popen[bytes]) -> None:
    while not list(output.rglob("*.rgc")):
        assert process.poll() is None
        time.sleep(0.01)


def more_photos(folder: Path, count: int) -> None:
    for number in range(count):
        (folder / f"copy{number}.jpg").write_bytes((folder / "a.jpg").read_bytes())


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

"""Remote storage, faults, kills and a full disk, with every way to run."""

import errno
import os
import re
import signal
import subprocess
import tempfile
import time
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import psutil
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from PIL import Image
from rich.console import Console

from model.settings import Settings
from pipeline.compress import CompressJob, new_run
from pipeline.execution import Execution
from pipeline.runners import supervise
from pipeline.runners.run import choose_execution
from pipeline.runners.supervise import EndedEarlyError
from tests.runs import (
    TWO_PROCESSES,
    codes,
    left_behind,
    more_photos,
    rgc,
    rows,
    start,
    wait_for,
    wait_until,
    words,
    worker_pool,
)
from tests.storage import Storage, upload_folder
from transforms import write
from transforms.attempts import ENDED_ITS_PROCESS
from transforms.find import Source
from transforms.progress import OUTPUT_FULL, WORKER_ENDED, ProgressEvent, report, request_stop
from transforms.storage.files import list_folder, write_bytes

ONE_BY_ONE = ["--iterations", "1", "--max-batch-pixels", "1"]
SOURCE = "gs://archive/photos"


# In every process that is started: a decoder that crashes on one kind of photo, and hangs on another.
BAD_DECODER = """
import os, signal, time
import PIL.Image
def bad(*arguments, open=PIL.Image.open, **options):
    image = open(*arguments, **options)
    if image.size == (77, 7):
        os.kill(os.getpid(), signal.SIGSEGV)
    if image.size == (78, 7):
        time.sleep(3600)
    return image
PIL.Image.open = bad
"""


# In every process: the codec is ended by one kind of photo.
BAD_ENCODER = """
import os, signal
import numpy
def bad(array, *arguments, require=numpy.require, **options):
    if array.shape == (7, 77, 3):
        os.kill(os.getpid(), signal.SIGKILL)
    return require(array, *arguments, **options)
numpy.require = bad
"""


def many_codes(image: Image.Image, folder: Path, count: int) -> Path:
    photo, codes = folder / "a.jpg", folder / "codes"
    image.resize((800, 600)).save(photo)
    codes.mkdir()
    rgc("encode", photo, codes / "0.rgc", "--iterations", "1")
    for number in range(1, count):
        (codes / f"{number}.rgc").write_bytes((codes / "0.rgc").read_bytes())
    return codes


def worker_processes(run: subprocess.Popen[bytes]) -> list[psutil.Process]:
    children = psutil.Process(run.pid).children(recursive=True)
    command = ["-m", "apache_beam.runners.worker.sdk_worker_main"]
    workers = [child for child in children if child.cmdline()[1:] == command]
    assert [worker.environ()["MALLOC_ARENA_MAX"] for worker in workers] == ["1", "1"]
    return workers


def test_storage_and_every_way_to_run(
    storage: Storage, photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_folder(photo_folder, SOURCE)
    (temporary := tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    results = {}
    with worker_pool() as external:
        external += ["--job_server_timeout", "1"]  # of a request; the job takes longer
        for name, options in {"memory": [], "processes": TWO_PROCESSES, "pool": external}.items():
            output = f"gs://archive/{name}"
            result = rgc("compress", SOURCE, output, *ONE_BY_ONE, *options)
            assert "4 files: 2 encoded, 1 kept, 1 failed" in result.output
            results[name] = rows(output), codes(output)
        assert not list(temporary.iterdir())
    assert results["memory"] == results["processes"] == results["pool"]
    assert sorted(results["memory"][1]) == ["/codes/a.jpg.rgc", "/codes/trip/b.png.rgc"]

    again = rgc("compress", SOURCE, "gs://archive/memory", *ONE_BY_ONE)
    assert "3 of them were finished in an earlier run" in again.output
    write_bytes(f"{SOURCE}/a.jpg", (photo_folder / "trip" / "b.png").read_bytes())
    assert "2 of them were finished" in rgc("compress", SOURCE, "gs://archive/memory", *ONE_BY_ONE).output

    info = rgc("info", "gs://archive/pool/codes/a.jpg.rgc")
    assert "iteration 1:" in info.output
    assert "4 files" in rgc("audit", "gs://archive/pool").output
    restored = rgc("decompress", "gs://archive/pool/codes", "gs://archive/images")
    assert restored.exit_code == 0 and "2 decoded" in restored.output
    images = [file.uri for file in list_folder("gs://archive/images")]
    assert len([uri for uri in images if uri.endswith(".png")]) == 2


def test_faults_change_nothing(storage: Storage, photo_folder: Path) -> None:
    more_photos(photo_folder, 6)
    upload_folder(photo_folder, SOURCE)
    rgc("compress", SOURCE, "gs://archive/undisturbed", *ONE_BY_ONE)
    storage.fault_rate, storage.stall_seconds = 0.3, 0.2
    result = rgc("compress", SOURCE, "gs://archive/faults", *ONE_BY_ONE)
    storage.fault_rate = 0.0
    assert "10 files: 8 encoded, 1 kept, 1 failed" in result.output
    assert storage.faults.total() > 5
    assert rows("gs://archive/faults") == rows("gs://archive/undisturbed")
    assert codes("gs://archive/faults") == codes("gs://archive/undisturbed")
    assert not [file for file in list_folder("gs://archive") if "partial" in file.uri or "temp" in file.uri]


def test_ctrl_c_keeps_what_is_done(photo_folder: Path, tmp_path: Path) -> None:
    more_photos(photo_folder, 40)
    output = tmp_path / "out"
    process = start("compress", photo_folder, output, "--max-batch-pixels", "1", *TWO_PROCESSES)
    wait_for("*.rgc", output, process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the workers too
    said = process.communicate()[0].decode()
    assert process.returncode == 130 and "stopped: " in said
    assert 1 <= len(codes(output)) < 42
    assert {row["rgc_uri"] for row in rows(output).values()} - {None} == set(codes(output))
    (found, finished) = (len(rows(output)), 44)
    assert f"is not complete: {found} of {finished} files are in it" in rgc("audit", output).output
    result = rgc("compress", photo_folder, output, "--max-batch-pixels", "1")
    assert "is not complete" not in rgc("audit", output).output
    assert "44 files: 42 encoded, 1 kept, 1 failed" in result.output and "finished" in result.output


def test_ctrl_c_twice_stops_at_once(photo_folder: Path, tmp_path: Path) -> None:
    more_photos(photo_folder, 40)
    output = tmp_path / "out"
    process = start("compress", photo_folder, output, *ONE_BY_ONE, *TWO_PROCESSES)
    wait_for("*.rgc", output, process)
    os.killpg(process.pid, signal.SIGINT)
    time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    said = b"".join(process.communicate(timeout=5))  # also: no worker holds the pipes open any longer
    assert process.returncode == 130 and b"stopped at once" in said
    assert "44 files: 42 encoded" in rgc("compress", photo_folder, output, *ONE_BY_ONE).output
    assert not left_behind(output)


@pytest.mark.parametrize("way", ["processes", "pool"])
@pytest.mark.parametrize("place", ["disk", "storage"])
def test_after_a_run_that_was_killed_the_next_one_leaves_nothing_behind(
    storage: Storage,
    photo_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    way: str,
    place: str,
) -> None:
    Image.new("RGB", (77, 7)).save(photo_folder / "stays.png")
    (tmp_path / "sitecustomize.py").write_text(BAD_ENCODER.replace("SIGKILL", "SIGSTOP"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    output = str(tmp_path / "out") if place == "disk" else "gs://archive/out"
    before = psutil.Process().children(recursive=True)
    with worker_pool() if way == "pool" else nullcontext(TWO_PROCESSES) as options:
        process = start("compress", photo_folder, output, *ONE_BY_ONE, *options)
        try:
            wait_until(lambda: words(output))
        finally:
            for started in set(psutil.Process().children(recursive=True)) - set(before):
                started.kill()
        process.communicate()
    assert words(output)
    assert "5 files: " in rgc("compress", photo_folder, output, *ONE_BY_ONE).output
    assert len(rows(output)) == 5 and not left_behind(output)


def test_ctrl_c_stops_decompress_too(astronaut: Image.Image, tmp_path: Path) -> None:
    codes, images = many_codes(astronaut, tmp_path, 40), tmp_path / "images"
    process = start("decompress", codes, images, *TWO_PROCESSES)
    wait_for("*.png", images, process)
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate(timeout=30)[0].decode()
    assert process.returncode == 130 and "stopped: interrupted; " in said
    assert 1 <= len(list(images.rglob("*.png"))) < 40
    assert not list(images.rglob("*.partial"))


def test_a_killed_worker_ends_decompress_and_the_same_call_goes_on(
    astronaut: Image.Image, tmp_path: Path
) -> None:
    codes, images = many_codes(astronaut, tmp_path, 30), tmp_path / "images"
    process = start("decompress", codes, images, *TWO_PROCESSES)
    wait_for("*.png", images, process)
    worker_processes(process)[0].kill()
    complaints = process.communicate(timeout=90)[1].decode()
    assert process.returncode == 1 and "the run ended early" in complaints
    assert "30 decoded, 0 failed" in rgc("decompress", codes, images, *TWO_PROCESSES).output


def test_a_job_elsewhere_goes_on_and_ctrl_c_says_so(photo_folder: Path, tmp_path: Path) -> None:
    more_photos(photo_folder, 10)
    output = tmp_path / "out"
    with worker_pool() as external:
        process = start("compress", photo_folder, output, *ONE_BY_ONE, *external)
        wait_for("*.rgc", output, process)
        os.killpg(process.pid, signal.SIGINT)
        complaints = process.communicate(timeout=10)[1].decode()
        assert process.returncode == 130 and "a job that was submitted goes on" in complaints
        wait_until(lambda: list(output.rglob("*.parquet")))
    assert len(rows(output)) == 14


def test_a_killed_worker_does_not_end_the_run(photo_folder: Path, tmp_path: Path) -> None:
    """As the system does for memory. The other one does not finish its share alone before the run goes on."""
    more_photos(photo_folder, 80)
    output = tmp_path / "out"
    process = start("compress", photo_folder, output, *ONE_BY_ONE, *TWO_PROCESSES)
    wait_for("*.rgc", output, process)
    worker_processes(process)[0].kill()
    said, complaints = (text.decode() for text in process.communicate(timeout=90))
    assert "a worker process was killed" in complaints and complaints.count("starting it again") == 1
    assert "84 files: 82 encoded, 1 kept, 1 failed" in said
    (resumed,) = re.findall(r"(\d+) of them were finished in an earlier run", said)
    assert 1 <= int(resumed) < 42
    assert len(rows(output)) == 84 and len(codes(output)) == 82


def test_a_photo_that_ends_its_worker_while_it_is_encoded_is_one_failed_row(
    photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more_photos(photo_folder, 6)
    Image.new("RGB", (77, 7)).save(photo_folder / "killer.png")
    (tmp_path / "sitecustomize.py").write_text(BAD_ENCODER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    output = tmp_path / "out"
    process = start("compress", photo_folder, output, "--iterations", "1", *TWO_PROCESSES)
    said, complaints = (text.decode() for text in process.communicate(timeout=300))
    assert process.returncode == 1 and complaints.count("a worker process was killed") == 2
    assert "11 files: 8 encoded, 1 kept, 2 failed" in said
    assert rows(output)[str(photo_folder / "killer.png")]["reason"] == ENDED_ITS_PROCESS
    assert len(codes(output)) == 8
    assert not left_behind(output)


@pytest.mark.parametrize("way", ["memory", "processes", "pool"])
def test_a_photo_that_kills_or_holds_up_its_decoder_is_one_failed_row(
    photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    more_photos(photo_folder, 6)
    Image.new("RGB", (77, 7)).save(photo_folder / "killer.png")
    Image.new("RGB", (78, 7)).save(photo_folder / "sleeper.png")
    (tmp_path / "sitecustomize.py").write_text(BAD_DECODER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("RGC_DECODE_SECONDS", "4")
    output = tmp_path / "out"
    with worker_pool() if way == "pool" else nullcontext([]) as external:
        options = {"memory": [], "processes": TWO_PROCESSES, "pool": external}[way]
        process = start("compress", photo_folder, output, *ONE_BY_ONE, *options)
        said, complaints = (text.decode() for text in process.communicate(timeout=180))
    assert process.returncode == 1 and "starting it again" not in complaints
    assert "12 files: 8 encoded, 1 kept, 3 failed" in said
    found = rows(output)
    assert found[str(photo_folder / "killer.png")]["reason"] == "its decoder crashed (SIGSEGV)"
    late = "its decoder took more than 4 seconds and was ended"
    assert found[str(photo_folder / "sleeper.png")]["reason"] == late
    assert len(codes(output)) == 8


@pytest.mark.parametrize(
    ("ends", "starts", "reason"),
    [
        ([("encoded", "boom"), ("encoded", "boom"), ("encoded", "")], 3, ""),
        ([("encoded", "boom"), ("failed", "boom")], 2, "boom"),  # it does not help
        ([("full", "boom")], 1, "OUTPUT is full: boom"),  # nor does it here
        ([("killed", "boom")] * 3, 3, "a worker process was killed: boom"),  # before there was any work
    ],
)
def test_a_run_is_started_again_while_that_helps(
    ends: list[tuple[str, str]], starts: int, reason: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    jobs: list[CompressJob] = []

    def run(graph: partial, execution: Execution, options: PipelineOptions) -> None:
        status, error = ends[len(jobs)]
        jobs.extend(graph.args)
        if (why := {"full": OUTPUT_FULL, "killed": WORKER_ENDED}.get(status)) is not None:
            request_stop(execution.stop_path, why)
        else:
            report(ProgressEvent("a.jpg", status, 1), execution.progress_path)
        if error:
            raise RuntimeError(f"a worker's traceback\n{error}")

    monkeypatch.setattr(supervise, "run", run)
    settings = Settings.default()
    job = CompressJob(Source("in", "in/", "folder"), str(tmp_path), settings, new_run(settings))
    options = PipelineOptions([])
    arguments = job, choose_execution(options, "cpu"), options, Console(quiet=True)
    if not reason:
        assert supervise.supervise(*arguments).run == jobs[-1].run
    else:
        with pytest.raises(EndedEarlyError, match=f"^{reason}$"):
            supervise.supervise(*arguments)
    assert len({job.run.run_id for job in jobs}) == len(jobs) == starts


def test_a_full_disk_stops_the_run_and_leaves_nothing_half_written(
    photo_folder: Path, tmp_path: Path
) -> None:
    more_photos(photo_folder, 80)
    output = tmp_path / "disk"
    output.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=48k", "tmpfs", str(output)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounting takes root")
    try:
        result = rgc("compress", photo_folder, output, *ONE_BY_ONE)
        # The manifest has no space either.
        assert result.exit_code == 1 and "the run ended early: OUTPUT is full: " in result.output
        assert "No space left" in result.output and "goes on" in result.output
        assert not list(output.rglob("*.partial"))
        written = len(codes(output))
        subprocess.run(["mount", "-o", "remount,size=4m", str(output)], check=True)
        result = rgc("compress", photo_folder, output, *ONE_BY_ONE)
        assert "84 files: 82 encoded, 1 kept, 1 failed" in result.output
        assert f"{written} of them were finished" in result.output
    finally:
        subprocess.run(["umount", str(output)], check=True)


def test_a_full_disk_for_photos_alone_leaves_a_manifest(
    photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more_photos(photo_folder, 40)

    def full(uri: str, *_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), uri)

    monkeypatch.setattr(write, "write_over", full)
    result = rgc("compress", photo_folder, tmp_path / "out", *ONE_BY_ONE)
    assert result.exit_code == 1 and "stopped: OUTPUT is full; " in result.output
    assert 1 <= result.output.count("No space left on device") < 10
    assert len(rows(tmp_path / "out")) < 10


def test_an_output_that_cannot_be_written_is_a_wrong_call(
    storage: Storage, photo_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    for output in (tmp_path / "file", "gs://no-such-bucket/out"):
        result = rgc("compress", photo_folder, output, *ONE_BY_ONE)
        assert result.exit_code == 2 and "OUTPUT" in result.output

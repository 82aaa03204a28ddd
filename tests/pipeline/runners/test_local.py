import os
from pathlib import Path

import pytest
import torch
from apache_beam.options.pipeline_options import PipelineOptions

from pipeline.runners.local import local_workers, torch_threads
from pipeline.runners.names import is_local
from pipeline.runners.run import CPU_BATCH_PIXELS, GPU_BATCH_PIXELS, choose_execution
from tests.runs import TWO_PROCESSES, rgc, start


@pytest.mark.parametrize("runner", ["DirectRunner", "direct", "directrunner", "FnApiRunner"])
def test_local_runners_are_known_however_they_are_spelled(runner: str) -> None:
    assert is_local(PipelineOptions([f"--runner={runner}"])) and is_local(PipelineOptions([]))


@pytest.mark.parametrize("runner", ["PortableRunner", "dataflow", "SparkRunner"])
def test_others_are_not_taken_for_local_ones(runner: str) -> None:
    options = PipelineOptions([f"--runner={runner}"])
    assert not is_local(options) and local_workers(options) is None and torch_threads(options) is None


@pytest.mark.parametrize(
    ("runner", "device", "has_gpu", "expected"),
    [
        ("direct", "auto", True, ("cuda", GPU_BATCH_PIXELS)),
        ("direct", "auto", False, ("cpu", CPU_BATCH_PIXELS)),
        ("direct", "cpu", True, ("cpu", CPU_BATCH_PIXELS)),
        ("dataflow", "auto", False, ("cuda", GPU_BATCH_PIXELS)),
        ("PortableRunner", "auto", False, ("auto", GPU_BATCH_PIXELS)),
    ],
)
def test_the_device_of_a_local_run_is_known_before_and_batches_are_smaller_on_a_cpu(
    monkeypatch: pytest.MonkeyPatch, runner: str, device: str, has_gpu: bool, expected: tuple[str, int]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    execution = choose_execution(PipelineOptions([f"--runner={runner}"]), device)
    assert (execution.device, execution.batch_pixels) == expected


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_run_without_a_gpu_says_so_once_and_not_as_a_fault(photo_folder: Path, tmp_path: Path) -> None:
    """With two worker processes, whose logs are the run's."""
    run = start("compress", photo_folder, tmp_path / "out", "--iterations", "1", *TWO_PROCESSES)
    said = b"".join(run.communicate())
    assert said.count(b"no GPU") == 1 and b"WARNING" not in said


def test_a_gpu_has_photos_coded_on_all_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    here, elsewhere = PipelineOptions([]), PipelineOptions(["--runner=dataflow"])
    several = PipelineOptions(["--direct_running_mode=multi_processing", "--direct_num_workers=3"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_execution(here, "auto").writes is choose_execution(elsewhere, "auto").writes is None
    assert choose_execution(here, "cpu").writes == choose_execution(several, "auto").writes == 2
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_execution(here, "auto").writes == 2


@pytest.mark.parametrize(
    ("flags", "workers", "threads"),
    [
        ([], 1, None),
        (["--direct_running_mode=multi_processing", "--direct_num_workers=3"], 3, 2),
        (["--direct_running_mode=multi_processing", "--direct_num_workers=0"], 7, 1),  # as many as CPUs
    ],
)
def test_worker_processes_share_the_cores(
    flags: list[str], workers: int, threads: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch takes one thread for each core, of which there may be fewer than CPUs."""
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 6)
    options = PipelineOptions(flags)
    assert (local_workers(options), torch_threads(options)) == (workers, threads)


def test_a_job_server_that_is_not_there_is_named_at_once(photo_folder: Path, tmp_path: Path) -> None:
    elsewhere = ["--runner", "PortableRunner", "--job_endpoint", "127.0.0.1:1"]
    result = rgc("compress", photo_folder, tmp_path / "out", *elsewhere)
    assert result.exit_code == 2 and "no job server answers at 127.0.0.1:1" in result.output
    assert not (tmp_path / "out").exists()

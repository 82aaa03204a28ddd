"""Counters: what they say is what the manifest and the storage server say."""

from functools import partial
from pathlib import Path

import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from model.settings import Settings
from pipeline.compress import CompressJob, compress, new_run
from pipeline.runners.run import choose_execution, run
from tests.runs import TWO_PROCESSES, more_photos, run_rows
from tests.storage import Storage, upload_folder
from transforms import counters
from transforms.counters import note_retry, read_counters
from transforms.find import find_source
from transforms.storage.files import find_status, write_bytes


@pytest.mark.parametrize("flags", [[], TWO_PROCESSES], ids=["one process", "two processes"])
def test_a_run_counts_what_its_manifest_says(flags: list[str], storage: Storage, photo_folder: Path) -> None:
    more_photos(photo_folder, 6)
    upload_folder(photo_folder, "gs://archive/photos")
    settings, output, options = Settings(iterations=1), "gs://archive/out", PipelineOptions(flags)
    counters._FAULTS.take()  # those of other tests in this process
    storage.fault_rate, storage.stall_seconds = 0.2, 0.1

    def counts_of_a_run() -> tuple[dict[str, int], list[dict]]:
        job = CompressJob(find_source("gs://archive/photos"), output, settings, new_run(settings))
        result = run(partial(compress, job), choose_execution(options, "cpu"), options)
        return read_counters(result), run_rows(output)

    counts, rows = counts_of_a_run()
    for status in ("encoded", "kept", "failed"):
        assert counts[status] == sum(row["status"] == status for row in rows) > 0
    assert counts["pixels"] == sum(row["width"] * row["height"] for row in rows if row["width"])
    assert counts["resumed"] == 0 and counts["microseconds_waited"] > 0
    assert 0 < counts["faults_retried"] <= storage.retries
    again, _ = counts_of_a_run()
    assert (again["encoded"], again["kept"], again["failed"]) == (8, 1, 1)
    assert (again["resumed"], again["pixels"]) == (9, 0)


def test_faults_of_any_thread_are_counted_once(storage: Storage) -> None:
    counters._FAULTS.take()
    storage.fault_rate, storage.stall_seconds = 0.4, 0.1
    for number in range(20):
        write_bytes(f"gs://archive/{number}", b"x")
        assert find_status(f"gs://archive/{number}") is not None
    assert storage.retries > 5
    assert counters._FAULTS.take() == storage.retries
    note_retry(OSError())
    assert (counters._FAULTS.take(), counters._FAULTS.take()) == (1, 0)

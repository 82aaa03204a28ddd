import io
import os
import time
from dataclasses import replace

from rich.console import Console

from pipeline.runners.progress import ProgressDisplay
from transforms.elements import Photo
from transforms.manifest.rows import ManifestRow, Run
from transforms.manifest.writing import table_of
from transforms.progress import (
    INTERRUPTED,
    OUTPUT_FULL,
    WORKER_ENDED,
    ProgressEvent,
    report,
    report_finished,
    report_found,
    request_stop,
)


def test_counts_what_workers_report_even_in_pieces() -> None:
    output = io.StringIO()
    with ProgressDisplay(Console(file=output), "compress") as display:
        for name in ("a", "b"):
            report(ProgressEvent(name, "found", 100), display.path)
        report(ProgressEvent("a", "encoded", 100, pixels=2_000_000, saved_bytes=60), display.path)
        line = b'{"uri": "b", "status": "failed", "source_bytes": 100, "reason": "why"}\n'
        file = os.open(display.path, os.O_WRONLY | os.O_APPEND)
        os.write(file, line[:20])
        time.sleep(0.7)  # long enough for the display to see half a line
        os.write(file, line[20:])
        os.close(file)
    counts = display.counts
    assert (counts.found, counts.finished, counts.saved_bytes, counts.new_pixels) == (2, 2, 60, 2_000_000)
    assert [event.reason for event in counts.failures] == ["why"]
    assert counts.text().startswith("2/2 files, ") and counts.text().endswith("60 bytes saved")


def test_an_event_may_stand_for_many_photos() -> None:
    found = [Photo(f"/photos/{number}.jpg", f"{number}.jpg", 100, "") for number in range(5)]
    run = Run("1", "", "")
    rows = [ManifestRow.not_encoded(run, photo, "kept", "why") for photo in found[:2]]
    rows += [replace(row, status="encoded", saved_bytes=60) for row in rows]
    with ProgressDisplay(Console(quiet=True), "compress") as display:
        report_found(found, display.path)
        report_finished(table_of(rows), display.path)
    counts = display.counts
    assert (counts.found, counts.found_bytes) == (5, 500)
    assert (counts.finished, counts.finished_bytes, counts.saved_bytes) == (4, 400, 120)
    assert (counts.resumed, counts.encoded, counts.new_pixels) == (4, 0, 0)


def test_a_line_that_a_full_disk_cut_short_costs_no_more_than_the_next() -> None:
    with ProgressDisplay(Console(quiet=True), "compress") as display:
        with open(display.path, "a") as file:
            file.write('{"uri": "a", "status": "enc')
        for name in ("b", "c"):
            report(ProgressEvent(name, "encoded", 100), display.path)
    assert display.counts.finished == 1


def test_a_full_disk_does_not_stop_a_worker() -> None:
    report(ProgressEvent("a", "found", 1), "/dev/full")
    report(ProgressEvent("a", "found", 1), "/nowhere/events")


def test_who_asks_to_stop_is_heard_and_else_the_first_reason_counts() -> None:
    with ProgressDisplay(Console(quiet=True), "compress") as display:
        assert display.stopped == ""
        request_stop(display.stop_path, OUTPUT_FULL)
        request_stop(display.stop_path, f"{WORKER_ENDED} 1234")
    assert display.stopped == OUTPUT_FULL
    with ProgressDisplay(Console(quiet=True), "compress") as display:
        request_stop(display.stop_path, f"{WORKER_ENDED} 1234")
        display.interrupt()
    assert display.stopped == INTERRUPTED
    with ProgressDisplay(Console(quiet=True), "compress") as display:
        open(display.stop_path, "w").close()  # as where the disk has no space for more
    assert display.stopped == INTERRUPTED

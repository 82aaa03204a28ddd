import io
import os
import time

from rich.console import Console

from pipeline.runners.progress import Follower
from transforms.progress import INTERRUPTED, OUTPUT_FULL, WORKER_ENDED, Tick, ask_to_stop, report


def test_counts_what_workers_report_even_in_pieces() -> None:
    output = io.StringIO()
    with Follower(Console(file=output), "compress") as follower:
        for name in ("a", "b"):
            report(Tick(name, "found", 100), follower.path)
        report(Tick("a", "encoded", 100, pixels=2_000_000, saved_bytes=60), follower.path)
        line = b'{"uri": "b", "status": "failed", "source_bytes": 100, "reason": "why"}\n'
        file = os.open(follower.path, os.O_WRONLY | os.O_APPEND)
        os.write(file, line[:20])
        time.sleep(0.7)  # long enough for the follower to see half a line
        os.write(file, line[20:])
        os.close(file)
    tally = follower.tally
    assert (tally.found, tally.finished, tally.saved_bytes, tally.new_pixels) == (2, 2, 60, 2_000_000)
    assert [tick.reason for tick in tally.failures] == ["why"]
    assert tally.text().startswith("2/2 photos, ") and tally.text().endswith("60 bytes saved")


def test_a_line_that_a_full_disk_cut_short_costs_no_more_than_the_next() -> None:
    with Follower(Console(quiet=True), "compress") as follower:
        with open(follower.path, "a") as file:
            file.write('{"uri": "a", "status": "enc')
        for name in ("b", "c"):
            report(Tick(name, "encoded", 100), follower.path)
    assert follower.tally.finished == 1


def test_a_full_disk_does_not_stop_a_worker() -> None:
    report(Tick("a", "found", 1), "/dev/full")
    report(Tick("a", "found", 1), "/nowhere/ticks")


def test_who_asks_to_stop_is_heard_and_else_the_first_reason_counts() -> None:
    with Follower(Console(quiet=True), "compress") as follower:
        assert follower.stopped == ""
        ask_to_stop(follower.stop_path, OUTPUT_FULL)
        ask_to_stop(follower.stop_path, f"{WORKER_ENDED} 1234")
    assert follower.stopped == OUTPUT_FULL
    with Follower(Console(quiet=True), "compress") as follower:
        ask_to_stop(follower.stop_path, f"{WORKER_ENDED} 1234")
        follower.ask_to_stop()
    assert follower.stopped == INTERRUPTED
    with Follower(Console(quiet=True), "compress") as follower:
        open(follower.stop_path, "w").close()  # as where the disk has no space for more
    assert follower.stopped == INTERRUPTED

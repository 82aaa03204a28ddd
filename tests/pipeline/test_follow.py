import io
import os
import time

from rich.console import Console

from pipeline.follow import Follower
from transforms.progress import Tick, report


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


def test_without_a_path_nothing_is_reported() -> None:
    report(Tick("a", "found", 1), None)

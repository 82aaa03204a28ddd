"""Shows the progress that workers report: a bar on a terminal, a line now and then in a log."""

import json
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self, TextIO, TypeVar

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from pipeline.execution import Execution
from pipeline.runners.interruption import run_interruptibly
from pipeline.runners.temporary import temporary_folder
from transforms.progress import INTERRUPTED, ProgressEvent, request_stop

SECONDS_BETWEEN_LINES = 30.0
_POLL_SECONDS = 0.5
Result = TypeVar("Result")


@dataclass
class RunCounts:
    """What has been counted so far."""

    found: int = 0
    found_bytes: int = 0
    finished: int = 0
    finished_bytes: int = 0
    resumed: int = 0
    encoded: int = 0
    new_pixels: int = 0
    saved_bytes: int = 0
    started: float = field(default_factory=time.monotonic)
    failures: list[ProgressEvent] = field(default_factory=list)

    def add(self, event: ProgressEvent) -> None:
        if event.status == "found":
            self.found += event.photos
            self.found_bytes += event.source_bytes
            return
        self.finished += event.photos
        self.finished_bytes += event.source_bytes
        self.saved_bytes += event.saved_bytes
        self.resumed += event.photos if event.resumed else 0
        self.encoded += event.status == "encoded" and not event.resumed
        self.new_pixels += 0 if event.resumed else event.pixels
        if event.status == "failed":
            self.failures.append(event)

    def text(self) -> str:
        speed = self.new_pixels / 1e6 / max(time.monotonic() - self.started, 1e-3)
        saved = f"-{decimal(-self.saved_bytes)}" if self.saved_bytes < 0 else decimal(self.saved_bytes)
        return f"{self.finished}/{self.found} files, {speed:.2f} MP/s, {saved} saved"


class ProgressDisplay:
    """Within its context, shows on `console` what workers report to `path`.

    Attributes:
        stopped: after that, why the run was asked to stop (see `request_stop`); empty if it was not.
    """

    def __init__(self, console: Console, verb: str) -> None:
        self.counts = RunCounts()
        self.stopped = ""
        self._console = console
        self._verb = verb
        self._folder = tempfile.TemporaryDirectory()
        self.path = str(Path(self._folder.name) / "events.jsonl")
        self.stop_path = str(Path(self._folder.name) / "stop")
        Path(self.path).touch()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._show, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        if (stop := Path(self.stop_path)).exists():
            reasons = stop.read_text(encoding="utf-8").splitlines()
            self.stopped = INTERRUPTED if INTERRUPTED in reasons or not reasons else reasons[0]
        self._folder.cleanup()

    def run(self, work: Callable[[Execution], Result], execution: Execution) -> Result:
        """Does `work`. Ctrl-C lets it finish the photos in progress; a second one ends it at once."""
        reported = replace(execution, progress_path=self.path, stop_path=self.stop_path)
        temporary = tempfile.gettempdir()

        def stop_at_once() -> None:
            shutil.rmtree(temporary, ignore_errors=True)
            self._console.print("stopped at once: the same command, run again, goes on")

        return run_interruptibly(lambda: work(reported), self.interrupt, stop_at_once)

    def interrupt(self) -> None:
        request_stop(self.stop_path, INTERRUPTED)
        self._console.print("stopping after the photos in progress; once more to stop at once")

    def _show(self) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
        next_line = time.monotonic() + SECONDS_BETWEEN_LINES
        with (
            open(self.path, encoding="utf-8") as file,
            Progress(*columns, console=self._console, disable=not self._console.is_terminal) as bar,
        ):
            task = bar.add_task(self._verb, total=None)
            while True:
                ending = self._end.is_set()  # read before the file, so that the last lines count
                for event in _whole_events(file):
                    self.counts.add(event)
                # The bar goes by bytes: the number of pixels is only known once photos are read.
                bar.update(
                    task,
                    description=f"{self._verb} {self.counts.text()}",
                    completed=self.counts.finished_bytes,
                    total=self.counts.found_bytes or None,
                )
                if ending:
                    return
                if not self._console.is_terminal and time.monotonic() >= next_line:
                    self._console.print(f"{self._verb} {self.counts.text()}")
                    next_line += SECONDS_BETWEEN_LINES
                self._end.wait(_POLL_SECONDS)


def _whole_events(file: TextIO) -> Iterator[ProgressEvent]:
    """The events whose lines are complete by now; the rest stays for the next time."""
    while True:
        start = file.tell()
        line = file.readline()
        if not line.endswith("\n"):
            file.seek(start)
            return
        with suppress(ValueError, TypeError):  # a line cut short by a full disk, with the next one in it
            yield ProgressEvent(**json.loads(line))


@contextmanager
def showing_progress(console: Console, verb: str) -> Iterator[ProgressDisplay]:
    """For a run on this machine: its progress, and a folder for its temporary files."""
    with temporary_folder(), ProgressDisplay(console, verb) as display:
        yield display

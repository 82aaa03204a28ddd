"""Follows the workers' progress file: a bar on a terminal, a line now and then in a log."""

import json
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Self, TextIO

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from pipeline.runners.interrupt import on_interrupt
from pipeline.runners.temporary import temporary_folder
from transforms.progress import INTERRUPTED, WORKER_ENDED, Tick, ask_to_stop

SECONDS_BETWEEN_LINES = 30.0
_POLL_SECONDS = 0.5


@dataclass
class Tally:
    """What has been counted so far; and of photos that are begun or loaded, which process has them."""

    found: int = 0
    found_bytes: int = 0
    finished: int = 0
    finished_bytes: int = 0
    resumed: int = 0
    encoded: int = 0
    new_pixels: int = 0
    saved_bytes: int = 0
    started: float = field(default_factory=time.monotonic)
    failures: list[Tick] = field(default_factory=list)
    begun: dict[str, int] = field(default_factory=dict)
    loaded: dict[str, int] = field(default_factory=dict)

    def count(self, tick: Tick) -> None:
        if tick.status == "found":
            self.found += 1
            self.found_bytes += tick.source_bytes
            return
        self.begun.pop(tick.uri, None)
        self.loaded.pop(tick.uri, None)
        if tick.status in ("begun", "loaded"):
            (self.begun if tick.status == "begun" else self.loaded)[tick.uri] = tick.worker
            return
        self.finished += 1
        self.finished_bytes += tick.source_bytes
        self.saved_bytes += tick.saved_bytes
        self.resumed += tick.resumed
        self.encoded += tick.status == "encoded" and not tick.resumed
        self.new_pixels += 0 if tick.resumed else tick.pixels
        if tick.status == "failed":
            self.failures.append(tick)

    def in_hand(self, worker: int | None) -> set[str]:
        """What a process that was killed may have died of: photos that it was loading, else had loaded."""
        for photos in (self.begun, self.loaded):
            if found := {uri for uri, process in photos.items() if process == worker}:
                return found
        return set()

    def text(self) -> str:
        speed = self.new_pixels / 1e6 / max(time.monotonic() - self.started, 1e-3)
        saved = f"-{decimal(-self.saved_bytes)}" if self.saved_bytes < 0 else decimal(self.saved_bytes)
        return f"{self.finished}/{self.found} photos, {speed:.2f} MP/s, {saved} saved"


class Follower:
    """Within its context, workers that append ticks to `path` are followed on `console`.

    Attributes:
        stopped: after that, why the run was asked to stop (see `ask_to_stop`); empty if it was not.
        killed: and where that was because a worker process was killed, which one, the first if several.
    """

    def __init__(self, console: Console, verb: str) -> None:
        self.tally = Tally()
        self.stopped = ""
        self.killed: int | None = None
        self._console = console
        self._verb = verb
        self._folder = tempfile.TemporaryDirectory()
        self.path = str(Path(self._folder.name) / "ticks.jsonl")
        self.stop_path = str(Path(self._folder.name) / "stop")
        Path(self.path).touch()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if (stop := Path(self.stop_path)).exists():
            reasons = stop.read_text(encoding="utf-8").splitlines()
            self.stopped = INTERRUPTED if INTERRUPTED in reasons or not reasons else reasons[0]
        if self.stopped.startswith(WORKER_ENDED):
            with suppress(ValueError):  # a line cut short by a full disk
                self.killed = int(self.stopped.rpartition(" ")[2])
            self.stopped = WORKER_ENDED
        self._folder.cleanup()

    def ask_to_stop(self) -> None:
        ask_to_stop(self.stop_path, INTERRUPTED)
        self._console.print("stopping after the photos at hand; once more to stop at once")

    def _follow(self) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
        next_line = time.monotonic() + SECONDS_BETWEEN_LINES
        with (
            open(self.path, encoding="utf-8") as file,
            Progress(*columns, console=self._console, disable=not self._console.is_terminal) as bar,
        ):
            task = bar.add_task(self._verb, total=None)
            while True:
                stopping = self._stop.is_set()  # read before the file, so that the last lines count
                for tick in _whole_ticks(file):
                    self.tally.count(tick)
                # Bytes tell how far it is; their number of pixels is only known once they are read.
                bar.update(
                    task,
                    description=f"{self._verb} {self.tally.text()}",
                    completed=self.tally.finished_bytes,
                    total=self.tally.found_bytes or None,
                )
                if stopping:
                    return
                if not self._console.is_terminal and time.monotonic() >= next_line:
                    self._console.print(f"{self._verb} {self.tally.text()}")
                    next_line += SECONDS_BETWEEN_LINES
                self._stop.wait(_POLL_SECONDS)


def _whole_ticks(file: TextIO) -> Iterator[Tick]:
    """The ticks whose lines are complete by now; the rest stays for the next time."""
    while True:
        start = file.tell()
        line = file.readline()
        if not line.endswith("\n"):
            file.seek(start)
            return
        with suppress(ValueError, TypeError):  # a line cut short by a full disk, with the next one in it
            yield Tick(**json.loads(line))


@contextmanager
def followed(console: Console, verb: str) -> Iterator[Follower]:
    """Follows a run on this machine; Ctrl-C lets it finish the photos at hand, twice ends it at once."""
    with (
        temporary_folder(),
        Follower(console, verb) as follower,
        on_interrupt(follower.ask_to_stop, partial(shutil.rmtree, tempfile.gettempdir(), ignore_errors=True)),
    ):
        yield follower

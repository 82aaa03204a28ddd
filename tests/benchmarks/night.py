"""A bad night, in full: the same archive by three ways to run, through faults, and through kills.

    python -m tests.benchmarks.night PHOTOS [--iterations 1] [--kills 20] [--faults 0.05]

PHOTOS are copied into a storage server on loopback. Each run's outputs and rows are compared with those of
the first, undisturbed one; the exit status is 1 where they differ.
"""

import argparse
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

from tests.runs import TWO_PROCESSES, codes, rows, start, worker_pool
from tests.storage import Storage, storage_server, upload_folder
from transforms.storage import list_folder

SOURCE = "gs://archive/photos"


class Night:
    """Runs one after the other, each compared with the first."""

    def __init__(self, iterations: int) -> None:
        self._options = ["--iterations", str(iterations), "--max-batch-pixels", "1"]
        self._first: tuple[dict[str, Any], dict[str, bytes]] | None = None
        self.differing = 0

    def run(self, name: str, *options: str) -> None:
        started = time.monotonic()
        output = f"gs://archive/{name}"
        said, complaints = self._start(output, *options).communicate()
        figures = next((line for line in said.decode().splitlines() if " photos: " in line), "")
        if not figures:
            print(said.decode(), complaints.decode())
        self.compare(name, output)
        print(f"{name}: {time.monotonic() - started:.0f} s; {figures}", flush=True)

    def killed(self, name: str, output: Path, kills: int, source: Path) -> None:
        """`kills` times SIGKILL for all processes at a random moment, then once to the end."""
        dice, survived = random.Random(0), []
        for _ in range(kills):
            process = self._start(str(output), *TWO_PROCESSES, source=str(source))
            time.sleep(dice.uniform(2.0, 12.0))
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            survived.append(len(list((output / "codes").rglob("*.rgc"))))
        print(f"{name}: .rgc files after each kill: {survived}", flush=True)
        self._start(str(output), *TWO_PROCESSES, source=str(source)).communicate()
        calm = output.with_name("calm")
        self._start(str(calm), source=str(source)).communicate()
        self._first = rows(calm), codes(calm)
        self.compare(name, str(output))
        runs = {path.name for path in (output / "manifest").iterdir()}
        strays = [p for p in output.rglob("*") if p.is_file() and p.suffix not in (".rgc", ".parquet")]
        print(f"{name}: {len(runs)} runs left a manifest; files that do not belong there: {strays}")
        self.differing += len(strays)

    def compare(self, name: str, output: str) -> None:
        found = rows(output), codes(output)
        self._first = self._first or found
        for what, ours, first in zip(("rows", ".rgc files"), found, self._first, strict=True):
            differing = {key for key in ours.keys() | first.keys() if ours.get(key) != first.get(key)}
            print(f"{name}: {len(ours)} {what}, {len(differing)} differ from the first run's {len(first)}")
            self.differing += len(differing)

    def _start(self, output: str, *options: str, source: str = SOURCE) -> Any:
        return start("compress", source, output, *self._options, *options)


def through_storage(night: Night, storage: Storage, fault_rate: float) -> None:
    night.run("memory")
    night.run("processes", *TWO_PROCESSES)
    with worker_pool() as external:
        night.run("pool", *external)
    storage.fault_rate, before = fault_rate, storage.requests
    night.run("faults", *TWO_PROCESSES)
    storage.fault_rate = 0.0
    print(f"faults: {storage.faults.total()} in {storage.requests - before} requests: {dict(storage.faults)}")
    strays = [file.uri for file in list_folder("gs://archive") if ".partial" in file.uri]
    print(f"temporary objects: {strays}")
    night.differing += len(strays)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--iterations", type=int, default=1)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--faults", type=float, default=0.05)
    parser.add_argument("--scratch", type=Path, required=True, help="empty folder for the killed runs")
    arguments = parser.parse_args()
    night = Night(arguments.iterations)
    with storage_server() as storage:
        os.environ.update(storage.environment)
        upload_folder(arguments.photos, SOURCE)
        through_storage(night, storage, arguments.faults)
    night.killed("kills", arguments.scratch / "killed", arguments.kills, arguments.photos)
    raise SystemExit(night.differing > 0)


if __name__ == "__main__":
    main()

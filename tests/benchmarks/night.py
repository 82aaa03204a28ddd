"""The same archive by three ways to run, in batches, through faults, and through kills.

    python -m tests.benchmarks.night PHOTOS --scratch EMPTY_FOLDER [--iterations 1] [--kills 20]

PHOTOS are copied into a storage server on loopback. What each run leaves is compared with what the first,
undisturbed one did, with one photo a batch: byte for byte, or with more photos a batch, which changes the
order of floating-point sums, nearly. The exit status is 1 where they differ, or where files are left
behind that do not belong there.
"""

import argparse
import os
import random
import signal
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from tests.runs import TWO_PROCESSES, codes, left_behind, rows, start, wait_until, words, worker_pool
from tests.storage import Storage, storage_server, upload_folder

SOURCE = "gs://archive/photos"
ONE_BY_ONE = ["--max-batch-pixels", "1"]
MOST_MS_SSIM, MOST_SIZE = 0.001, 0.005  # that larger batches may differ by: absolute, and of the bytes


class Runs:
    """Runs one after the other, each compared with the first from the same source."""

    def __init__(self, iterations: int, scratch: Path) -> None:
        self._options = ["--iterations", str(iterations)]
        self._tmp = scratch / "tmp"
        self._tmp.mkdir(parents=True)
        self._first: dict[str, tuple[dict[str, Any], dict[str, bytes]]] = {}
        self.wrong = 0

    def run(self, name: str, output: str, *options: str, source: str = SOURCE) -> None:
        """One run to its end, and what it came to."""
        started = time.monotonic()
        said, complaints = self.start(output, *options, source=source).communicate()
        figures = [line for line in said.decode().splitlines() if " photos: " in line or "finished" in line]
        if not figures:
            print(said.decode(), complaints.decode())
        compare = self._exactly if ONE_BY_ONE[0] in options else self._nearly
        differing = compare(source, output)
        self._leftovers(output)
        print(f"{name}: {time.monotonic() - started:.0f} s; {'; '.join(figures)}; {differing}", flush=True)

    def kill(self, name: str, output: str, kills: int, source: str) -> None:
        """`kills` times SIGKILL for all processes at a random moment, every second time of encoding."""
        generator, survived = random.Random(0), []
        for kill in range(kills):
            before = words(output)
            process = self.start(output, *ONE_BY_ONE, *TWO_PROCESSES, source=source)
            if kill % 2 == 0:
                time.sleep(generator.uniform(2.0, 8.0))
            else:
                wait_until(partial(_encodes, process, output, before), 600.0)
                time.sleep(generator.uniform(0.0, 3.0))
            with suppress(ProcessLookupError):  # it has come to its end before
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            survived.append((len(codes(output)), len(left_behind(output))))
        print(f"{name}: .rgc files, and others left behind, after each kill: {survived}", flush=True)

    def start(self, output: str, *options: str, source: str) -> Any:
        os.environ["TMPDIR"] = str(self._tmp)
        return start("compress", source, output, *self._options, *options)

    def _exactly(self, source: str, output: str) -> str:
        found = rows(output), codes(output)
        first = self._first.setdefault(source, found)
        counts = [
            len({key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)})
            for ours, theirs in zip(found, first, strict=True)
        ]
        self.wrong += sum(counts)
        return f"{len(found[0])} rows, {counts[0]} differ; {len(found[1])} .rgc files, {counts[1]} differ"

    def _nearly(self, source: str, output: str) -> str:
        found, (first, _) = rows(output), self._first[source]
        differing, quality, size = found.keys() ^ first.keys(), 0.0, 0.0
        for key in found.keys() & first.keys():
            ours, theirs = found[key], first[key]
            if any(ours[column] != theirs[column] for column in ("status", "iterations")):
                differing.add(key)
            elif ours["status"] == "encoded":
                quality = max(quality, abs(ours["ms_ssim"] - theirs["ms_ssim"]))
                size = max(size, abs(ours["rgc_bytes"] / theirs["rgc_bytes"] - 1))
        self.wrong += len(differing) + (quality > MOST_MS_SSIM) + (size > MOST_SIZE)
        return (
            f"{len(found)} rows, {len(differing)} differ in status or iterations; "
            f"MS-SSIM by {quality:.6f} at most, sizes by {size:.4%}"
        )

    def _leftovers(self, output: str) -> None:
        leftovers = [*left_behind(output), *map(str, self._tmp.iterdir())]
        self.wrong += len(leftovers)
        if leftovers:
            print(f"left behind: {leftovers}")


def _encodes(process: Any, output: str, before: set[str]) -> bool:
    return bool(words(output) - before) or process.poll() is not None


def through_storage(runs: Runs, storage: Storage, fault_rate: float, kills: int) -> None:
    with worker_pool() as external:
        ways = {"in memory": [], "two processes": TWO_PROCESSES, "worker pool": external}
        for number, (name, options) in enumerate(ways.items()):
            runs.run(name, f"gs://archive/undisturbed-{number}", *ONE_BY_ONE, *options)
        for number, (name, options) in enumerate(ways.items()):
            runs.run(f"{name}, in batches", f"gs://archive/batches-{number}", *options)
        for number, (name, options) in enumerate(ways.items()):
            storage.fault_rate, storage.requests, storage.retries = fault_rate, 0, 0
            storage.faults.clear()
            runs.run(f"{name}, faults", f"gs://archive/faults-{number}", *ONE_BY_ONE, *options)
            storage.fault_rate = 0.0
            faults = f"{storage.faults.total()} faults {dict(storage.faults)}"
            print(f"    {storage.requests} requests, {faults}, {storage.retries} retries", flush=True)
    output = "gs://archive/killed"
    runs.kill("kills, storage", output, kills, SOURCE)
    runs.run("after them", output, *ONE_BY_ONE, *TWO_PROCESSES)


def on_disk(runs: Runs, scratch: Path, kills: int, photos: Path) -> None:
    runs.run("on disk", str(scratch / "undisturbed"), *ONE_BY_ONE, source=str(photos))
    output = str(scratch / "killed")
    runs.kill("kills, on disk", output, kills, str(photos))
    runs.run("after them", output, *ONE_BY_ONE, *TWO_PROCESSES, source=str(photos))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--iterations", type=int, default=1)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--faults", type=float, default=0.05)
    parser.add_argument("--scratch", type=Path, required=True, help="empty folder, on a disk")
    arguments = parser.parse_args()
    runs = Runs(arguments.iterations, arguments.scratch)
    with storage_server() as storage:
        os.environ.update(storage.environment)
        upload_folder(arguments.photos, SOURCE)
        through_storage(runs, storage, arguments.faults, arguments.kills)
    on_disk(runs, arguments.scratch, arguments.kills, arguments.photos.absolute())
    print(f"{runs.wrong} differences and files left behind")
    raise SystemExit(runs.wrong > 0)


if __name__ == "__main__":
    main()

"""Peak memory while compressing many large photos with two worker processes.

    python -m tests.benchmarks.memory [--photos 200] [--width 4000] [--height 3000] [--workers 2]

Prints the memory of all processes together (proportional set size, so that shared pages count once) as
photos finish: it should be flat after the first ten.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from tests.benchmarks.photos import make_photos


def memory_of_all(process: psutil.Process) -> int:
    total = 0
    for one in [process, *process.children(recursive=True)]:
        try:
            total += one.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return total


def samples(command: list[str], codes: Path) -> Iterator[tuple[int, int]]:
    """Finished photos and bytes of memory, every second while the command runs."""
    with subprocess.Popen(command) as running:
        process = psutil.Process(running.pid)
        while running.poll() is None:
            yield len(list(codes.glob("*.rgc"))), memory_of_all(process)
            time.sleep(1.0)
    if running.returncode != 0:
        raise SystemExit(running.returncode)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--photos", type=int, default=200)
    parser.add_argument("--width", type=int, default=4000)
    parser.add_argument("--height", type=int, default=3000)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder, output = Path(temporary) / "photos", Path(temporary) / "out"
        for _ in make_photos(folder, arguments.photos, arguments.width, arguments.height):
            pass
        command = [sys.executable, "-m", "pipeline.cli.main", "compress", str(folder), str(output)]
        command += ["--iterations", "1", "--direct_num_workers", str(arguments.workers)]
        command += ["--direct_running_mode", "multi_processing"]
        peaks: dict[int, int] = {}
        for finished, memory in samples(command, output / "codes"):
            bucket = finished // 10 * 10
            peaks[bucket] = max(peaks.get(bucket, 0), memory)
    print("finished photos   peak GB")
    for bucket, peak in sorted(peaks.items()):
        print(f"{bucket:5} to {bucket + 9:5}   {peak / 1e9:7.2f}")


if __name__ == "__main__":
    main()

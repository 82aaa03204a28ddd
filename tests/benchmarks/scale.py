"""Very many tiny photos through worker processes: speed and memory should not depend on their number.

    python -m tests.benchmarks.scale [--counts 1000 10000 100000] [--workers 2]

For each count: photos a second, the peak memory of all processes together, and how long a second run takes
that finds everything finished.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from tests.benchmarks.memory import memory_of_all

SIDE = 48


def make_tiny_photos(folder: Path, count: int) -> None:
    """Noise, so that each is worth encoding, in folders of a thousand."""
    random = np.random.default_rng(0)
    for number in range(count):
        path = folder / f"{number // 1000:03}" / f"{number:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
        Image.fromarray(pixels).save(path, quality=90)


def run(folder: Path, output: Path, count: int, workers: int) -> tuple[float, int]:
    """Seconds and peak bytes of one run."""
    command = [
        sys.executable,
        "-m",
        "pipeline.cli.main",
        "compress",
        str(folder),
        str(output),
        "--iterations",
        "1",
    ]
    command += ["--direct_running_mode", "multi_processing", "--direct_num_workers", str(workers)]
    started, peak = time.monotonic(), 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as running:
        process = psutil.Process(running.pid)
        while running.poll() is None:
            peak = max(peak, memory_of_all(process))
            time.sleep(2.0)
        assert running.stdout is not None
        said = running.stdout.read().decode()
    if f"{count} photos: {count} encoded" not in said:
        raise SystemExit(said)
    return time.monotonic() - started, peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    print("  photos   photos/s   peak GB   again, s", flush=True)
    for count in arguments.counts:
        with tempfile.TemporaryDirectory() as temporary:
            folder, output = Path(temporary) / "photos", Path(temporary) / "out"
            make_tiny_photos(folder, count)
            seconds, peak = run(folder, output, count, arguments.workers)
            again, _ = run(folder, output, count, arguments.workers)
            print(f"{count:8} {count / seconds:10.1f} {peak / 1e9:9.2f} {again:10.1f}", flush=True)


if __name__ == "__main__":
    main()

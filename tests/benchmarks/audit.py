"""What `rgc audit` and its page take on a very large manifest.

    python -m tests.benchmarks.audit [--rows 10000000] [--runs 1 10] [--scratch FOLDER]

For each number of runs makes manifests below FOLDER which hold so many rows together, in files of
100,000, as an archive of rows / runs photos would leave them: each later run finds a tenth of the photos
changed and the rest as they were. Then prints seconds and peak memory of the audit in the terminal and with
its page, by the command line itself, and the page's size.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import duckdb

from transforms.manifest.schema import SCHEMA

ROWS_PER_FILE = 100_000
_DRAWN = """
    SELECT number, changed, 2005 + number // 2000000 % 20 AS year, number // 300 AS event,
        (hash(number, changed) >> 1)::BIGINT AS h, (hash(number, changed, 'u') % 1000003) / 1000003.0 AS u,
        (hash(number, changed, 'v') % 1000003) / 1000003.0 AS v,
        [(4000, 3000), (6000, 4000), (1600, 1200), (8064, 6048), (640, 480)][1 + h // 1000 % 5] AS shape,
        CASE WHEN h % 200 = 0 THEN 'failed' WHEN h % 25 = 1 THEN 'kept' ELSE 'encoded' END AS status,
        ['JPEG', 'JPEG', 'JPEG', 'JPEG', 'HEIF', 'PNG'][1 + h // 100 % 6] AS source_format
    FROM (SELECT range AS number, hash(range, $run) % 10 = 0 AND $run > 0 AS changed
          FROM range($start, $rows, $step))
"""
_MEASURED = f"""
    SELECT *, shape[1] AS width, shape[2] AS height,
        (width * height * (0.15 + 0.3 * u))::BIGINT AS source_bytes,
        (width * height * (0.02 + 0.05 * v))::BIGINT AS rgc_bytes,
        round((0.995 - 0.045 * u * v) * 65535) / 65535 AS ms_ssim
    FROM ({_DRAWN})
"""
_ROWS = f"""
    SELECT
        format('/family/photos/{{}}/{{}}-{{:06d}} in Norway/IMG_{{:08d}}.jpg', year, year, event, number)
            AS source_uri,
        CASE WHEN status = 'encoded' THEN replace(source_uri, '/photos/', '/rgc/codes/') || '.rgc' END
            AS rgc_uri,
        status,
        CASE status
            WHEN 'failed' THEN format('OSError: image file is truncated ({{}} bytes not processed)', h % 90)
            WHEN 'kept' THEN
                format('MS-SSIM 0.95 is out of reach: {{:.4f}} after 8 iterations', 0.9 + 0.04 * u)
        END AS reason,
        CASE WHEN status <> 'failed' THEN source_format END AS source_format,
        CASE WHEN status <> 'failed' THEN width END::INTEGER AS width,
        CASE WHEN status <> 'failed' THEN height END::INTEGER AS height,
        source_bytes,
        CASE WHEN status = 'encoded' THEN rgc_bytes END AS rgc_bytes,
        CASE WHEN status = 'encoded' THEN source_bytes - rgc_bytes ELSE 0 END AS saved_bytes,
        CASE WHEN status <> 'failed' THEN source_bytes * 8 / (width * height) END AS source_bits_per_pixel,
        CASE WHEN status = 'encoded' THEN rgc_bytes * 8 / (width * height) END AS bits_per_pixel,
        CASE WHEN status = 'encoded' THEN ms_ssim END AS ms_ssim,
        CASE WHEN status = 'encoded' THEN 1 + h % 8 END::INTEGER AS iterations,
        CASE WHEN status <> 'failed' THEN md5('a' || h) || md5('b' || h) END AS source_sha256,
        format('1700000000{{:06d}}-{{}}-AAAAAA==', number % 1000000, source_bytes) AS source_fingerprint,
        CASE WHEN status = 'encoded' THEN md5('c' || h) || md5('d' || h) END AS rgc_sha256,
        'rgc-0123456789ab' AS model,
        '{{"target_ms_ssim":0.95}}' AS settings,
        CASE WHEN status <> 'failed' THEN width * height / 1.2e6 * (0.8 + 0.4 * v) END AS encode_seconds,
        $run_id AS run_id,
        TIMESTAMPTZ '2026-11-01 22:00:00+00' + to_microseconds(number * 1000) AS finished_at
    FROM ({_MEASURED})
"""


def make_manifest(folder: Path, rows: int, runs: int) -> None:
    """Writes `runs` runs which together hold `rows` rows, all of the same photos."""
    photos = rows // runs
    files = -(-photos // ROWS_PER_FILE)
    columns = ", ".join(SCHEMA.names)
    with duckdb.connect(config={"memory_limit": "1GB"}) as database:
        for run in range(runs):
            run_id = f"202611{run + 1:02}T220000.000000Z-{run:06x}"
            (folder / f"run={run_id}").mkdir(parents=True)
            for number in range(files):
                path = folder / f"run={run_id}" / f"rows-{number:05}-of-{files:05}.parquet"
                drawn = {"run": run, "run_id": run_id, "start": number, "rows": photos, "step": files}
                database.execute(f"COPY (SELECT {columns} FROM ({_ROWS})) TO '{path}' (CODEC zstd)", drawn)


def measure(command: list[str]) -> tuple[float, int]:
    """Seconds and peak resident bytes of a process."""
    started = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return time.monotonic() - started, usage.ru_maxrss * 1024


def report(name: str, *command: str) -> None:
    seconds, peak = measure([sys.executable, "-m", *command])
    print(f"{name}: {seconds:.1f} s, {peak / 2**30:.2f} GiB", flush=True)


def benchmark(folder: Path, rows: int, runs: int) -> None:
    manifest, page = folder / "manifest", folder / "audit.html"
    size = ["--rows", str(rows), "--runs", str(runs)]
    # In another process: this one's peak would count for those that it starts.
    report("making the manifests", "tests.benchmarks.audit", "--only-make", str(manifest), *size)
    files = list(manifest.rglob("*.parquet"))
    print(f"{runs} runs, {len(files)} files, {sum(file.stat().st_size for file in files) / 1e9:.2f} GB")
    report("rgc audit", "pipeline.cli.main", "audit", str(manifest))
    report("rgc audit --html", "pipeline.cli.main", "audit", str(manifest), "--html", str(page))
    print(f"page: {page.stat().st_size / 1e6:.2f} MB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--runs", type=int, nargs="+", default=[1, 10])
    parser.add_argument("--scratch", type=Path)
    parser.add_argument("--only-make", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only_make is not None:
        make_manifest(arguments.only_make, arguments.rows, *arguments.runs)
        return
    for runs in arguments.runs:
        with tempfile.TemporaryDirectory(dir=arguments.scratch) as folder:
            benchmark(Path(folder), arguments.rows, runs)


if __name__ == "__main__":
    main()

"""Archives of very many photos, on a storage server that computes its listings: what grows with their number.

    python -m tests.benchmarks.archives [--counts 100000 1000000]

For each count, by processes of their own: seconds from the command to the first photo that gets to the codec,
which is not run; then to list all photos, to write a manifest of them, and of a whole second `rgc compress`
that finds them finished, each with the process's own CPU time and peak memory. The server takes its share of
the same cores.
"""

import argparse
import io
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from PIL import Image

from model.settings import Settings
from pipeline.cli.main import app
from pipeline.compress import CompressJob, begin, new_run
from pipeline.runners.local import local_runner
from tests.benchmarks import synthetic
from transforms.elements import Photo
from transforms.encode import EncodeHandler
from transforms.find import FindFiles, find_source
from transforms.manifest.rows import ManifestRow, Run
from transforms.manifest.writing import WriteManifest

COMPRESS = ["compress", synthetic.PHOTOS, synthetic.OUTPUT, "--device", "cpu"]
STAGES = ("list", "write", "resume")


def begin_encoding() -> None:
    """Ends the process where the codec would get its first batch."""

    def run_inference(*_: object) -> None:
        os._exit(0)

    EncodeHandler.run_inference = run_inference  # type: ignore[assignment,method-assign]
    app(COMPRESS)


def list_all(count: int) -> None:
    source = find_source(synthetic.PHOTOS)
    with beam.Pipeline(runner=local_runner(PipelineOptions([]))) as pipeline:
        found = pipeline | FindFiles(source) | beam.combiners.Count.Globally()
        found | beam.Map(lambda found: None if found == count else sys.exit(f"{found} of {count} found"))


def photo_of(number: int) -> Photo:
    name = synthetic.photo_name(number)
    return Photo(f"{synthetic.BUCKET}{name}", name, synthetic.PHOTO_BYTES, synthetic.fingerprint(number))


def row_of(number: int, run: Run) -> ManifestRow:
    """The row of a finished photo; checksums are as long as real ones, and as hard to compress."""
    photo = photo_of(number)
    return ManifestRow(
        source_uri=photo.uri,
        status="encoded",
        source_bytes=photo.size,
        source_fingerprint=photo.fingerprint,
        model=run.model,
        settings=run.settings,
        run_id=run.run_id,
        finished_at=datetime.now(UTC),
        saved_bytes=photo.size - synthetic.CODE_BYTES,
        rgc_uri=f"{synthetic.OUTPUT}/codes/{photo.relative.removeprefix('photos/')}.rgc",
        source_format="JPEG",
        width=4000,
        height=3000,
        rgc_bytes=synthetic.CODE_BYTES,
        source_bits_per_pixel=photo.size * 8 / 12e6,
        bits_per_pixel=synthetic.CODE_BYTES * 8 / 12e6,
        ms_ssim=0.95 + number % 1000 / 1e6,
        iterations=1,
        source_sha256=Photo(f"source {number}", "", 0, "").uri_sha256(),
        rgc_sha256=Photo(f"rgc {number}", "", 0, "").uri_sha256(),
        encode_seconds=number % 100 / 100,
    )


def write_all(count: int) -> None:
    settings = Settings.from_options(None, None, None)
    source = find_source(synthetic.PHOTOS)
    job = CompressJob(source, synthetic.OUTPUT, settings, new_run(settings))
    begin(job)
    with beam.Pipeline(runner=local_runner(PipelineOptions([]))) as pipeline:
        parts = pipeline | beam.Create(range(0, count, 1000)) | beam.Reshuffle()
        numbers = parts | beam.FlatMap(lambda part: range(part, min(part + 1000, count)))
        rows = numbers | "Rows" >> beam.Map(row_of, job.run)
        none = pipeline | "None" >> beam.Create([])
        (rows,) | WriteManifest(job.output, job.run.run_id, numbers, none, regroup=False)


def benchmark(count: int) -> None:
    buffer = io.BytesIO()
    Image.radial_gradient("L").resize((1200, 1000)).convert("RGB").save(buffer, "JPEG")
    with synthetic.synthetic_store(count, finished=False, photo=buffer.getvalue()) as server:
        print(f"{count} photos")
        measure("first", count, server)
    with synthetic.synthetic_store(count, finished=True) as server:
        for stage in STAGES:
            measure(stage, count, server)


def measure(stage: str, count: int, server: Mapping[str, str]) -> None:
    command = [sys.executable, "-m", "tests.benchmarks.archives", "--counts", str(count), "--stage", stage]
    quiet, started = subprocess.DEVNULL, time.monotonic()
    with subprocess.Popen(command, env={**os.environ, **server}, stdout=quiet, stderr=quiet) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    seconds, used = time.monotonic() - started, usage.ru_utime + usage.ru_stime
    peak = usage.ru_maxrss * 1024 / 1e9
    print(f"  {stage:7} {seconds:8.1f} s {used:8.1f} s of CPU {peak:6.2f} GB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--stage", choices=["first", *STAGES], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.stage == "first":
        begin_encoding()
    elif arguments.stage == "list":
        list_all(*arguments.counts)
    elif arguments.stage == "write":
        write_all(*arguments.counts)
    elif arguments.stage == "resume":
        app(COMPRESS)
    else:
        for count in arguments.counts:
            benchmark(count)


if __name__ == "__main__":
    main()

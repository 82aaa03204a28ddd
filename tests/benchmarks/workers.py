"""One worker process against several on this machine's cores, on the same photos in one run.

    python -m tests.benchmarks.workers [--photos 200] [--width 1600] [--height 1200] [--workers 1 2]

Prints each one's speed, and what share of its workers' time the codec waited for photos to be read.
"""

import argparse
import logging
import tempfile
import time
from functools import partial
from pathlib import Path

from apache_beam.metrics import MetricsFilter
from apache_beam.options.pipeline_options import PipelineOptions

from model.settings import Settings
from pipeline.compress import CompressJob, compress, new_run
from pipeline.runners.run import choose_execution, run
from tests.benchmarks.photos import make_photos
from transforms.counters import WAITED
from transforms.find import find_source


def main() -> None:
    logging.basicConfig(level=logging.ERROR)  # not Beam's warnings
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--photos", type=int, default=200)
    parser.add_argument("--width", type=int, default=1600)
    parser.add_argument("--height", type=int, default=1200)
    parser.add_argument("--iterations", type=int, default=1)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    arguments = parser.parse_args()
    settings = Settings(iterations=arguments.iterations)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "photos"
        for _ in make_photos(folder, arguments.photos, arguments.width, arguments.height):
            pass
        megapixels = arguments.photos * arguments.width * arguments.height / 1e6
        for workers in arguments.workers:
            source, output = find_source(str(folder)), f"{temporary}/{workers}"
            job = CompressJob(source, output, settings, new_run(settings))
            flags = ["--direct_running_mode", "multi_processing", "--direct_num_workers", str(workers)]
            options = PipelineOptions(flags)
            started = time.monotonic()
            result = run(partial(compress, job), choose_execution(options, "cpu"), options)
            seconds = time.monotonic() - started
            loading = MetricsFilter().with_metric(WAITED).with_step("Load")
            (waited,) = result.metrics().query(loading)["counters"]
            share = waited.result / 1e6 / (seconds * workers)
            print(f"{workers} workers: {megapixels / seconds:.3f} MP/s, {share:.1%} of the time waiting")


if __name__ == "__main__":
    main()

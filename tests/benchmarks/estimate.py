"""`rgc estimate` on an archive, and what compressing it then really takes and saves.

python -m tests.benchmarks.estimate PHOTOS [--iterations 2] [--sample 12]
"""

import argparse
import tempfile
import time

from rich.console import Console

from model.files import choose_device
from model.settings import Settings
from pipeline.audit.report import audit
from pipeline.estimate.costs import Plan, Range
from pipeline.estimate.sampling import estimate
from tests.runs import start


def compare(what: str, estimated: Range, really: float, unit: str, scale: float) -> None:
    low, likely, high = (value * scale for value in (estimated.low, estimated.likely, estimated.high))
    print(f"{what}: {likely:.1f} ({low:.1f} to {high:.1f}) {unit} estimated, {really * scale:.1f} really")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("photos")
    parser.add_argument("--iterations", type=int, help="[default: the default target]")
    parser.add_argument("--sample", type=int, default=Plan.sample)
    arguments = parser.parse_args()
    settings = Settings.from_options(None, None, arguments.iterations)
    options = [] if arguments.iterations is None else ["--iterations", str(arguments.iterations)]
    started = time.monotonic()
    plan = Plan(sample=arguments.sample)
    found = estimate(arguments.photos, settings, choose_device("auto"), plan, Console(stderr=True))
    print(f"estimated in {time.monotonic() - started:.0f} s, from {len(found.trials)} photos", flush=True)
    with tempfile.TemporaryDirectory() as output:
        started = time.monotonic()
        said, _ = start("compress", arguments.photos, output, *options).communicate()
        hours = (time.monotonic() - started) / 3600
        totals = audit(output).totals
    print(said.decode())
    compare("time", found.here_hours, hours, "minutes", 60)
    compare("saved", found.saved_bytes, totals["saved_bytes"], "MB", 1e-6)


if __name__ == "__main__":
    main()

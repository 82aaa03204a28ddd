"""What a run costs: from pixels and bytes to hours and USD.

Prices are defaults, to be overridden by what you pay: US list prices as of 2026-11, taken from public
copies of https://cloud.google.com/dataflow/pricing and https://cloud.google.com/storage/pricing.
Dataflow bills a worker's parts itself, and no Compute Engine machine besides.
"""

from collections.abc import Callable
from dataclasses import astuple, dataclass

# USD an hour of a g2-standard-4: 4 vCPUs, 16 GB, its L4 and 50 GB of SSD disk.
WORKER_PRICE = round(4 * 0.056 + 16 * 0.003557 + 0.672 + 50 * 0.000298, 2)
STORAGE_PRICE = 0.020  # USD a month of a GB (of 2**30 bytes): Standard class, one region
# USD a photo: two objects written (one notes its attempt), one listed, one looked for, one read.
OPERATIONS_PRICE = (2 * 0.005 + 3 * 0.0004) / 1000
# infra/terraform keeps a job's temporary files for a week more than this.
LONGEST_JOB_DAYS = 28
START_HOURS = 1 / 6  # assumed; a worker is billed while it starts and fetches its image

# No worker with an L4 has been measured yet. Until then its speed is computed from:
_L4_OPERATIONS = 0.25 * 121e12  # a second: an assumed share (a CPU's is 45%) of its dense bfloat16 peak
LEVEL_TRIALS = 3  # of a photo's level, on average: each decodes it and measures it
# The first iteration takes most (tests/benchmarks/operations.py); its decoder counts for each trial.
MACS_PER_PIXEL = 34_100 + LEVEL_TRIALS * 40_700
KERNELS_PER_MEGAPIXEL = LEVEL_TRIALS * 48  # of MS-SSIM, of a photo of 3 megapixels; larger ones have fewer
_LAUNCH_SECONDS = 5e-6  # of a kernel, assumed
# The range coder, for a megapixel and iteration on one core here (tests/benchmarks/lock.py). That photos are
# coded beside each other, and beside the GPU, counts once a worker has been measured.
_CODER_SECONDS = 0.06
_UPLOAD_SECONDS = 0.001  # a megapixel's bytes into pinned memory: likewise
DECODING_CPUS = 3  # of a worker's four; the last one feeds the GPU


@dataclass(frozen=True)
class Range:
    """What is likely, and two standard errors of the sampling to each side. It holds no other error."""

    low: float
    likely: float
    high: float


@dataclass(frozen=True)
class Plan:
    """How many photos to sample; prices and speeds.

    Prices in USD: an hour of a worker, a month of a GB. Speed in megapixels a second of one worker, None for
    `assumed_speed`.
    """

    sample: int = 12
    workers: int = 8
    worker_price: float = WORKER_PRICE
    worker_speed: float | None = None
    storage_price: float = STORAGE_PRICE


@dataclass(frozen=True)
class Cost:
    """What workers cost for the whole archive. `payback_months` is None if nothing is saved."""

    megapixels_a_second: float
    hours: Range
    usd: Range
    payback_months: float | None


def assumed_speed(iterations: float) -> float:
    """Megapixels a second of a worker with an L4, with so many iterations a photo: not measured."""
    networks = 2 * MACS_PER_PIXEL * 1e6 / _L4_OPERATIONS
    each = networks + KERNELS_PER_MEGAPIXEL * _LAUNCH_SECONDS + _CODER_SECONDS
    return 1 / (_UPLOAD_SECONDS + iterations * each)


def hours_on_workers(pixels: float, load_seconds: float, speed: float, plan: Plan) -> float:
    """Hours from the workers' start to the end. Loading and encoding overlap, so the slower of them counts.

    Args:
        load_seconds: CPU time.
        speed: of the codec on one worker, megapixels a second.
    """
    seconds = max(pixels / 1e6 / speed, load_seconds / DECODING_CPUS)
    return START_HOURS + seconds / 3600 / plan.workers


def usd_on_workers(hours: float, photos: int, plan: Plan) -> float:
    """For the workers' time, and for the operations on stored objects."""
    return hours * plan.workers * plan.worker_price + photos * OPERATIONS_PRICE


def usd_a_month(stored_bytes: float, usd_per_gb_month: float) -> float:
    return stored_bytes / 2**30 * usd_per_gb_month


def payback_months(usd: float, saved_usd_a_month: float) -> float | None:
    """Months until a cost is paid back; None for never."""
    return usd / saved_usd_a_month if saved_usd_a_month > 0 else None


def combine(function: Callable[..., float], *ranges: Range) -> Range:
    """Applies a function that grows with each of its arguments to ranges."""
    return Range(*map(function, *map(astuple, ranges)))

"""`rgc estimate`: what a whole archive would take, cost and save, from a sample of its photos."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass
from heapq import nlargest
from random import Random

import numpy as np
import torch
from rich.console import Console
from rich.filesize import decimal
from rich.progress import track
from rich.table import Table

from model.batches.batch import Goal
from model.codec import Codec
from model.photos.errors import UnreadablePhotoError
from model.photos.names import NotAPhotoError, check_name
from model.settings import Settings
from pipeline.estimate.costs import (
    LONGEST_JOB_DAYS,
    Cost,
    Plan,
    Range,
    assumed_speed,
    combine,
    hours_on_workers,
    payback_months,
    usd_a_month,
    usd_on_workers,
)
from transforms.elements import Photo
from transforms.encode import EncodeHandler
from transforms.find import find_files
from transforms.load import load_photo

SEED = 0


class EstimateError(ValueError):
    """Nothing can be estimated for this archive."""


@dataclass(frozen=True)
class Listing:
    """An archive's files, counted by their names, and a sample of the photos; see `draw_sample`.

    `others` are not encoded: files of other kinds, empty files, and unreadable ones.
    """

    photos: int
    photo_bytes: int
    others: int
    other_bytes: int
    sample: tuple[Photo, ...]
    threshold: float


@dataclass(frozen=True)
class Trial:
    """The result of one photo: `encoded`, `kept` or `failed`. `load_seconds` are of CPU time."""

    source_bytes: int
    status: str
    reason: str = ""
    pixels: int = 0
    pixel_iterations: int = 0
    load_seconds: float = 0.0
    encode_seconds: float = 0.0
    saved_bytes: int = 0


@dataclass(frozen=True)
class Estimate:
    """What `rgc estimate` says. A saving is real once the originals are deleted."""

    source: str
    settings: str
    machine: str
    plan: Plan
    listing: Listing
    trials: tuple[Trial, ...]
    mean_iterations: float
    kept_bytes: Range
    saved_bytes: Range
    saved_usd_a_month: Range
    here_hours: Range
    here_megapixels_a_second: float
    workers: Cost


def estimate(source: str, settings: Settings, device: str, plan: Plan, progress: Console) -> Estimate:
    """Lists `source`, encodes a sample of its photos on `device`, and extrapolates to all of them.

    Raises:
        OSError: nothing is there.
        EstimateError: there are no photos, or none of the sample can be encoded.
    """
    listing = draw_sample(find_files(source), plan.sample)
    if not listing.sample:
        raise EstimateError(f"{source}: no photos among {listing.others} files")
    handler = EncodeHandler(settings, device, max_batch_pixels=1, threads=None)
    codec = handler.load_model()
    codec.encode([np.zeros((256, 256, 3), np.uint8)], [Goal(iterations=2)], [False])  # warm up
    sample = track(listing.sample, "Encoding a sample", console=progress, disable=not progress.is_terminal)
    trials = tuple(try_photo(photo, handler, codec, settings) for photo in sample)
    machine = f"{device}, {torch.get_num_threads()} threads"
    return extrapolate(source, settings, machine, listing, trials, plan)


def draw_sample(files: Iterable[Photo], size: int) -> Listing:
    """Counts files as they are listed and draws `size` of the photos; memory is bounded by `size`.

    A photo's chance is proportional to its bytes, as its time roughly is. This is priority sampling
    (Duffield, Lund and Thorup 2007, "Priority sampling for estimation of arbitrary subset sums"): a photo's
    priority is its bytes / u, u uniform in (0, 1]; the highest are drawn. `threshold` is the highest of
    the others: the chance was bytes / threshold, at most 1.
    """
    random, counts = Random(SEED), Counter[str]()

    def priorities() -> Iterator[tuple[float, int, Photo]]:
        for number, file in enumerate(files):
            kind = "photos" if _is_photo(file) else "others"
            counts.update({kind: 1, f"{kind} bytes": file.size})
            if kind == "photos":
                yield file.size / (1 - random.random()), number, file

    drawn = nlargest(size + 1, priorities())
    threshold = drawn[size][0] if len(drawn) > size else 0.0
    return Listing(
        photos=counts["photos"],
        photo_bytes=counts["photos bytes"],
        others=counts["others"],
        other_bytes=counts["others bytes"],
        sample=tuple(photo for *_, photo in drawn[:size]),
        threshold=threshold,
    )


def _is_photo(file: Photo) -> bool:
    try:
        check_name(file.relative)
    except NotAPhotoError:
        return False
    return file.size > 0 and not file.unreadable


def try_photo(photo: Photo, handler: EncodeHandler, codec: Codec, settings: Settings) -> Trial:
    """Loads and encodes a photo by the pipeline's own code. Writes nothing."""
    started = time.process_time()  # without waiting for storage, which takes another time elsewhere
    try:
        loaded = load_photo(photo)
    except (UnreadablePhotoError, OSError, MemoryError) as error:
        return Trial(photo.size, "failed", str(error) or type(error).__name__)
    load_seconds = time.process_time() - started
    (encoded,) = handler.run_inference([loaded], codec)
    if encoded.result is None:
        return Trial(photo.size, "failed", encoded.error)
    # With a limit on bytes, one iteration more is computed: the one that does not fit.
    too_many = settings.max_bits_per_pixel is not None
    made = min(len(encoded.result.encoding.streams) + too_many, codec.iterations)
    pixels, started = loaded.width * loaded.height, time.monotonic()
    saved = photo.size - len(encoded.result.file.to_bytes())  # codes it
    encode_seconds = encoded.seconds + time.monotonic() - started
    status, saved = ("encoded", saved) if encoded.result.reached and saved > 0 else ("kept", 0)
    return Trial(photo.size, status, "", pixels, pixels * made, load_seconds, encode_seconds, saved)


def sum_of_all(listing: Listing, values: Sequence[float]) -> Range:
    """Estimates a sum over all photos from `values` of the sample, none of them negative.

    It is a ratio estimate, by source bytes: these are known of every photo, and time and savings grow with
    them. So the range depends on how much photos of equal size differ.
    """
    sizes = np.array([photo.size for photo in listing.sample])
    weights = np.maximum(listing.threshold / sizes, 1)  # how many photos each of the sample stands for
    sums, known_bytes = weights @ np.array(values), weights @ sizes
    residuals = np.array(values) - sums / known_bytes * sizes
    # Draws of priority sampling are uncorrelated: variances of (1 - p) / p**2 add up, p = 1 / weight.
    variance = (weights**2 - weights) @ residuals**2 * len(sizes) / max(len(sizes) - 1, 1)
    scale = listing.photo_bytes / known_bytes
    likely, error = float(scale * sums), 2 * float(scale * np.sqrt(variance))
    return Range(max(likely - error, sum(values)), likely, likely + error)


def extrapolate(
    source: str, settings: Settings, machine: str, listing: Listing, trials: tuple[Trial, ...], plan: Plan
) -> Estimate:
    """Estimates the whole archive from the `trials` of `listing.sample`, in its order.

    Raises:
        EstimateError: none was encoded.
    """

    def sum_of(value: Callable[[Trial], float]) -> Range:
        return sum_of_all(listing, [value(trial) for trial in trials])

    def share_of_bytes(value: Callable[[Trial], int]) -> Range:
        return combine(lambda count: min(count, listing.photo_bytes), sum_of(value))

    pixels, load_seconds = sum_of(lambda trial: trial.pixels), sum_of(lambda trial: trial.load_seconds)
    if not pixels.likely:
        raise EstimateError(f"{source}: none of {len(trials)} photos could be encoded: {trials[0].reason}")
    iterations = sum_of(lambda trial: trial.pixel_iterations).likely / pixels.likely
    saved_bytes = share_of_bytes(lambda trial: trial.saved_bytes)
    saving = combine(lambda saved: usd_a_month(saved, plan.storage_price), saved_bytes)

    # Loading and encoding are added up, although they overlap: on a CPU both share the cores.
    here = sum_of(lambda trial: (trial.load_seconds + trial.encode_seconds) / 3600)
    speed = plan.worker_speed or assumed_speed(iterations)
    there = combine(lambda p, load: hours_on_workers(p, load, speed, plan), pixels, load_seconds)
    usd = combine(lambda hours: usd_on_workers(hours, listing.photos, plan), there)
    return Estimate(
        source=source,
        settings=settings.to_json(),
        machine=machine,
        plan=plan,
        listing=listing,
        trials=trials,
        mean_iterations=iterations,
        kept_bytes=share_of_bytes(lambda trial: trial.source_bytes if trial.status != "encoded" else 0),
        saved_bytes=saved_bytes,
        saved_usd_a_month=saving,
        here_hours=here,
        here_megapixels_a_second=pixels.likely / 1e6 / (here.likely * 3600),
        workers=Cost(speed, there, usd, payback_months(usd.likely, saving.likely)),
    )


def print_estimate(estimate: Estimate, console: Console) -> None:
    listing, plan = estimate.listing, estimate.plan
    statuses = Counter(trial.status for trial in estimate.trials)
    counts = ", ".join(f"{statuses[status]} {status}" for status in ("encoded", "kept", "failed"))
    percent = 100 / listing.photo_bytes
    lines = (
        f"{listing.photos} photos, {decimal(listing.photo_bytes)}; "
        f"{listing.others} other files, {decimal(listing.other_bytes)}",
        f"tried {len(estimate.trials)} photos, large ones rather than small (seed {SEED}): {counts}; "
        f"{estimate.mean_iterations:.1f} iterations",
        f"saved: {_text(estimate.saved_bytes, percent, '.1f')}% of the photos' bytes, "
        f"{_text(estimate.saved_usd_a_month)} USD a month once the originals are deleted",
        f"in photos that stay as they are: {_text(estimate.kept_bytes, percent, '.1f')}% of the bytes",
    )
    for line in lines:
        console.print(line, highlight=False)
    table = Table("", "megapixels a second", "time", "USD", "paid back in")
    here, there = f"{estimate.here_megapixels_a_second:.2g}", estimate.workers
    table.add_row(f"this machine ({estimate.machine})", here, _time(estimate.here_hours), "", "")
    months = "never" if there.payback_months is None else f"{there.payback_months:.1f} months"
    speed = f"{there.megapixels_a_second:.2g}"
    table.add_row(f"{plan.workers} Dataflow workers", speed, _time(there.hours), _text(there.usd), months)
    console.print(table)
    if estimate.workers.hours.high > LONGEST_JOB_DAYS * 24:
        console.print(
            f"A job may take {LONGEST_JOB_DAYS} days at most, then its temporary files are deleted: "
            "take more workers, see --workers, or compress a part at a time."
        )
    if plan.worker_speed is None:
        console.print("The workers' speed is assumed of an L4, not measured: see --worker-speed.")
    console.print(
        f"At {plan.worker_price} USD an hour of a worker, {plan.storage_price} a GB and month: "
        "list prices as of 2026-11 unless you gave yours.",
        highlight=False,
    )


def _time(hours: Range) -> str:
    return (
        f"{_text(hours, digits=',.1f')} hours" if hours.likely >= 1 else f"{_text(hours, 60, '.1f')} minutes"
    )


def _text(amount: Range, scale: float = 1.0, digits: str = ",.2f") -> str:
    low, likely, high = (f"{value * scale:{digits}}" for value in astuple(amount))
    return likely if low == high else f"{likely} ({low} to {high})"

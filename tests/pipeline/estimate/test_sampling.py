import json
import random
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from model.codec import Codec
from model.ms_ssim import ms_ssim
from model.settings import Settings
from pipeline.audit.report import audit
from pipeline.cli.main import app
from pipeline.estimate.costs import (
    DECODING_CPUS,
    KERNELS_PER_MEGAPIXEL,
    LEVEL_TRIALS,
    MACS_PER_PIXEL,
    OPERATIONS_PRICE,
    START_HOURS,
    Plan,
    Range,
    assumed_speed,
    hours_on_workers,
    payback_months,
    usd_a_month,
    usd_on_workers,
)
from pipeline.estimate.sampling import (
    EstimateError,
    Listing,
    Trial,
    draw_sample,
    estimate,
    extrapolate,
    print_estimate,
    sum_of_all,
    try_photo,
)
from tests.benchmarks.costs import million_photos
from tests.benchmarks.kernels import as_on_a_gpu
from tests.benchmarks.operations import operations
from transforms.elements import Photo
from transforms.encode import EncodeHandler
from transforms.find import find_files

QUIET = Console(quiet=True)


def photo(name: str, size: int, unreadable: str = "") -> Photo:
    return Photo(f"/archive/{name}", name, size, "", unreadable)


def listing(sizes: list[int], photo_bytes: int, threshold: float) -> Listing:
    sample = tuple(photo(f"{number}.jpg", size) for number, size in enumerate(sizes))
    return Listing(100, photo_bytes, 0, 0, sample, threshold)


def test_draw_counts_by_name_and_takes_all_where_there_are_few() -> None:
    files = [photo("a.jpg", 10), photo("b.HEIC", 20), photo("raw.dng", 400), photo("notes.txt", 3)]
    files += [photo("empty.jpg", 0), photo("locked.jpg", 5, "no permission")]
    drawn = draw_sample(iter(files), 12)
    assert (drawn.photos, drawn.photo_bytes, drawn.others, drawn.other_bytes) == (2, 30, 4, 408)
    assert {file.relative for file in drawn.sample} == {"a.jpg", "b.HEIC"} and drawn.threshold == 0
    assert draw_sample(iter(files), 12) == drawn


def test_draw_goes_by_bytes() -> None:
    files = [photo(f"thumbnail{number}.jpg", 10) for number in range(1000)]
    files += [photo(f"panorama{number}.jpg", 100_000) for number in range(6)]
    drawn = draw_sample(iter(files), 12)
    assert sum(file.size == 100_000 for file in drawn.sample) == 6 and len(drawn.sample) == 12
    assert 10 < drawn.threshold < 100_000


def test_whole_is_exact_where_all_is_known_and_where_values_go_with_bytes() -> None:
    assert sum_of_all(listing([10, 30], 40, threshold=0), [7, 1]) == Range(8, 8, 8)
    proportional = sum_of_all(listing([10, 30, 80], 1000, threshold=50), [20, 60, 160])
    assert proportional.likely == pytest.approx(2000) and proportional.high == pytest.approx(2000)


def test_whole_is_the_textbook_ratio_estimate_for_photos_of_one_size() -> None:
    # Two of ten: N^2 (1 - n/N) s^2 / n = 100 * 0.8 * 2 / 2 = 80 is the variance.
    result = sum_of_all(listing([10, 10], 100, threshold=50), [1, 3])
    assert result.likely == pytest.approx(20)
    assert result.high == pytest.approx(20 + 2 * 80**0.5)
    assert result.low == 4  # what was seen, which is more than 20 - 2 * 80**0.5


def test_ranges_hold_the_truth_as_often_as_they_should() -> None:
    generator = random.Random(1)
    files = [photo(f"{number}.jpg", int(generator.lognormvariate(13, 1.5))) for number in range(300)]
    seconds = {file: file.size * generator.uniform(0.5, 2) for file in files}
    truth, photo_bytes = sum(seconds.values()), sum(file.size for file in files)
    ranges, known_bytes = [], []
    for _ in range(300):
        generator.shuffle(files)
        drawn = draw_sample(iter(files), 12)
        ranges.append(sum_of_all(drawn, [seconds[file] for file in drawn.sample]))
        known_bytes.append(sum(max(file.size, drawn.threshold) for file in drawn.sample))
    assert sum(known_bytes) / 300 == pytest.approx(photo_bytes, rel=0.03)
    assert sum(found.likely for found in ranges) / 300 == pytest.approx(truth, rel=0.03)
    assert 0.85 < sum(found.low <= truth <= found.high for found in ranges) / 300 < 0.99
    assert sum(found.high - found.low for found in ranges) / 300 < truth


def test_the_slower_of_codec_and_decoding_decides_the_hours() -> None:
    one, four = Plan(workers=1), Plan(workers=4)
    assert hours_on_workers(36e9, 0, 10, one) == pytest.approx(START_HOURS + 1)
    assert hours_on_workers(36e9, 0, 10, four) == pytest.approx(START_HOURS + 0.25)
    decoding = DECODING_CPUS * 2 * 3600
    assert hours_on_workers(36e9, decoding, 10, one) == pytest.approx(START_HOURS + 2)


def test_prices() -> None:
    plan = Plan(workers=4, worker_price=0.5, storage_price=0.02)
    assert usd_on_workers(3, 0, plan) == 6
    assert usd_on_workers(3, 1_000_000, plan) == pytest.approx(6 + 1e6 * OPERATIONS_PRICE)
    assert usd_a_month(2**40, plan.storage_price) == pytest.approx(20.48)
    assert payback_months(10, 4) == 2.5
    assert payback_months(10, 0) is None


@torch.inference_mode()
def test_the_assumed_speed_is_of_the_model_and_the_code_there_is(shipped_codec: Codec) -> None:
    first = operations(shipped_codec.model)[0]
    of_trials = first.encoder + first.context + LEVEL_TRIALS * first.decoder
    assert of_trials == pytest.approx(MACS_PER_PIXEL, rel=0.01)
    image = torch.rand(1, 3, 1500, 2000)
    with as_on_a_gpu():
        ms_ssim(image, image)  # makes what it keeps for later calls
    with as_on_a_gpu() as counter:
        ms_ssim(image, image)
    assert counter.kernels / 3 * LEVEL_TRIALS == pytest.approx(KERNELS_PER_MEGAPIXEL, rel=0.1)
    # Seconds a megapixel: 0.001 + 3 * (2 * 156,200e6 / 30.25e12 + 144 * 5e-6 + 0.06) = 0.21414.
    assert assumed_speed(3) == pytest.approx(1 / 0.21414, rel=0.001)


TRIALS = (
    Trial(1_000_000, "encoded", "", 4_000_000, 8_000_000, 0.5, 3.5, 900_000),
    Trial(1_000_000, "kept", "not smaller", 2_000_000, 16_000_000, 0.5, 7.5, 0),
    Trial(2_000_000, "failed", "broken"),
)
SIZES = [trial.source_bytes for trial in TRIALS]


def test_extrapolate() -> None:
    plan = Plan(worker_speed=2.0, workers=1)
    found = extrapolate("in", Settings.default(), "cpu", listing(SIZES, 4_000_000, 0), TRIALS, plan)
    assert found.saved_bytes.likely == 900_000 and found.kept_bytes.likely == 3_000_000
    assert found.mean_iterations == 4
    assert found.here_hours.likely == pytest.approx(12 / 3600)
    assert found.here_megapixels_a_second == pytest.approx(0.5)
    assert found.workers.hours.likely == pytest.approx(START_HOURS + 3 / 3600)
    assert found.workers.megapixels_a_second == 2
    months = found.workers.usd.likely / found.saved_usd_a_month.likely
    assert found.workers.payback_months == pytest.approx(months)
    assumed = extrapolate("in", Settings.default(), "cpu", listing(SIZES, 4_000_000, 0), TRIALS, Plan())
    assert assumed.workers.megapixels_a_second == pytest.approx(assumed_speed(4))
    few = extrapolate("in", Settings.default(), "cpu", listing(SIZES, 20_000_000, 9_000_000), TRIALS, Plan())
    assert few.kept_bytes.likely < few.kept_bytes.high == 20_000_000  # and not more than there is


def test_nothing_saved_never_pays_back() -> None:
    trials = (TRIALS[1], TRIALS[2])
    found = extrapolate("in", Settings.default(), "cpu", listing(SIZES[1:], 3_000_000, 0), trials, Plan())
    assert found.workers.payback_months is None
    with (console := Console(width=200)).capture() as printed:
        print_estimate(found, console)
    assert "never" in printed.get() and "0 encoded, 1 kept, 1 failed" in printed.get()


def test_trials_tell_kept_and_failed_photos(photo_folder: Path, tiny_codec: Codec) -> None:
    files = {Path(file.relative).name: file for file in find_files(str(photo_folder))}

    def trial(name: str, settings: Settings) -> Trial:
        return try_photo(files[name], EncodeHandler(settings, "cpu", 1, None), tiny_codec, settings)

    pixels = 160 * 96
    out_of_reach = trial("a.jpg", Settings(target_ms_ssim=0.9999))
    assert (out_of_reach.status, out_of_reach.saved_bytes) == ("kept", 0)
    assert out_of_reach.pixel_iterations == tiny_codec.iterations * pixels
    assert trial("a.jpg", Settings(max_bits_per_pixel=0.001)).pixel_iterations == pixels
    two = trial("b.png", Settings(iterations=2))
    assert (two.status, two.pixels, two.pixel_iterations) == ("encoded", pixels, 2 * pixels)
    assert 0 < two.saved_bytes < two.source_bytes and two.encode_seconds > 0 and two.load_seconds > 0
    broken = trial("broken.jpg", Settings(iterations=1))
    assert broken.status == "failed" and broken.reason and broken.saved_bytes == broken.pixels == 0


def test_estimate_of_a_small_archive_is_what_the_run_then_gives(photo_folder: Path, tmp_path: Path) -> None:
    settings = Settings(iterations=1)
    found = estimate(str(photo_folder), settings, "cpu", Plan(), QUIET)
    assert (found.listing.photos, found.listing.others) == (3, 1)
    assert Counter(trial.status for trial in found.trials) == {"encoded": 2, "failed": 1}
    assert found.mean_iterations == 1 and found.here_hours.likely > 0
    assert json.loads(json.dumps(asdict(found)))["saved_bytes"]["likely"] == found.saved_bytes.likely

    output = str(tmp_path / "out")
    CliRunner().invoke(app, ["compress", str(photo_folder), output, "--iterations", "1"])
    assert found.saved_bytes.likely == audit(output).totals["saved_bytes"]

    with (console := Console(width=200)).capture() as printed:
        print_estimate(found, console)
    assert "2 encoded, 0 kept, 1 failed" in printed.get() and "assumed of an L4" in printed.get()
    with console.capture() as printed:
        print_estimate(replace(found, plan=Plan(worker_speed=1.0)), console)
    assert "assumed" not in printed.get() and "days at most" not in printed.get()
    long = replace(found.workers, hours=Range(600, 650, 700))
    with console.capture() as printed:
        print_estimate(replace(found, workers=long), console)
    assert "A job may take 28 days at most" in printed.get()


def test_errors_say_what_there_is(photo_folder: Path) -> None:
    settings = Settings(iterations=1)
    for name in ("a.jpg", "trip/b.png"):
        (photo_folder / name).unlink()
    with pytest.raises(EstimateError, match=r"none of 1 photos could be encoded: .*truncated"):
        estimate(str(photo_folder), settings, "cpu", Plan(), QUIET)
    (photo_folder / "trip" / "broken.jpg").unlink()
    with pytest.raises(EstimateError, match="no photos among 1 files"):
        estimate(str(photo_folder), settings, "cpu", Plan(), QUIET)
    with pytest.raises(FileNotFoundError):
        estimate(str(photo_folder / "nowhere"), settings, "cpu", Plan(), QUIET)


def test_the_table_of_a_million_photos() -> None:
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in million_photos().splitlines()[2:]]
    assert [row[0] for row in rows] == ["1", "8", "32"]
    hours, usd = ([float(row[column]) for row in rows] for column in (1, 2))
    assert hours[0] == pytest.approx(12e6 / assumed_speed(1) / 3600, rel=0.01)
    assert usd[0] == pytest.approx(hours[0] * Plan().worker_price + 1e6 * OPERATIONS_PRICE, rel=0.01)
    assert hours[1] == pytest.approx(hours[0] / 8, abs=0.8) and usd[2] > usd[0]

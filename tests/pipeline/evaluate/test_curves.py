import math
from pathlib import Path

import pytest

from pipeline.evaluate.curves import (
    BUTTERAUGLI,
    MS_SSIM,
    SSIMULACRA2,
    RatePoint,
    decibels,
    rate_at,
    read_published,
)
from pipeline.evaluate.metrics import Measures

CURVE = [RatePoint(0.1, 0.9), RatePoint(0.2, 0.95), RatePoint(0.4, 0.975), RatePoint(0.8, 0.9875)]
PERCEIVED = [
    RatePoint(0.1, 0.9, ssimulacra2=40, butteraugli=2.5),
    RatePoint(0.4, 0.9, ssimulacra2=80, butteraugli=1.3),
]


def test_rates_between_points_are_log_linear_in_decibels() -> None:
    assert rate_at(CURVE, MS_SSIM, 0.95) == pytest.approx(0.2)
    halfway = 1 - math.sqrt((1 - 0.9) * (1 - 0.95))
    assert rate_at(CURVE, MS_SSIM, halfway) == pytest.approx(math.sqrt(0.1 * 0.2))
    assert rate_at(CURVE, MS_SSIM, 0.89) is None and rate_at(CURVE, MS_SSIM, 0.99) is None


def test_rates_are_log_linear_in_a_score_and_in_a_distance() -> None:
    assert rate_at(PERCEIVED, SSIMULACRA2, 60) == pytest.approx(0.2)
    assert rate_at(PERCEIVED, SSIMULACRA2, 90) is None
    assert rate_at(PERCEIVED, BUTTERAUGLI, 1.9) == pytest.approx(0.2)
    assert rate_at(PERCEIVED, BUTTERAUGLI, 1.0) is None


def test_what_was_not_measured_is_not_compared() -> None:
    assert rate_at(CURVE, SSIMULACRA2, 60) is None


def test_equal_images_are_a_point_that_can_be_plotted() -> None:
    assert decibels(1.0) == pytest.approx(100)
    best = rate_at([*CURVE, RatePoint(1.6, 1.0)], MS_SSIM, 0.99)
    assert best is not None and best > 0.8


def test_a_point_is_the_mean_of_its_photos() -> None:
    measures = [Measures(0.1 * n, 0.9, 30, 10.0 * n**2, 1.0 * n, 2.0, 1.0 * n) for n in (1, 2, 3)]
    point = RatePoint.of(0.9, measures)
    assert point.bits_per_pixel == pytest.approx(0.2) and point.butteraugli == 2
    assert point.ssimulacra2 == pytest.approx(140 / 3) and point.median_ssimulacra2 == 40
    assert point.border_ratio == 1 and point.photos == tuple(measures)


def test_published_curves(tmp_path: Path) -> None:
    path = tmp_path / "curve.txt"
    path.write_text("# bpp, MS-SSIM\n\n0.1, 0.9\n0.2, 0.95\n")
    assert read_published([path]) == {"curve": CURVE[:2]}


@pytest.mark.parametrize(
    ("name", "text"),
    [("a", "codec,bpp,ms_ssim\njpeg,1,0.9"), ("a", "0.1, 0.9"), ("a", "0.1\n0.2"), ("a", "1,30\n2,40")]
    + [(taken, "0.1, 0.9\n0.2, 0.95") for taken in ("webp", "rgc")],
)
def test_wrong_published_curves_are_named_before_anything_is_encoded(
    tmp_path: Path, name: str, text: str
) -> None:
    path = tmp_path / f"{name}.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"{name}.txt"):
        read_published([path])

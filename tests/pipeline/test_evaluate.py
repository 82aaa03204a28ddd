import json
import math
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.evaluate import RatePoint, bd_rate, rate_at, read_curve

CURVE = [RatePoint(0.1, 0.9), RatePoint(0.2, 0.95), RatePoint(0.4, 0.975), RatePoint(0.8, 0.9875)]


def test_rates_between_points_are_log_linear_in_decibels() -> None:
    assert rate_at(CURVE, 0.95) == pytest.approx(0.2)
    halfway = 1 - math.sqrt((1 - 0.9) * (1 - 0.95))
    assert rate_at(CURVE, halfway) == pytest.approx(math.sqrt(0.1 * 0.2))
    assert rate_at(CURVE, 0.89) is None and rate_at(CURVE, 0.99) is None


def test_bd_rate_of_a_curve_at_half_the_rate() -> None:
    half = [RatePoint(point.bits_per_pixel / 2, point.ms_ssim) for point in CURVE]
    assert bd_rate(CURVE, half) == pytest.approx(-50, abs=0.1)
    assert bd_rate([*CURVE, *CURVE], CURVE) == pytest.approx(0, abs=1e-6)  # repeated points


def test_published_curves(tmp_path: Path) -> None:
    path = tmp_path / "curve.txt"
    path.write_text("# bpp, MS-SSIM\n\n0.1, 0.9\n0.2, 0.95\n")
    assert read_curve(path) == CURVE[:2]


def test_evaluate_measures_files_that_another_process_decodes(tmp_path: Path, astronaut: Image.Image) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    astronaut.crop((100, 0, 356, 192)).save(folder / "a.png")
    (tmp_path / "published.txt").write_text("0.1, 0.9\n0.5, 0.97\n1.0, 0.99\n")
    arguments = ["evaluate", str(folder), "--against", "jpeg", "--published", str(tmp_path / "published.txt")]
    arguments += ["--json", str(tmp_path / "out.json"), "--plot", str(tmp_path / "plot")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    figures = json.loads((tmp_path / "out.json").read_text())
    assert set(figures["curves"]) == {"rgc", "jpeg", "published"}
    rates = [point["bits_per_pixel"] for point in figures["curves"]["rgc"]]
    assert rates == sorted(rates) and figures["images"] == 1
    assert all(point["psnr"] > 15 for point in figures["curves"]["rgc"])
    assert (tmp_path / "plot.png").stat().st_size > 10_000 and (tmp_path / "plot.svg").exists()


def test_evaluate_names_what_is_no_photo(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    for arguments, code, message in (
        ([str(tmp_path)], 1, "notes.txt"),
        ([str(tmp_path), "--against", "gif"], 2, "gif"),
    ):
        result = CliRunner().invoke(app, ["evaluate", *arguments])
        assert result.exit_code == code and message in result.output

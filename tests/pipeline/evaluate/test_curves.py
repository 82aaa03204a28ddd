import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from model.codec import Codec
from model.files import encode_photo
from model.photos.reading import DecodedPhoto
from model.settings import Settings
from model.weights.loading import save_weights
from pipeline.cli.main import app
from pipeline.evaluate.curves import RatePoint, bd_rate, decibels, rate_at, read_curves
from tests.conftest import tiny_model

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


def test_no_bd_rate_without_a_common_range() -> None:
    higher = [RatePoint(1.0, 0.995), RatePoint(2.0, 0.998)]
    assert bd_rate(CURVE, higher) is None
    assert bd_rate(CURVE, CURVE[:1]) is None


def test_equal_images_are_a_point_that_can_be_plotted() -> None:
    assert decibels(1.0) == pytest.approx(100)
    assert rate_at([*CURVE, RatePoint(1.6, 1.0)], 0.99) > 0.8


def test_published_curves(tmp_path: Path) -> None:
    path = tmp_path / "curve.txt"
    path.write_text("# bpp, MS-SSIM\n\n0.1, 0.9\n0.2, 0.95\n")
    assert read_curves([path]) == {"curve": CURVE[:2]}


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
        read_curves([path])


def evaluate(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    json_file = tmp_path / "out.json"
    result = CliRunner().invoke(app, ["evaluate", *arguments, "--json", str(json_file)])
    assert result.exit_code == 0, result.output
    return json.loads(json_file.read_text())


def test_evaluate_measures_files_that_another_process_decodes(
    tmp_path: Path, astronaut: Image.Image, shipped_codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    photo = astronaut.crop((100, 0, 356, 192))
    photo.save(folder / "a.png")
    (tmp_path / "published.txt").write_text("0.1, 0.9\n0.5, 0.97\n1.0, 0.99\n")
    monkeypatch.delattr(Codec, "decode_each")  # not in this process
    figures = evaluate(
        tmp_path, str(folder), "--against", "jpeg", "--published", str(tmp_path / "published.txt"),
        "--plot", str(tmp_path / "plot"),
    )  # fmt: skip
    assert set(figures["curves"]) == {"rgc", "jpeg", "published"} and figures["images"] == 1
    assert set(figures["bd_rates"]) == {"jpeg", "published"}
    pixels = DecodedPhoto(np.array(photo), grey=False, format="PNG")
    file = encode_photo(shipped_codec, pixels, Settings(iterations=shipped_codec.iterations))
    points = figures["curves"]["rgc"]
    rates = [length * 8 / (256 * 192) for length in file.prefix_bytes()]
    assert [point["bits_per_pixel"] for point in points] == pytest.approx(rates)
    assert [point["ms_ssim"] for point in points] == pytest.approx(file.ms_ssim, abs=2e-5)
    assert all(point["psnr"] > 15 for point in points)
    assert (tmp_path / "plot.png").stat().st_size > 10_000 and (tmp_path / "plot.svg").exists()


def test_evaluate_takes_other_weights(tmp_path: Path, astronaut: Image.Image) -> None:
    (tmp_path / "images").mkdir()
    astronaut.resize((64, 48)).save(tmp_path / "images" / "a.png")
    save_weights(tiny_model(), tmp_path / "tiny.safetensors")
    weights = ["--weights", str(tmp_path / "tiny.safetensors"), "--against", ""]
    assert len(evaluate(tmp_path, str(tmp_path / "images"), *weights)["curves"]["rgc"]) == 3


def test_evaluate_refuses_a_wrong_call_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # long paths would be broken in the message's box
    Path("notes.txt").write_text("x")
    for arguments, code, message in (
        (["."], 1, "notes.txt"),
        ([".", "--against", "gif"], 2, "gif"),
        ([".", "--json", "missing/a.json"], 2, "missing"),
    ):
        result = CliRunner().invoke(app, ["evaluate", *arguments])
        assert result.exit_code == code and message in result.output

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from model.codec import Codec
from model.files import encode_photos
from model.photos.reading import DecodedPhoto
from model.settings import Settings
from model.weights.loading import save_weights
from pipeline.cli.main import app
from pipeline.evaluate.codecs import CODECS
from pipeline.evaluate.curves import RatePoint, read_folder
from pipeline.evaluate.metrics import Measures
from pipeline.evaluate.report import compare, read_earlier, target_of_median, to_json
from tests.conftest import tiny_model


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    save_weights(tiny_model(), tmp_path / "tiny.safetensors")
    return tmp_path / "tiny.safetensors"


@pytest.fixture
def images(tmp_path: Path, astronaut: Image.Image) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    astronaut.crop((100, 0, 228, 96)).save(folder / "a.png")
    return folder


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)], env={"COLUMNS": "200"})


def evaluate(tmp_path: Path, *arguments: object) -> dict[str, Any]:
    result = call(*arguments, "--json", tmp_path / "out.json")
    assert result.exit_code == 0, result.output
    return json.loads((tmp_path / "out.json").read_text())


def test_evaluate_measures_files_that_another_process_decodes(
    tmp_path: Path, images: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec = Codec.load(weights=weights)
    photo = DecodedPhoto(np.array(Image.open(images / "a.png")), grey=False, format="PNG")
    goals = [Settings(target_ms_ssim=0.01), Settings(target_ms_ssim=0.99), Settings(iterations=3)]
    expected = [encoded.file for encoded in encode_photos(codec, [photo] * 3, goals)]
    (tmp_path / "published.txt").write_text("0.1, 0.9\n0.5, 0.97\n1.0, 0.99\n")
    monkeypatch.delattr(Codec, "decode")  # not in this process
    monkeypatch.setitem(CODECS, "jpeg", replace(CODECS["jpeg"], qualities=(5, 60, 96)))
    figures = evaluate(
        tmp_path, images, "--weights", weights, "--targets", "0.01,0.99", "--against", "jpeg",
        "--published", tmp_path / "published.txt", "--plot", tmp_path / "plot",
    )  # fmt: skip
    assert set(figures["curves"]) == {"rgc", "jpeg", "published"} and list(figures["photos"]) == ["a.png"]
    assert figures["made"]["model"] == codec.model_id
    points = figures["curves"]["rgc"]
    assert [point["setting"] for point in points] == [0.01, 0.99, None]
    lengths = [len(file.to_bytes()) * 8 / (128 * 96) for file in expected]
    assert [point["bits_per_pixel"] for point in points] == pytest.approx(lengths)
    assert [point["ms_ssim"] for point in points] == pytest.approx(
        [file.ms_ssim[-1] for file in expected], abs=2e-5
    )
    assert all(len(point["photos"]) == 1 and point["psnr"] > 5 for point in points)
    jpeg = figures["curves"]["jpeg"]
    assert [point["ssimulacra2"] for point in jpeg] == sorted(point["ssimulacra2"] for point in jpeg)
    rates = figures["rates"]["ms_ssim"]["jpeg"]
    assert rates == sorted(rates) and rates[0] > 0
    assert (tmp_path / "plot.png").stat().st_size > 10_000 and (tmp_path / "plot.svg").exists()


def test_other_codecs_are_taken_from_an_earlier_evaluation_of_the_same_photos(
    tmp_path: Path, images: Path
) -> None:
    photos = read_folder(images)
    jpeg = RatePoint.of(75, [Measures(0.5, 0.9, 30.0, 60.0, None, 1.0, 1.0)])
    found = compare(photos, {"rgc": [jpeg, jpeg], "jpeg": [jpeg]}, {})
    earlier = tmp_path / "earlier.json"
    earlier.write_text(to_json(found))
    assert read_earlier(earlier, photos) == {"jpeg": [jpeg]}
    with pytest.raises(ValueError, match=r"earlier.json is of other photos \(1\)"):
        read_earlier(earlier, {"a.png": replace(photos["a.png"], pixels=photos["a.png"].pixels[1:])})
    earlier.write_text("[]")
    with pytest.raises(ValueError, match=r"earlier.json is no evaluation's JSON"):
        read_earlier(earlier, photos)


def test_the_target_at_which_half_of_the_photos_are_good() -> None:
    curve = [
        RatePoint(0.1, 0.9, median_ssimulacra2=40, setting=0.9),
        RatePoint(0.2, 0.96, median_ssimulacra2=60, setting=0.96),
        RatePoint(0.4, 0.99, median_ssimulacra2=80, setting=0.99),
        RatePoint(0.9, 0.99, median_ssimulacra2=95, setting=None),
    ]
    assert target_of_median(curve, 70) == pytest.approx(0.98)
    assert target_of_median(curve, 40) is None and target_of_median(curve, 90) is None


def test_evaluate_refuses_a_wrong_call_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # long paths would be broken in the message's box
    Path("notes.txt").write_text("x")
    for arguments, code, message in (
        (["."], 1, "notes.txt"),
        ([".", "--against", "gif"], 2, "gif"),
        ([".", "--targets", "0.9,1"], 2, "--targets"),
        ([".", "--json", "missing/a.json"], 2, "missing"),
    ):
        result = call(*arguments)
        assert result.exit_code == code and message in result.output

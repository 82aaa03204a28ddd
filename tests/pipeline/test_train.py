import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner, Result

from model.network import ResidualGRUCodec
from model.weights.loading import load_weights, save_weights
from pipeline import train
from pipeline.cli.main import app
from tests.conftest import TINY, tiny_model

CONFIG = """
iterations = {iterations}
steps = {steps}
context_steps = 1
batch = 6
crop = 32
learning_rate = 1e-3
decay = 0.3
prices = {prices}
weights = [0.3, 0.2, 0.4, 0.1]
"""


@pytest.fixture(autouse=True)
def small_and_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "ResidualGRUCodec", lambda _: ResidualGRUCodec(TINY))
    monkeypatch.setattr(train, "STEPS_BETWEEN_LINES", 1)
    monkeypatch.setattr(train, "STEPS_BETWEEN_EVALUATIONS", 1)


@pytest.fixture
def photos(tmp_path: Path, astronaut: Image.Image) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    astronaut.resize((70, 50)).save(folder / "a.png")
    return folder


def config_of(iterations: list[int], steps: int) -> str:
    return CONFIG.format(iterations=iterations, prices=[[3.0, 0.5]] * len(iterations), steps=steps)


def call(photos: Path, config: str, *arguments: object) -> Result:
    path, out = photos.parent / "config.toml", photos.parent / "out"
    path.write_text(config)
    command = ["train", photos, photos, "--out", out, "--config", path, *arguments]
    return CliRunner().invoke(app, list(map(str, command)))


def test_train_goes_on_where_it_stopped_and_measures_held_out_photos(tmp_path: Path, photos: Path) -> None:
    first = call(photos, config_of([0], steps=1), "--evaluate-on", photos)
    second = call(photos, config_of([0], steps=2), "--evaluate-on", photos)
    assert first.exit_code == second.exit_code == 0, first.output + second.output
    assert "step 1/1: loss" in first.output and "held-out photos; iteration 1: " in first.output
    measured_at = first.output.partition("held-out photos; iteration 1: ")[2].splitlines()[0]
    assert measured_at.count(" bpp ") == 3  # the lowest, a middle and the highest level
    assert "going on from step 1 of 2" in second.output and "step 2/2" in second.output
    log = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in log] == [1, 2]
    measured = {"bits_per_pixel", "ms_ssim", "ssimulacra2_distance", "psnr"}
    for entry in log:
        levels = entry["iterations"]["1"]
        assert set(levels) <= {"low", "middle", "high"}
        assert all(set(means) == measured and means["bits_per_pixel"] > 0 for means in levels.values())
    save_weights(tiny_model(), tmp_path / "other.safetensors")
    other = call(photos, config_of([0], steps=2), "--start-from", tmp_path / "other.safetensors")
    assert other.exit_code == 1 and "checkpoint.pt was started from other weights" in other.output
    assert load_weights(tmp_path / "out" / "rgc.safetensors").config == TINY


def test_later_iterations_are_trained_on_a_first_one_that_stays(tmp_path: Path, photos: Path) -> None:
    config = config_of([1, 2], steps=2)
    alone = call(photos, config)
    assert alone.exit_code == 1 and "--start-from says what they come after" in alone.output
    no_weights = call(photos, config, "--start-from", photos / "a.png")
    assert no_weights.exit_code == 1 and "a.png is no weights file" in no_weights.output
    save_weights(tiny_model(), tmp_path / "first.safetensors")
    result = call(photos, config, "--start-from", tmp_path / "first.safetensors")
    assert result.exit_code == 0, result.output
    before = load_weights(tmp_path / "first.safetensors").state_dict()
    after = load_weights(tmp_path / "out" / "rgc.safetensors").state_dict()
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert "later_encoder" in changed and not changed & {"first_encoder", "first_decoder"}

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from model.weights.loading import DEFAULT_WEIGHTS, load_weights
from pipeline import train
from pipeline.cli.main import app

CONFIG = """
stage = "coarse"
steps = {steps}
batch = 1
crop = 32
learning_rate = 1e-3
unroll = [1]
rate_ramp = [0.5, 0.9]
target_rates = [0.07, 0.075, 0.09, 0.11, 0.14, 0.15, 0.16, 0.17]
l1_weight = 0.3
"""


def test_train_goes_on_where_it_stopped_and_evaluates(
    tmp_path: Path, astronaut: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "STEPS_BETWEEN_LINES", 1)
    monkeypatch.setattr(train, "STEPS_BETWEEN_EVALUATIONS", 1)
    photos, out, config = tmp_path / "photos", tmp_path / "out", tmp_path / "config.toml"
    photos.mkdir()
    astronaut.resize((64, 48)).save(photos / "a.png")
    call = ["train", str(photos), "--out", str(out), "--config", str(config), "--evaluate-on", str(photos)]
    outputs = []
    for steps in (1, 2):
        config.write_text(CONFIG.format(steps=steps))
        result = CliRunner().invoke(app, call)
        assert result.exit_code == 0, result.output
        outputs.append(result.output)
    assert "step 1/1: loss" in outputs[0] and "bits per pixel and MS-SSIM:" in outputs[0]
    assert "going on from step 1 of 2" in outputs[1] and "step 2/2" in outputs[1]
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in log] == [1, 2]
    other = CliRunner().invoke(app, [*call, "--start-from", str(DEFAULT_WEIGHTS)])
    assert other.exit_code == 1 and "checkpoint.pt was started from other weights" in other.output
    assert load_weights(out / "rgc.safetensors").config.iterations == 8


def test_the_fine_stage_is_trained_on_a_coarse_one_that_stays(tmp_path: Path, astronaut: Image.Image) -> None:
    photos, config, out = tmp_path / "photos", tmp_path / "config.toml", tmp_path / "out"
    photos.mkdir()
    astronaut.resize((64, 48)).save(photos / "a.png")
    config.write_text(CONFIG.format(steps=1).replace("coarse", "fine"))
    call = ["train", str(photos), "--out", str(out), "--config", str(config)]
    alone = CliRunner().invoke(app, call)
    assert alone.exit_code == 1 and "--start-from says which coarse one" in alone.output
    no_weights = CliRunner().invoke(app, [*call, "--start-from", str(config)])
    assert no_weights.exit_code == 1 and "config.toml is no weights file" in no_weights.output
    result = CliRunner().invoke(app, [*call, "--start-from", str(DEFAULT_WEIGHTS)])
    assert result.exit_code == 0, result.output
    before = load_weights(DEFAULT_WEIGHTS).state_dict()
    after = load_weights(out / "rgc.safetensors").state_dict()
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert "fine" in changed and "coarse" not in changed

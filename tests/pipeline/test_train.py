import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from model.weights import load_weights
from pipeline import train
from pipeline.cli import app

CONFIG = """
steps = {steps}
batch = 1
crop = 32
learning_rate = 1e-3
unroll = [[1.0, 1]]
rate_ramp = [0.5, 0.9]
target_rates = [0.1]
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
    assert load_weights(out / "rgc.safetensors").config.iterations == 8

"""`rgc train`: the training loop with its log, checkpoints and evaluations."""

import json
import time
from dataclasses import asdict
from pathlib import Path

import torch
from rich.console import Console

from model.network import CodecConfig, ResidualGRUCodec
from model.training import Trainer, TrainingConfig, TrainingStep, train
from model.training_data import PhotoSet
from model.weights import load_weights, save_weights
from pipeline.evaluate import read_folder, rgc_curve

STEPS_BETWEEN_LINES = 20
STEPS_BETWEEN_EVALUATIONS = 1000


def run_training(
    photos: list[Path],
    out: Path,
    config_path: Path,
    evaluate_on: Path | None,
    start_from: Path | None,
    device: str,
    console: Console,
) -> None:
    """Trains to the last step of the configuration and writes `out`/rgc.safetensors.

    Goes on from `out`/checkpoint.pt if that is there. Every `STEPS_BETWEEN_LINES` steps a line goes
    to the console and to `out`/log.jsonl.
    """
    config = TrainingConfig.from_toml(config_path)
    out.mkdir(parents=True, exist_ok=True)
    checkpoint, weights = out / "checkpoint.pt", out / "rgc.safetensors"
    torch.manual_seed(config.seed)
    model = ResidualGRUCodec(CodecConfig()) if start_from is None else load_weights(start_from)
    trainer = Trainer(model.requires_grad_(True), config, torch.device(device))
    if checkpoint.exists():
        trainer.restore(checkpoint)
        console.print(f"going on from step {trainer.step} of {config.steps}")
    started = time.monotonic()
    for step in train(trainer, PhotoSet(photos), checkpoint):
        if step.step % STEPS_BETWEEN_LINES == 0:
            console.print(_line(step, config.steps), highlight=False)
            with (out / "log.jsonl").open("a") as log:
                log.write(json.dumps({"seconds": time.monotonic() - started, **asdict(step)}) + "\n")
        if step.step % STEPS_BETWEEN_EVALUATIONS == 0 or step.step == config.steps:
            save_weights(trainer.model, weights, config_path.read_text())
            if evaluate_on is not None:
                _evaluate(weights, evaluate_on, device, console)
    console.print(f"weights: {weights}", highlight=False)


def _line(step: TrainingStep, steps: int) -> str:
    total = sum(figures.bits_per_pixel for figures in step.figures)
    last = step.figures[-1]
    return (
        f"step {step.step}/{steps}: loss {step.loss:.3f}, {step.megapixels_per_second:.3f} MP/s, "
        f"{total:.3f} bits per pixel and MS-SSIM {last.ms_ssim:.4f} after {len(step.figures)} iterations"
    )


def _evaluate(weights: Path, folder: Path, device: str, console: Console) -> None:
    points = rgc_curve(list(read_folder(folder)), device, weights)
    text = ", ".join(f"{point.bits_per_pixel:.3f} {point.ms_ssim:.4f}" for point in points)
    console.print(f"{folder}: bits per pixel and MS-SSIM: {text}", highlight=False)

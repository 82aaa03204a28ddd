"""`rgc train`: the training loop with its log, checkpoints and evaluations."""

import json
import time
from dataclasses import asdict
from pathlib import Path

import torch
from rich.console import Console

from model.network import CodecConfig, ResidualGRUCodec
from model.photos.reading import DecodedPhoto
from model.training.data import PhotoSet
from model.training.trainer import Trainer, TrainingConfig, TrainingStep, train
from model.weights.loading import load_weights, model_id, save_weights
from pipeline.evaluate.curves import read_folder, rgc_curve

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

    Raises:
        ValueError: a file that is not what it should be; or there is no coarse stage for the fine one.
    """
    config = TrainingConfig.from_toml(config_path)
    if config.stage == "fine" and start_from is None:
        raise ValueError(f"{config_path} trains the fine stage: --start-from says which coarse one it is for")
    out.mkdir(parents=True, exist_ok=True)
    checkpoint, weights = out / "checkpoint.pt", out / "rgc.safetensors"
    held_out = [] if evaluate_on is None else list(read_folder(evaluate_on))
    record = config_path.read_text()
    if start_from is not None:
        record += f"# started from {model_id(start_from)}\n"
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
        if step.step % STEPS_BETWEEN_EVALUATIONS == 0 and step.step < config.steps:
            save_weights(trainer.model, weights, record)
            _print_quality(held_out, device, weights, console)
    save_weights(trainer.model, weights, record)
    _print_quality(held_out, device, weights, console)
    console.print(f"weights: {weights}", highlight=False)


def _print_quality(photos: list[DecodedPhoto], device: str, weights: Path, console: Console) -> None:
    if photos:
        points = rgc_curve(photos, device, weights)
        text = ", ".join(f"{point.bits_per_pixel:.3f} {point.ms_ssim:.4f}" for point in points)
        console.print(f"held-out photos: bits per pixel and MS-SSIM: {text}", highlight=False)


def _line(step: TrainingStep, steps: int) -> str:
    total = sum(figures.bits_per_pixel for figures in step.figures)
    last = step.figures[-1]
    return (
        f"step {step.step}/{steps}: loss {step.loss:.3f}, {step.megapixels_per_second:.3f} MP/s, "
        f"{total:.3f} bits per pixel and MS-SSIM {last.ms_ssim:.4f} after {len(step.figures)} iterations"
    )

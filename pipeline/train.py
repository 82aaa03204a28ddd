"""`rgc train`: the training loop with its log, checkpoints and evaluations."""

import json
import math
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from model.batches.search import BOTTOM, TOP, position
from model.format.limits import STRIDE
from model.network import CodecConfig, ResidualGRUCodec
from model.photos.reading import DecodedPhoto
from model.training.data import PhotoSet
from model.training.trainer import StepFigures, Trainer, TrainingConfig, train
from model.weights.loading import load_weights, model_id, save_weights
from pipeline.evaluate.curves import read_folder

STEPS_BETWEEN_LINES = 50
STEPS_BETWEEN_EVALUATIONS = 1000
_BINS = {"low": (-math.inf, 0), "middle": (0, 0.5), "high": (0.5, math.inf)}  # of where levels lie
_MEASURES = ("bits_per_pixel", "ms_ssim", "ssimulacra2_distance", "psnr")


def run_training(
    sources: list[Path],
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

    Args:
        sources: folders and tar files; crops come from all of them alike, whatever their size. One that
            is named twice counts twice.

    Raises:
        ValueError: a file that is not what it should be; or there is no first iteration for later ones.
    """
    config = TrainingConfig.from_toml(config_path)
    if min(config.iterations) > 0 and start_from is None:
        raise ValueError(f"{config_path} trains later iterations: --start-from says what they come after")
    out.mkdir(parents=True, exist_ok=True)
    checkpoint, weights = out / "checkpoint.pt", out / "rgc.safetensors"
    held_out = [] if evaluate_on is None else list(read_folder(evaluate_on).values())
    record = config_path.read_text()
    if start_from is not None:
        record += f"# started from {model_id(start_from)}\n"
    torch.manual_seed(config.seed)
    model = ResidualGRUCodec(CodecConfig()) if start_from is None else load_weights(start_from)
    trainer = Trainer(model.requires_grad_(True), config, torch.device(device))
    if checkpoint.exists():
        trainer.restore(checkpoint)
        console.print(f"going on from step {trainer.step} of {config.steps}")
    started, recent = time.monotonic(), []
    for step in train(trainer, [PhotoSet(source) for source in sources], checkpoint):
        recent.append(step.figures)
        if step.step % STEPS_BETWEEN_LINES == 0 or step.step == config.steps:
            entry = {
                "seconds": time.monotonic() - started,
                "step": step.step,
                "loss": step.loss,
                "megapixels_per_second": step.megapixels_per_second,
                "iterations": _by_iteration_and_level(recent),
            }
            recent = []
            console.print(_line(entry, config.steps), highlight=False, soft_wrap=True)
            with (out / "log.jsonl").open("a") as log:
                log.write(json.dumps(entry) + "\n")
        if step.step % STEPS_BETWEEN_EVALUATIONS == 0 and step.step < config.steps:
            save_weights(trainer.model, weights, record)
            _print_quality(trainer, held_out, console)
    save_weights(trainer.model, weights, record)
    _print_quality(trainer, held_out, console)
    console.print(f"weights: {weights}", highlight=False)


def _by_iteration_and_level(figures: Sequence[StepFigures]) -> dict[int, dict[str, dict[str, float]]]:
    """Means over photos, by iteration counted from 1 and by whether the level is low, middle or high."""
    found = {}
    for iteration in sorted({f.iteration for f in figures}):
        own = [f for f in figures if f.iteration == iteration]
        level, *measured = (torch.cat([getattr(f, m) for f in own]).cpu() for m in ("level", *_MEASURES))
        found[iteration + 1] = {
            name: {m: values[inside].mean().item() for m, values in zip(_MEASURES, measured, strict=True)}
            for name, (low, high) in _BINS.items()
            if (inside := (level >= low) & (level < high)).any()
        }
    return found


def _line(entry: dict[str, Any], steps: int) -> str:
    speed = f"{entry['megapixels_per_second']:.3f} MP/s"
    figures = _text(entry["iterations"])
    return f"step {entry['step']}/{steps}: loss {entry['loss']:.3f}, {speed}{figures}"


def _text(iterations: dict[int, dict[str, dict[str, float]]]) -> str:
    """At low, middle and high levels: bits per pixel, MS-SSIM, SSIMULACRA2's sum and PSNR."""

    def bins(levels: Iterable[dict[str, float]]) -> str:
        return " | ".join(
            f"{means['bits_per_pixel']:.3f} bpp {means['ms_ssim']:.4f} "
            f"s{means['ssimulacra2_distance']:.2f} {means['psnr']:.1f} dB"
            for means in levels
        )

    return "".join(f"; iteration {number}: {bins(levels.values())}" for number, levels in iterations.items())


def _print_quality(trainer: Trainer, photos: Sequence[DecodedPhoto], console: Console) -> None:
    """What held-out photos come to at the lowest, a middle and the highest level, without writing files."""
    figures = []
    for photo in photos:
        height, width = (side // STRIDE * STRIDE for side in photo.pixels.shape[:2])
        image = torch.from_numpy(photo.pixels[:height, :width].copy()).permute(2, 0, 1)[None] / 255
        for iteration in trainer.config.iterations:
            for level in position([BOTTOM, (BOTTOM + TOP) // 2, TOP]):
                figures.append(trainer.measure(image, float(level), iteration))
    if figures:
        text = _text(_by_iteration_and_level(figures))
        console.print(f"held-out photos{text}", highlight=False, soft_wrap=True)

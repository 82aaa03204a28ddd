"""Training on a GPU in one command of less than nine minutes, for a machine that has torch and little else.

Here, once: the photos that travel, at most 40 MB, into a folder that git ignores.

    python -m tests.benchmarks.train --make-tar training/photos.tar SOURCE.tar [SOURCE.tar ...]

There, with training/ and the weights to start from carried along:

    python -m tests.benchmarks.train training/photos.tar --config model/training/first.toml \\
        [--start-from training/weights.safetensors] --batch 64 --crop 256 --minutes 8.5 --out $OUT

It keeps all photos on the card, crops there, and captures each step as a CUDA graph; --compile also
compiles the distortion, which takes a minute or so and saves most of its time. The configuration's
steps are its schedule's length alone: the time that has passed says where in it the run is. Every two
minutes it writes the weights in parts of less than 16 MiB, with a list of their checksums. Afterwards, here:

    python -m tests.benchmarks.train --join FOLDER weights.safetensors

Those are in float32, for --start-from; `save_weights(load_weights(...), ...)` makes a file to ship.
--shares 0 0.5 and, in a second call, --shares 0.5 1 cut one schedule in two.
"""

import argparse
import hashlib
import io
import json
import tarfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save
from torch import Tensor

from model.network import CodecConfig, ResidualGRUCodec
from model.training.trainer import StepFigures, Trainer, TrainingConfig
from model.weights.loading import load_weights
from tests.benchmarks.device import DevicePhotos, DeviceTrainer
from tests.benchmarks.operations import operations

LARGEST_TAR = 40_000_000
PART_BYTES = 15 << 20
SECONDS_BETWEEN_SAVES = 120
H100_PEAK = 989.0  # TFLOP/s, dense bfloat16
_LIST = "parts.json"
_MEASURES = ("bits_per_pixel", "ms_ssim", "ssimulacra2_distance", "psnr")


def make_tar(path: Path, sources: Sequence[Path], limit: int = LARGEST_TAR) -> int:
    """Copies photos from tar files in turn, each from its start, until the next would exceed `limit` bytes.

    Returns:
        How many.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack, tarfile.open(path, "w") as out:
        archives = [stack.enter_context(tarfile.open(source)) for source in sources]
        waiting = [iter([member for member in archive if member.isfile()]) for archive in archives]
        count, size = 0, 2 * tarfile.RECORDSIZE
        while waiting:
            archive, members = archives.pop(0), waiting.pop(0)
            if (member := next(members, None)) is None:
                continue
            size += 2 * tarfile.BLOCKSIZE + member.size
            if size > limit:
                break
            out.addfile(member, archive.extractfile(member))
            archives.append(archive)
            waiting.append(members)
            count += 1
    return count


def read_photos(path: Path) -> list[NDArray[np.uint8]]:
    """All photos of a tar file, (H, W, 3) each."""
    with tarfile.open(path) as archive:
        members = [member for member in archive if member.isfile()]
        files = [extracted.read() for member in members if (extracted := archive.extractfile(member))]

    def decode(data: bytes) -> NDArray[np.uint8]:
        return np.array(Image.open(io.BytesIO(data)).convert("RGB"))

    with ThreadPoolExecutor(16) as threads:
        return list(threads.map(decode, files))


def save_parts(model: ResidualGRUCodec, out: Path, training: str) -> None:
    """Writes the weights in float32 as files that together are one of `save_weights`'s."""
    tensors = {name: value.float().cpu().contiguous() for name, value in model.state_dict().items()}
    data = save(tensors, {"config": json.dumps(asdict(model.config)), "training": training})
    parts = [data[start : start + PART_BYTES] for start in range(0, len(data), PART_BYTES)]
    names = [f"weights.part{number}" for number in range(len(parts))]
    for name, part in zip(names, parts, strict=True):
        (out / f"{name}.new").write_bytes(part)
    for name in names:  # in one moment: a run that is stopped leaves parts of one save
        (out / f"{name}.new").replace(out / name)
    (out / _LIST).write_text(json.dumps({"parts": names, "sha256": hashlib.sha256(data).hexdigest()}))


def join_parts(folder: Path, path: Path) -> None:
    """Makes one file of what `save_parts` wrote.

    Raises:
        ValueError: the parts are not those of one save.
    """
    listed = json.loads((folder / _LIST).read_text())
    data = b"".join((folder / name).read_bytes() for name in listed["parts"])
    if (found := hashlib.sha256(data).hexdigest()) != listed["sha256"]:
        raise ValueError(f"{folder}: the parts' checksum is {found}, {_LIST} says {listed['sha256']}")
    path.write_bytes(data)


def training_flops(model: ResidualGRUCodec, iterations: Sequence[int]) -> float:
    """Operations for each pixel of a step, mean over the iterations: backward is twice forward.

    Networks and context model alone: neither the loss nor the optimizers.
    """
    counted = [2 * (o.encoder + o.decoder + o.context) for o in operations(model)]
    untrained = [2 * (o.encoder + o.decoder) for o in operations(model)]
    return float(np.mean([3 * counted[i] + sum(untrained[:i]) for i in iterations]))


@dataclass
class Progress:
    """What goes on the next line: speed since the last one, and means of the steps that were looked at."""

    pixels_of_step: int
    flops_of_pixel: float
    peak: float
    steps: int = 0
    since: float = field(default_factory=time.monotonic)
    losses: list[float] = field(default_factory=list)
    figures: list[StepFigures] = field(default_factory=list)

    def look_at(self, loss: Tensor, figures: StepFigures) -> None:
        """Copies a step's outcome from the device, which the host waits for.

        Raises:
            FloatingPointError: the loss is not finite.
        """
        self.losses.append(loss.item())
        if not np.isfinite(self.losses[-1]):
            raise FloatingPointError(f"the loss is {self.losses[-1]}: lower the learning rate")
        copies = {name: getattr(figures, name).cpu() for name in ("level", *_MEASURES)}
        self.figures.append(StepFigures(figures.iteration, **copies))

    def line(self) -> str:
        pixels = self.steps * self.pixels_of_step / (time.monotonic() - self.since)
        used = pixels * self.flops_of_pixel / (self.peak * 1e12)
        texts = [f"{pixels / 1e6:.3f} MP/s, {used:.1%} of peak, loss {np.mean(self.losses):.3f}"]
        for iteration in sorted({figures.iteration for figures in self.figures}):
            own = [figures for figures in self.figures if figures.iteration == iteration]
            rate, similarity, distance, psnr = (
                torch.cat([getattr(figures, name) for figures in own]).mean().item() for name in _MEASURES
            )
            texts.append(
                f"iteration {iteration + 1}: {rate:.3f} bpp {similarity:.4f} s{distance:.2f} {psnr:.1f} dB"
            )
        return ", ".join(texts)


def make_trainer(arguments: argparse.Namespace, device: torch.device) -> DeviceTrainer:
    config = TrainingConfig.from_toml(arguments.config)
    config = replace(config, batch=arguments.batch, crop=arguments.crop)
    torch.manual_seed(config.seed)
    model = load_weights(arguments.start_from) if arguments.start_from else ResidualGRUCodec(CodecConfig())
    trainer = Trainer(model.requires_grad_(True), config, device)
    if arguments.compile:
        images = torch.rand(2, 3, config.crop, config.crop, device=device)
        trainer.distortion(images, images, config.weights)  # makes its constants, which are not compiled
        trainer.distortion = torch.compile(trainer.distortion)
    photos = DevicePhotos(read_photos(arguments.tar), config.crop, device)
    print(f"{len(photos.starts)} photos, {photos.pixels.nbytes / 1e6:.0f} MB on {device_name(device)}")
    return DeviceTrainer(trainer, photos, captured=device.type == "cuda" and not arguments.eager)


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "the CPU"


def run(arguments: argparse.Namespace) -> None:
    started = time.monotonic()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    subject = make_trainer(arguments, device)
    config, model = subject.config, subject.model
    flops = training_flops(model, config.iterations)
    sizes = f"batch {config.batch}, crop {config.crop}"
    record = f"{arguments.config.read_text()}# on {device_name(device)}, {sizes}\n"
    arguments.out.mkdir(parents=True, exist_ok=True)
    print(f"{flops / 1e3:.0f} kFLOP a pixel; ready after {time.monotonic() - started:.0f} s", flush=True)
    progress = Progress(config.batch * config.crop**2, flops, arguments.peak)
    saved, until = time.monotonic(), started + arguments.minutes * 60
    begun, (first, last) = time.monotonic(), arguments.shares
    while (now := time.monotonic()) < until and subject.steps != arguments.steps:
        share = first + (last - first) * (now - begun) / (until - begun)
        outcome = subject.step(share * config.steps)
        progress.steps += 1
        if progress.steps % arguments.look_every == 0:
            progress.look_at(*outcome)
        if progress.steps == arguments.print_every:
            print(f"{now - started:.0f} s, {share:.3f} of the schedule: {progress.line()}", flush=True)
            progress = Progress(progress.pixels_of_step, flops, arguments.peak)
        if now - saved > SECONDS_BETWEEN_SAVES:
            save_parts(model, arguments.out, record)
            saved = now
    save_parts(model, arguments.out, record)
    print(f"{subject.steps} steps in {time.monotonic() - started:.0f} s; weights in {arguments.out}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("tar", type=Path, nargs="?", help="photos to train on")
    parser.add_argument("--make-tar", type=Path, nargs="+", metavar=("TAR", "SOURCE"))
    parser.add_argument("--join", type=Path, nargs=2, metavar=("FOLDER", "WEIGHTS"))
    parser.add_argument("--config", type=Path)
    parser.add_argument("--start-from", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--crop", type=int, default=256)
    parser.add_argument("--minutes", type=float, default=8.5, help="all of it, loading included")
    parser.add_argument("--steps", type=int, help="at most, for a trial")
    parser.add_argument("--shares", type=float, nargs=2, default=(0.0, 1.0), help="of the schedule")
    parser.add_argument("--compile", action="store_true", help="the distortion, by torch.compile")
    parser.add_argument("--eager", action="store_true", help="capture no CUDA graphs")
    parser.add_argument("--peak", type=float, default=H100_PEAK, help="of the device, in TFLOP/s")
    parser.add_argument("--look-every", type=int, default=10, help="steps between looks at the loss")
    parser.add_argument("--print-every", type=int, default=200, help="steps between lines")
    arguments = parser.parse_args()
    if arguments.make_tar:
        path, *sources = arguments.make_tar
        print(f"{path}: {make_tar(path, sources)} photos, {path.stat().st_size / 1e6:.1f} MB")
    elif arguments.join:
        join_parts(*arguments.join)
    elif arguments.tar and arguments.config and arguments.out:
        run(arguments)
    else:
        parser.error("a tar file, --config and --out are needed; or --make-tar; or --join")


if __name__ == "__main__":
    main()

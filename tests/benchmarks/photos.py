"""Photos for benchmarks: scikit-image's, enlarged, each with another cut so that no two are alike."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.cli.samples import sample_folder

NAMES = ("astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg")


def make_photos(folder: Path, count: int, width: int, height: int) -> Iterator[Path]:
    """Writes `count` JPEG files of one size."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    sources = [Image.open(sample_folder() / name).convert("RGB") for name in NAMES]
    for number in range(count):
        source = sources[number % len(sources)]
        left, top = random.integers(0, 40, 2).tolist()
        cut = source.crop((left, top, left + 380, top + 380 * height // width))
        path = folder / f"{number:04}.jpg"
        cut.resize((width, height), Image.Resampling.BICUBIC).save(path, quality=90)
        yield path

"""Speed of rgc beside AVIF and JPEG XL, to equal quality on the same photos in one run.

    python -m tests.benchmarks.codecs PHOTOS [--target 0.95] [--weights FILE ...] [--device cpu]

rgc takes each photo to the target by itself. Each other codec takes its coarsest setting whose mean MS-SSIM
is at least rgc's, and is then timed at it. All of them use all cores.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from model.codec import Codec
from model.files import choose_device, encode_photos
from model.format.container import read_rgc
from model.ms_ssim import ms_ssim_of_pixels
from model.photos.reading import DecodedPhoto
from model.settings import DEFAULT_TARGET_MS_SSIM, Settings
from model.weights.loading import DEFAULT_WEIGHTS, model_id
from pipeline.evaluate.codecs import CODECS, decode_pillow
from pipeline.evaluate.curves import read_folder
from pipeline.evaluate.metrics import Pixels

OTHERS = {"avif": "AVIF speed 4", "jxl": "JPEG XL effort 7"}
QUALITIES = range(4, 101, 2)


@dataclass(frozen=True)
class Coder:
    """One codec at one setting."""

    name: str
    encode: Callable[[DecodedPhoto], bytes]
    decode: Callable[[bytes], Pixels]


def rgc_coder(weights: Path, target: float, device: str) -> Coder:
    codec, settings = Codec.load(device, weights=weights), Settings(target_ms_ssim=target)
    return Coder(
        f"rgc {model_id(weights)[4:10]}",
        lambda photo: encode_photos(codec, [photo], [settings])[0].file.to_bytes(),
        lambda data: codec.decode(read_rgc(data)),
    )


def pillow_coder(name: str, setting: int) -> Coder:
    def encode(photo: DecodedPhoto) -> bytes:
        return CODECS[name].encode(photo.pixels, setting)

    return Coder(f"{OTHERS[name]}, quality {setting}", encode, decode_pillow)


def mean_quality(coder: Coder, photos: Sequence[DecodedPhoto]) -> float:
    return float(
        np.mean([ms_ssim_of_pixels(coder.decode(coder.encode(photo)), photo.pixels) for photo in photos])
    )


def coarsest(name: str, target: float, photos: Sequence[DecodedPhoto]) -> Coder:
    """The codec at the first setting that reaches the target, found by bisection.

    Raises:
        ValueError: none does.
    """
    low, high = 0, len(QUALITIES) - 1
    while low < high:
        middle = (low + high) // 2
        if mean_quality(pillow_coder(name, QUALITIES[middle]), photos) < target:
            low = middle + 1
        else:
            high = middle
    found = pillow_coder(name, QUALITIES[low])
    if (reached := mean_quality(found, photos)) < target:
        raise ValueError(f"{name} reaches a mean MS-SSIM of {reached:.4f} at its best, not {target}")
    return found


def report(coder: Coder, photos: Sequence[DecodedPhoto]) -> float:
    """Times it, and returns the mean MS-SSIM that it reached."""
    coder.decode(coder.encode(photos[0]))  # warm up
    started = time.perf_counter()
    files = [coder.encode(photo) for photo in photos]
    encoded = time.perf_counter()
    images = [coder.decode(data) for data in files]
    decoded = time.perf_counter()
    megapixels = sum(photo.pixels[:, :, 0].size for photo in photos) / 1e6
    rate = sum(map(len, files)) * 8 / megapixels / 1e6
    reached = np.mean(
        [ms_ssim_of_pixels(image, photo.pixels) for image, photo in zip(images, photos, strict=True)]
    )
    speeds = f"{megapixels / (encoded - started):9.3f} {megapixels / (decoded - encoded):9.3f}"
    print(f"{coder.name:30} {rate:6.3f} {reached:8.4f} {speeds}", flush=True)
    return float(reached)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--target", type=float, default=DEFAULT_TARGET_MS_SSIM)
    parser.add_argument("--weights", type=Path, nargs="+", default=[DEFAULT_WEIGHTS], help="of rgc")
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    photos = [photo for photo in read_folder(arguments.photos).values() if not photo.grey]
    device = choose_device(arguments.device)
    print(f"{'':30} {'bpp':>6} {'MS-SSIM':>8} {'enc MP/s':>9} {'dec MP/s':>9}")
    reached = [report(rgc_coder(path, arguments.target, device), photos) for path in arguments.weights]
    for name in OTHERS.keys() & CODECS:
        report(coarsest(name, reached[0], photos), photos)


if __name__ == "__main__":
    main()

"""Speed of rgc beside AVIF and JPEG XL, to equal quality on the same photos in one run.

    python -m tests.benchmarks.codecs PHOTOS [--target 0.95] [--weights OLD.safetensors ...] [--device cpu]

Each codec takes its coarsest setting whose mean MS-SSIM is at least the target (rgc: each photo's own
first iteration), and is then timed at it. All of them use all cores.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pillow_jxl  # noqa: F401 - registers JPEG XL with Pillow
from numpy.typing import NDArray

from model.codec import Codec
from model.files import choose_device, encode_photo
from model.format.container import read_rgc
from model.photos.reading import DecodedPhoto
from model.settings import Settings
from model.weights.loading import DEFAULT_WEIGHTS, model_id
from pipeline.evaluate.curves import PillowCodec, decode_pillow, quality, read_folder

PILLOW_CODECS = {
    "AVIF speed 4": PillowCodec("AVIF", {"subsampling": "4:2:0", "speed": 4}),
    "JPEG XL effort 7": PillowCodec("JXL", {"effort": 7}),
}
QUALITIES = range(20, 101, 4)
Pixels = NDArray[np.uint8]


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
        lambda photo: encode_photo(codec, photo, settings).to_bytes(),
        lambda data: codec.decode(read_rgc(data)),
    )


def pillow_coder(name: str, setting: int) -> Coder:
    codec = PILLOW_CODECS[name]
    encode: Callable[[DecodedPhoto], bytes] = lambda photo: codec.encode(photo.pixels, setting)  # noqa: E731
    return Coder(f"{name}, quality {setting}", encode, decode_pillow)


def mean_quality(coder: Coder, photos: Sequence[DecodedPhoto]) -> float:
    return float(np.mean([quality(coder.decode(coder.encode(photo)), photo.pixels) for photo in photos]))


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


def report(coder: Coder, photos: Sequence[DecodedPhoto]) -> None:
    coder.decode(coder.encode(photos[0]))  # warm up
    started = time.perf_counter()
    files = [coder.encode(photo) for photo in photos]
    encoded = time.perf_counter()
    images = [coder.decode(data) for data in files]
    decoded = time.perf_counter()
    megapixels = sum(photo.pixels[:, :, 0].size for photo in photos) / 1e6
    rate = sum(map(len, files)) * 8 / megapixels / 1e6
    reached = np.mean([quality(image, photo.pixels) for image, photo in zip(images, photos, strict=True)])
    speeds = f"{megapixels / (encoded - started):9.3f} {megapixels / (decoded - encoded):9.3f}"
    print(f"{coder.name:30} {rate:6.3f} {reached:8.4f} {speeds}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--target", type=float, default=0.95)
    parser.add_argument("--weights", type=Path, nargs="*", default=[], help="earlier models, to compare with")
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    photos = [photo for photo in read_folder(arguments.photos) if not photo.grey]
    device = choose_device(arguments.device)
    print(f"{'':30} {'bpp':>6} {'MS-SSIM':>8} {'enc MP/s':>9} {'dec MP/s':>9}")
    for weights in (DEFAULT_WEIGHTS, *arguments.weights):
        report(rgc_coder(weights, arguments.target, device), photos)
    for name in PILLOW_CODECS:
        report(coarsest(name, arguments.target, photos), photos)


if __name__ == "__main__":
    main()

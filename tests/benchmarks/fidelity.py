"""How little the machine shows: in another precision, and where tiles meet.

    python -m tests.benchmarks.fidelity PHOTOS [--tile 512] [--iterations 2]

For each photo: the largest difference of a pixel value and the difference in MS-SSIM between decoding in
float32 and in the encoder's own precision; and the mean error within 8 pixels of the borders of tiles, over
the mean error elsewhere, tiled and, for comparison, at the same places without tiles.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from model.codec import DEFAULT_TILE, Codec
from model.files import encode_photos
from model.ms_ssim import ms_ssim_of_pixels
from model.settings import Settings
from pipeline.evaluate.curves import read_folder


def border_ratio(decoded: NDArray[np.uint8], pixels: NDArray[np.uint8], tile: int) -> float:
    """Mean absolute error within 8 pixels of tile borders, over that elsewhere."""
    error = np.abs(decoded.astype(int) - pixels).mean(axis=2)

    def near(length: int) -> NDArray[np.bool_]:
        position = np.arange(length)
        distance = np.minimum(position % tile, tile - 1 - position % tile)
        return (distance < 8) & (position >= 8) & (position < length - 8)  # the image's edge is no border

    border = near(error.shape[0])[:, None] | near(error.shape[1])[None, :]
    return float(error[border].mean() / error[~border].mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--tile", type=int, default=512)
    parser.add_argument("--iterations", type=int, default=2)
    arguments = parser.parse_args()
    own, single = Codec.load(), Codec.load(dtype=torch.float32)
    settings = [Settings(iterations=arguments.iterations)]
    ratios = []
    for name, photo in read_folder(arguments.photos).items():
        (tiled,) = encode_photos(own, [photo], settings, tile=arguments.tile)
        (whole,) = encode_photos(own, [photo], settings, tile=max(DEFAULT_TILE, *photo.pixels.shape[:2]))
        same, other = own.decode(whole.file), single.decode(whole.file)
        difference = np.abs(same.astype(int) - other).max()
        change = ms_ssim_of_pixels(other, photo.pixels) - ms_ssim_of_pixels(same, photo.pixels)
        pair = [
            border_ratio(decoded, photo.pixels, arguments.tile)
            for decoded in (own.decode(tiled.file, arguments.tile), same)
        ]
        ratios.append(pair)
        print(
            f"{name}: {own.dtype} against float32: {difference} grey levels at most, "
            f"MS-SSIM {change:+.6f}; "
            f"errors at borders over elsewhere: {pair[0]:.4f} tiled, {pair[1]:.4f} whole"
        )
    tiled_mean, whole_mean = np.mean(ratios, axis=0)
    print(f"mean: errors at borders over elsewhere: {tiled_mean:.4f} tiled, {whole_mean:.4f} whole")


if __name__ == "__main__":
    main()

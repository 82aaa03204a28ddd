"""Pictures for README and docs: a photo as JPEG and as rgc at equal MS-SSIM; what each iteration adds.

python -m tests.benchmarks.figure PHOTO OUT_FOLDER [--target-ms-ssim 0.95]
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import numpy as np
from matplotlib import pyplot
from matplotlib.axes import Axes
from numpy.typing import NDArray

from model.codec import Codec
from model.files import encode_photo
from model.photos.reading import read_photo
from model.settings import Settings
from pipeline.evaluate.codecs import CODECS, decode_pillow
from pipeline.evaluate.metrics import quality


def smallest_jpeg(pixels: NDArray[np.uint8], target: float) -> tuple[bytes, NDArray[np.uint8]]:
    """The JPEG of the lowest quality setting that reaches a target, as good as rgc's at least."""
    for setting in range(2, 100):
        data = CODECS["jpeg"].encode(pixels, setting)
        decoded = decode_pillow(data)
        if quality(decoded, pixels) >= target:
            return data, decoded
    raise ValueError(f"JPEG does not reach MS-SSIM {target}")


def show(axes: Axes, image: NDArray[np.uint8], title: str) -> None:
    axes.imshow(image)
    axes.set_title(title, fontsize=10)
    axes.axis("off")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("photo", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--target-ms-ssim", type=float, default=0.95)
    arguments = parser.parse_args()
    photo = read_photo(arguments.photo.read_bytes())
    codec = Codec.load()
    file = encode_photo(codec, photo, Settings(target_ms_ssim=arguments.target_ms_ssim))
    coded, reached = len(file.to_bytes()), file.ms_ssim[-1]
    jpeg, jpeg_pixels = smallest_jpeg(photo.pixels, reached)

    aspect = file.height / file.width
    figure, panels = pyplot.subplots(1, 3, figsize=(15, 5 * aspect + 0.3), layout="constrained")
    show(panels[0], photo.pixels, f"original: {arguments.photo.stat().st_size / 1000:.1f} kB")
    show(panels[1], jpeg_pixels, f"JPEG: {len(jpeg) / 1000:.1f} kB, MS-SSIM {reached:.3f} or just above")
    show(panels[2], codec.decode(file), f"rgc: {coded / 1000:.1f} kB, MS-SSIM {reached:.3f}")
    figure.savefig(arguments.out / "equal-quality.webp", dpi=100)

    everything = encode_photo(codec, photo, Settings(iterations=codec.iterations))
    decoded = list(codec.decode_each(everything))
    figure, rows = pyplot.subplots(
        2, codec.iterations, figsize=(5 * codec.iterations, 10 * aspect + 0.6), layout="constrained"
    )
    for column, (image, length) in enumerate(zip(decoded, everything.prefix_bytes(), strict=True)):
        show(rows[0][column], image, f"iteration {column + 1}: {length / 1000:.1f} kB")
        residual = (photo.pixels.astype(int) - image) * 4 + 128
        show(rows[1][column], residual.clip(0, 255).astype(np.uint8), "what is left over, x4")
    figure.savefig(arguments.out / "iterations.webp", dpi=100)


if __name__ == "__main__":
    main()

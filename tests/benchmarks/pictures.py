"""Photos as people see them: the original, rgc, AVIF and JPEG at equal bytes, cut out at twice their size.

    python -m tests.benchmarks.pictures PHOTO ... --out FOLDER [--bpp 0.25] [--crop X,Y,WIDTH,HEIGHT]

Writes a PNG sheet for each photo: a row for each crop, by default one where there is most detail and one
where there is least, and a column for each codec with its bytes, MS-SSIM and SSIMULACRA2 of the whole photo.
AVIF and JPEG take the quality whose bytes come nearest to rgc's.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from model.codec import Codec
from model.files import choose_device, encode_photos
from model.photos.reading import DecodedPhoto, read_photo
from model.settings import Settings
from model.weights.loading import DEFAULT_WEIGHTS
from pipeline.evaluate.codecs import CODECS, decode_pillow
from pipeline.evaluate.metrics import Pixels, measure

SIDE = 256  # of an automatic crop, in pixels
STEP = 32  # between places where one may lie
ZOOM = 2
BESIDE = ("avif", "jpeg")
_LINE, _GAP = 22, 6  # pixels


@dataclass(frozen=True)
class Column:
    """One version of a photo, and what is written above it."""

    label: str
    pixels: Pixels


@dataclass(frozen=True)
class Crop:
    x: int
    y: int
    width: int
    height: int

    @classmethod
    def parse(cls, text: str) -> "Crop":
        """Raises ValueError where the text is not four numbers with commas between them."""
        return cls(*map(int, text.split(",")))

    def of(self, pixels: Pixels) -> Pixels:
        return pixels[self.y : self.y + self.height, self.x : self.x + self.width]


def most_and_least_detailed(pixels: Pixels) -> list[Crop]:
    """Where the mean gradient is largest and smallest."""
    grey = pixels.mean(axis=2)
    detail = np.abs(np.diff(grey, axis=0))[:, :-1] + np.abs(np.diff(grey, axis=1))[:-1]
    height, width = (min(SIDE, side) for side in pixels.shape[:2])
    crops = [
        Crop(x, y, width, height)
        for y in range(0, pixels.shape[0] - height + 1, STEP)
        for x in range(0, pixels.shape[1] - width + 1, STEP)
    ]
    by_detail = sorted(crops, key=lambda crop: float(crop.of(detail).mean()))
    return [by_detail[-1], by_detail[0]]


def nearest_quality(name: str, pixels: Pixels, size: int) -> bytes:
    """The file of a codec whose length comes nearest to `size` bytes, of all its qualities from 1 to 99."""
    low, high = 1, 99
    files: dict[int, bytes] = {}
    while low <= high:  # a file grows with its quality
        middle = (low + high) // 2
        files[middle] = CODECS[name].encode(pixels, middle)
        if len(files[middle]) < size:
            low = middle + 1
        else:
            high = middle - 1
    return min(files.values(), key=lambda data: abs(len(data) - size))


def columns(codec: Codec, photo: DecodedPhoto, settings: Settings, original_bytes: int) -> list[Column]:
    (encoded,) = encode_photos(codec, [photo], [settings])
    size = len(encoded.file.to_bytes())
    versions = [("rgc", size, codec.decode(encoded.file))]
    for name in BESIDE:
        data = nearest_quality(name, photo.pixels, size)
        versions.append((name.upper(), len(data), decode_pillow(data)))
    found = [Column(f"original, {original_bytes} bytes", photo.pixels)]
    for name, length, decoded in versions:
        measured = measure(length, decoded, photo.pixels)
        figures = f"{measured.ms_ssim:.4f}, SSIMULACRA2 {measured.ssimulacra2:.1f}"
        colours = np.repeat(decoded[:, :, None], 3, axis=2) if decoded.ndim == 2 else decoded
        found.append(Column(f"{name}, {length} bytes, {measured.bits_per_pixel:.3f} bpp, {figures}", colours))
    return found


def sheet(found: Sequence[Column], crops: Sequence[Crop]) -> Image.Image:
    """Crops below each other, versions side by side, labels on top."""
    width = max(crop.width for crop in crops) * ZOOM + _GAP
    heights = [crop.height * ZOOM + _GAP for crop in crops]
    picture = Image.new("RGB", (width * len(found), _LINE + sum(heights)), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(14)
    for number, column in enumerate(found):
        draw.text((number * width + 2, 3), column.label, "black", font)
        top = _LINE
        for crop, height in zip(crops, heights, strict=True):
            cut = Image.fromarray(np.ascontiguousarray(crop.of(column.pixels)))
            # Pixels stay squares: an interpolation would hide what there is to see.
            picture.paste(
                cut.resize((cut.width * ZOOM, cut.height * ZOOM), Image.Resampling.NEAREST),
                (number * width, top),
            )
            top += height
    return picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("photos", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    limit = parser.add_mutually_exclusive_group()
    limit.add_argument("--bpp", type=float, default=0.25, help="of rgc's file, at most")
    limit.add_argument("--target", type=float, help="of rgc's file in MS-SSIM, in place of --bpp")
    parser.add_argument("--crop", type=Crop.parse, action="append", help="may be repeated")
    parser.add_argument("--weights", type=Path, default=DEFAULT_WEIGHTS)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    settings = Settings(max_bits_per_pixel=arguments.bpp)
    if arguments.target is not None:
        settings = Settings(target_ms_ssim=arguments.target)
    codec = Codec.load(choose_device(arguments.device), weights=arguments.weights)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for path in arguments.photos:
        photo = read_photo(path.read_bytes())
        plain = DecodedPhoto(photo.pixels, photo.grey, photo.format)  # others' files hold no metadata either
        found = columns(codec, plain, settings, path.stat().st_size)
        crops = arguments.crop or most_and_least_detailed(photo.pixels)
        target = arguments.out / f"{path.stem}.png"
        sheet(found, crops).save(target)
        print(target, *(column.label for column in found), sep="\n  ", flush=True)


if __name__ == "__main__":
    main()

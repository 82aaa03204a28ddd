"""Photos as people see them: the original, rgc, AVIF and JPEG at equal bytes, cut out at twice their size.

    python -m tests.benchmarks.pictures PHOTO ... --out FOLDER [--bpp 0.25] [--crop X,Y,WIDTH,HEIGHT]
    python -m tests.benchmarks.pictures --docs

Writes a PNG sheet for each photo: a row for each crop, by default one where there is most detail and one
where there is least, and a column for each codec with its bytes, MS-SSIM and SSIMULACRA2 of the whole photo.
AVIF and JPEG take the quality whose bytes come nearest to rgc's.
With --docs it makes the README's picture: one crop of a sample photo at the default target, two by two.
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
from pipeline.cli.samples import sample_folder
from pipeline.evaluate.codecs import CODECS, decode_pillow
from pipeline.evaluate.metrics import Pixels, measure

SIDE = 256  # of an automatic crop, in pixels
STEP = 32  # between places where one may lie
ZOOM = 2
BESIDE = ("avif", "jpeg")
_LINE, _GAP = 22, 6  # pixels


DOCS = Path(__file__).parents[2] / "docs" / "pictures" / "beside.webp"
_DOCS_PHOTO = "chelsea.png"  # by Stefan van der Walt, who has given it away (CC0)


@dataclass(frozen=True)
class Column:
    """One version of a photo, and what is written above it."""

    label: str
    pixels: Pixels


@dataclass(frozen=True)
class Crop:
    """A rectangle in pixels."""

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


_DOCS_CROP = Crop(72, 80, 224, 168)  # an eye, fur and whiskers


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
        figures = f"MS-SSIM {measured.ms_ssim:.4f}, SSIMULACRA2 {measured.ssimulacra2:.1f}"
        colours = np.repeat(decoded[:, :, None], 3, axis=2) if decoded.ndim == 2 else decoded
        found.append(Column(f"{name}, {length} bytes, {measured.bits_per_pixel:.3f} bpp, {figures}", colours))
    return found


def sheet(found: Sequence[Column], crops: Sequence[Crop], across: int | None = None) -> Image.Image:
    """Crops below each other, versions side by side, `across` of them or all, labels on top."""
    across = across or len(found)
    width = max(crop.width for crop in crops) * ZOOM + _GAP
    heights = [crop.height * ZOOM + _GAP for crop in crops]
    row = _LINE + sum(heights)
    picture = Image.new("RGB", (width * across, row * -(-len(found) // across)), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(14)
    for number, column in enumerate(found):
        left, top = number % across * width, number // across * row
        draw.text((left + 2, top + 3), column.label, "black", font)
        top += _LINE
        for crop, height in zip(crops, heights, strict=True):
            cut = Image.fromarray(np.ascontiguousarray(crop.of(column.pixels)))
            # Pixels stay squares: an interpolation would hide what there is to see.
            picture.paste(
                cut.resize((cut.width * ZOOM, cut.height * ZOOM), Image.Resampling.NEAREST),
                (left, top),
            )
            top += height
    return picture


def read_plain(path: Path) -> DecodedPhoto:
    """A photo without its metadata: others' files hold none either."""
    photo = read_photo(path.read_bytes())
    return DecodedPhoto(photo.pixels, photo.grey, photo.format)


def write_docs() -> None:
    path = sample_folder() / _DOCS_PHOTO
    found = columns(Codec.load(), read_plain(path), Settings.default(), path.stat().st_size)
    sheet(found, [_DOCS_CROP], across=2).save(DOCS, quality=90, method=6)
    print(DOCS, *(column.label for column in found), sep="\n  ")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("photos", type=Path, nargs="*")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--docs", action="store_true", help="takes no other options")
    limit = parser.add_mutually_exclusive_group()
    limit.add_argument("--bpp", type=float, default=0.25, help="of rgc's file, at most")
    limit.add_argument("--target", type=float, help="of rgc's file in MS-SSIM, in place of --bpp")
    parser.add_argument("--crop", type=Crop.parse, action="append", help="may be repeated")
    parser.add_argument("--weights", type=Path, default=DEFAULT_WEIGHTS)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    if arguments.docs:
        write_docs()
        return
    if not (arguments.photos and arguments.out):
        parser.error("PHOTO and --out are needed, or --docs")
    settings = Settings(max_bits_per_pixel=arguments.bpp)
    if arguments.target is not None:
        settings = Settings(target_ms_ssim=arguments.target)
    codec = Codec.load(choose_device(arguments.device), weights=arguments.weights)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for path in arguments.photos:
        photo = read_plain(path)
        found = columns(codec, photo, settings, path.stat().st_size)
        crops = arguments.crop or most_and_least_detailed(photo.pixels)
        target = arguments.out / f"{path.stem}.png"
        sheet(found, crops).save(target)
        print(target, *(column.label for column in found), sep="\n  ", flush=True)


if __name__ == "__main__":
    main()

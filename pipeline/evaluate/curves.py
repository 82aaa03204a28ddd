"""Rate against quality over a folder of images: rgc, today's codecs, and published curves."""

import io
import math
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import bjontegaard
import matplotlib
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table

from model.codec import Codec
from model.files import encode_photo
from model.format.container import read_rgc
from model.ms_ssim import ms_ssim
from model.photos.errors import UnreadablePhotoError
from model.photos.names import NotAPhotoError, check_name
from model.photos.reading import DecodedPhoto, read_photo
from model.settings import Settings
from model.weights.loading import DEFAULT_WEIGHTS

matplotlib.use("agg")  # before pyplot: no screen is needed
from matplotlib import pyplot

QUALITIES = (0.90, 0.95, 0.97, 0.98, 0.99)  # mean MS-SSIM at which rates are compared


@dataclass(frozen=True)
class PillowCodec:
    """An image format as Pillow writes it with these options."""

    format: str
    options: dict[str, Any]

    def encode(self, pixels: NDArray[np.uint8], quality: int) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, self.format, quality=quality, **self.options)
        return buffer.getvalue()


_CODECS = {
    "jpeg": PillowCodec("JPEG", {"optimize": True, "subsampling": "4:2:0"}),
    "webp": PillowCodec("WEBP", {"method": 6}),
    "avif": PillowCodec("AVIF", {"subsampling": "4:2:0", "speed": 4}),
}
_SETTINGS = {
    "jpeg": (5, 10, 15, 20, 30, 45, 60, 75, 85, 92, 97),
    "webp": (0, 10, 25, 40, 55, 70, 80, 88, 94, 98),
    "avif": (2, 5, 10, 20, 30, 40, 50, 60, 70, 80, 88, 94, 98),
}
AGAINST = tuple(_CODECS)
_SPAWN = multiprocessing.get_context("spawn")
_LEAST_OVERLAP = 0.1  # of the range of quality that two curves span, for a BD-rate that means something


@dataclass(frozen=True)
class RatePoint:
    """Means over images: bits per pixel of whole files, MS-SSIM and PSNR (dB) of what they decode to."""

    bits_per_pixel: float
    ms_ssim: float
    psnr: float | None = None


@dataclass(frozen=True)
class Evaluation:
    """Curves by codec; rates at the `QUALITIES` and rgc's BD-rates in percent, None out of their range."""

    images: int
    curves: dict[str, list[RatePoint]]
    rates: dict[str, list[float | None]]
    bd_rates: dict[str, float | None]


def read_folder(folder: Path) -> Iterator[DecodedPhoto]:
    """The photos in a folder, all the way down, without metadata.

    Raises:
        ValueError: no photo is there, or a file that is none, naming it.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    if not paths:
        raise ValueError(f"{folder}: no photos there")
    for path in paths:
        try:
            check_name(path.name)
            photo = read_photo(path.read_bytes())
        except (NotAPhotoError, UnreadablePhotoError) as error:
            raise ValueError(f"{path}: {error}") from error
        yield DecodedPhoto(photo.pixels, photo.grey, photo.format)


def evaluate(
    photos: Sequence[DecodedPhoto],
    against: Sequence[str],
    published: dict[str, list[RatePoint]],
    device: str,
    weights: Path = DEFAULT_WEIGHTS,
) -> Evaluation:
    """Measures the curves of rgc and of the codecs `against` it, and compares them with published ones.

    rgc's files are decoded by another process, which sees nothing but their bytes.
    """
    curves = {"rgc": rgc_curve(photos, device, weights)}
    with ProcessPoolExecutor(mp_context=_SPAWN, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        curves |= {name: _pillow_curve(name, photos, pool) for name in against}
    curves |= published
    return Evaluation(
        len(photos),
        curves,
        {name: [rate_at(curve, quality) for quality in QUALITIES] for name, curve in curves.items()},
        {name: bd_rate(curve, curves["rgc"]) for name, curve in curves.items() if name != "rgc"},
    )


def rgc_curve(
    photos: Sequence[DecodedPhoto], device: str, weights: Path = DEFAULT_WEIGHTS
) -> list[RatePoint]:
    """One point for each iteration, over whole files that end there."""
    codec = Codec.load(device, weights=weights)
    with ProcessPoolExecutor(1, mp_context=_SPAWN) as decoder:
        measured = []
        for photo in photos:
            data = encode_photo(codec, photo, Settings(iterations=codec.iterations)).to_bytes()
            measured.append(decoder.submit(_measure_rgc, data, photo.pixels, device, weights).result())
    return [_mean(points) for points in zip(*measured, strict=True)]


@lru_cache(1)
def _codec(device: str, weights: Path) -> Codec:
    return Codec.load(device, weights=weights)


def _measure_rgc(data: bytes, pixels: NDArray[np.uint8], device: str, weights: Path) -> list[RatePoint]:
    file = read_rgc(data)
    decoded = _codec(device, weights).decode_each(file)
    return [_point(length, image, pixels) for length, image in zip(file.prefix_bytes(), decoded, strict=True)]


def _pillow_curve(name: str, photos: Sequence[DecodedPhoto], pool: Executor) -> list[RatePoint]:
    """One point for each of the codec's settings; photos in parallel, as most of it takes one core."""
    measured = [
        [pool.submit(_pillow_point, name, setting, photo.pixels) for photo in photos]
        for setting in _SETTINGS[name]
    ]
    return [_mean([point.result() for point in points]) for points in measured]


def _pillow_point(name: str, setting: int, pixels: NDArray[np.uint8]) -> RatePoint:
    data = _CODECS[name].encode(pixels, setting)
    return _point(len(data), decode_pillow(data), pixels)


def decode_pillow(data: bytes) -> NDArray[np.uint8]:
    """Pixels (H, W, 3) of a file that `PillowCodec` wrote."""
    with Image.open(io.BytesIO(data)) as image:
        return np.array(image.convert("RGB"))


def quality(decoded: NDArray[np.uint8], pixels: NDArray[np.uint8]) -> float:
    """MS-SSIM of two images (H, W, 3), at most 1: rounding lifts that of flat ones higher at times."""
    images = [torch.from_numpy(image).permute(2, 0, 1)[None].float() for image in (decoded, pixels)]
    return min(ms_ssim(images[0], images[1]).item(), 1.0)


def _point(length: int, decoded: NDArray[np.uint8], pixels: NDArray[np.uint8]) -> RatePoint:
    if decoded.ndim == 2:
        decoded = np.repeat(decoded[:, :, None], 3, axis=2)
    squared_error = np.square(decoded.astype(float) - pixels).mean()
    psnr = 10 * math.log10(255**2 / max(squared_error, 1e-10))
    rate = length * 8 / (pixels.shape[0] * pixels.shape[1])
    return RatePoint(rate, quality(decoded, pixels), psnr)


def _mean(points: Sequence[RatePoint]) -> RatePoint:
    def mean(value: Callable[[RatePoint], float | None]) -> float:
        return float(np.mean([value(point) for point in points]))

    return RatePoint(mean(lambda p: p.bits_per_pixel), mean(lambda p: p.ms_ssim), mean(lambda p: p.psnr))


def read_curves(paths: Sequence[Path]) -> dict[str, list[RatePoint]]:
    """Published curves by file name: lines of bits per pixel and MS-SSIM, with # before comments.

    Raises:
        ValueError: a file that is no such table of two points or more, or a name that is taken, naming it.
    """
    curves: dict[str, list[RatePoint]] = {}
    for path in paths:
        if path.stem in ("rgc", *AGAINST, *curves):
            raise ValueError(f"{path}: a curve named {path.stem} is there already; rename the file")
        try:
            rows = np.loadtxt(path, delimiter=",", comments="#", ndmin=2)
        except ValueError as error:
            raise ValueError(f"{path}: {error}; lines of bits per pixel, MS-SSIM are needed") from error
        if min(rows.shape) < 2 or not ((rows > 0).all() and (rows[:, 1] < 1).all()):
            raise ValueError(f"{path}: two lines or more of bits per pixel, MS-SSIM are needed")
        curves[path.stem] = [RatePoint(float(rate), float(quality)) for rate, quality, *_ in rows]
    return curves


def decibels(quality: float) -> float:
    """MS-SSIM on the scale on which it is plotted, -10 log10 (1 - MS-SSIM); 100 dB for equal images."""
    return -10 * math.log10(max(1 - quality, 1e-10))


def rate_at(curve: Sequence[RatePoint], quality: float) -> float | None:
    """Bits per pixel at a mean MS-SSIM: the logarithm of the rate is linear between points, in dB."""
    points = sorted(curve, key=lambda point: point.ms_ssim)
    if not points[0].ms_ssim <= quality <= points[-1].ms_ssim:
        return None
    scale = [decibels(point.ms_ssim) for point in points]
    return math.exp(np.interp(decibels(quality), scale, [math.log(p.bits_per_pixel) for p in points]))


def bd_rate(anchor: Sequence[RatePoint], test: Sequence[RatePoint]) -> float | None:
    """Percent of rate that `test` takes more (or less) than `anchor` at equal MS-SSIM.

    None where the MS-SSIM that both curves cover is under a tenth of what either does.
    """

    def ascending(curve: Sequence[RatePoint]) -> tuple[list[float], list[float]]:
        kept: list[RatePoint] = []
        for point in sorted(curve, key=lambda point: point.bits_per_pixel):
            # Published curves repeat points; an interpolation needs strictly rising ones.
            if not kept or (
                point.ms_ssim > kept[-1].ms_ssim and point.bits_per_pixel > kept[-1].bits_per_pixel
            ):
                kept.append(point)
        return [point.bits_per_pixel for point in kept], [decibels(point.ms_ssim) for point in kept]

    (anchor_rates, anchor_quality), (rates, quality) = ascending(anchor), ascending(test)
    both = min(anchor_quality[-1], quality[-1]) - max(anchor_quality[0], quality[0])
    either = max(anchor_quality[-1], quality[-1]) - min(anchor_quality[0], quality[0])
    if len(rates) < 2 or len(anchor_rates) < 2 or both < _LEAST_OVERLAP * either:
        return None
    return float(
        bjontegaard.bd_rate(
            anchor_rates, anchor_quality, rates, quality,
            method="pchip", require_matching_points=False, min_overlap=0,
        )
    )  # fmt: skip


def print_evaluation(evaluation: Evaluation, console: Console) -> None:
    columns = [f"{quality:.2f}" for quality in QUALITIES]
    table = Table(
        "bits per pixel at MS-SSIM", *columns, "rgc's BD-rate", title=f"mean of {evaluation.images} images"
    )
    for name, rates in evaluation.rates.items():
        cells = ["-" if rate is None else f"{rate:.3f}" for rate in rates]
        difference = evaluation.bd_rates.get(name)
        table.add_row(name, *cells, "-" if difference is None else f"{difference:+.1f}%")
    console.print(table)
    steps = Table("rgc's iteration", "bits per pixel", "MS-SSIM", "PSNR dB")
    for number, point in enumerate(evaluation.curves["rgc"], start=1):
        steps.add_row(str(number), f"{point.bits_per_pixel:.4f}", f"{point.ms_ssim:.4f}", f"{point.psnr:.2f}")
    console.print(steps)


def plot_evaluation(evaluation: Evaluation, path: Path) -> None:
    """Writes the curves as PNG and as SVG, under the name of `path` without its suffix."""
    figure, (similarity, signal) = pyplot.subplots(1, 2, figsize=(12, 5), layout="constrained")
    for name, curve in evaluation.curves.items():
        style: dict[str, Any] = {"linewidth": 1, "linestyle": "--"}
        if name == "rgc":
            style = {"linewidth": 2.5, "marker": "o", "color": "black"}
        elif name in AGAINST:
            style = {"linewidth": 1.5}
        rates = [point.bits_per_pixel for point in curve]
        similarity.plot(rates, [decibels(point.ms_ssim) for point in curve], label=name, **style)
        if all(point.psnr is not None for point in curve):
            signal.plot(rates, [point.psnr for point in curve], label=name, **style)
    similarity.set_ylabel("MS-SSIM, -10 log10 (1 - MS-SSIM), dB")
    signal.set_ylabel("PSNR, dB")
    for axes in (similarity, signal):
        axes.set_xlabel("bits per pixel, whole files")
        axes.set_xlim(0, 1.5)
        axes.grid(alpha=0.3)
    similarity.legend(fontsize="small")
    for suffix in (".png", ".svg"):
        figure.savefig(path.with_suffix(suffix), dpi=120)
    pyplot.close(figure)

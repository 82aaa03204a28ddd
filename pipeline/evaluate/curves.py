"""Rate against quality over a set of photos: rgc, today's codecs, and published curves."""

import math
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from model.codec import Codec
from model.files import encode_photos
from model.format.container import read_rgc
from model.photos.errors import UnreadablePhotoError
from model.photos.names import NotAPhotoError, check_name
from model.photos.reading import DecodedPhoto, read_photo
from model.settings import Settings
from model.weights.loading import DEFAULT_WEIGHTS
from pipeline.evaluate.codecs import CODECS, decode_pillow
from pipeline.evaluate.metrics import Measures, Pixels, measure

TARGETS = (0.85, 0.88, 0.92, 0.95, 0.97, 0.98, 0.985, 0.99, 0.995)  # of rgc's files, in MS-SSIM
_SPAWN = multiprocessing.get_context("spawn")
_BATCH_PIXELS = 4_000_000


@dataclass(frozen=True)
class RatePoint:
    """Means over photos at one setting of a codec; None where it was not measured.

    Attributes:
        setting: the target in MS-SSIM, or the quality; None for rgc's best file.
        bits_per_pixel, ms_ssim, psnr, ssimulacra2, butteraugli: see `Measures`.
        median_ssimulacra2: over photos.
        border_ratio: the mean error of the outermost pixels over that of all others.
        photos: what the means are of, in the order of the photos.
    """

    bits_per_pixel: float
    ms_ssim: float
    psnr: float | None = None
    ssimulacra2: float | None = None
    median_ssimulacra2: float | None = None
    butteraugli: float | None = None
    border_ratio: float | None = None
    setting: float | None = None
    photos: tuple[Measures, ...] = ()

    @classmethod
    def of(cls, setting: float | None, photos: Sequence[Measures]) -> "RatePoint":
        def mean(value: Callable[[Measures], float]) -> float:
            return float(np.mean([value(photo) for photo in photos]))

        distances = [photo.butteraugli for photo in photos if photo.butteraugli is not None]
        return cls(
            bits_per_pixel=mean(lambda photo: photo.bits_per_pixel),
            ms_ssim=mean(lambda photo: photo.ms_ssim),
            psnr=mean(lambda photo: photo.psnr),
            ssimulacra2=mean(lambda photo: photo.ssimulacra2),
            median_ssimulacra2=float(np.median([photo.ssimulacra2 for photo in photos])),
            butteraugli=float(np.mean(distances)) if distances else None,
            border_ratio=mean(lambda photo: photo.border_error)
            / max(mean(lambda photo: photo.inside_error), 1e-3),
            setting=setting,
            photos=tuple(photos),
        )


Curve = Sequence[RatePoint]


@dataclass(frozen=True)
class Axis:
    """A measure by which rates are compared.

    Attributes:
        name: of the `RatePoint`'s attribute.
        label: of tables and plots.
        marks: values at which rates are compared, rising in quality.
        scale: to the scale on which a rate's logarithm is taken to be linear, rising with quality.
    """

    name: str
    label: str
    marks: tuple[float, ...]
    scale: Callable[[float], float]

    def positions(self, curve: Curve) -> list[float] | None:
        """A curve's points on the scale; None if they were not measured so."""
        values = [getattr(point, self.name) for point in curve]
        return None if None in values else [self.scale(value) for value in values]


def decibels(quality: float) -> float:
    """MS-SSIM on the scale on which it is plotted, -10 log10 (1 - MS-SSIM); 100 dB for equal images."""
    return -10 * math.log10(max(1 - quality, 1e-10))


MS_SSIM = Axis("ms_ssim", "MS-SSIM", (0.90, 0.95, 0.97, 0.98, 0.99), decibels)
SSIMULACRA2 = Axis("ssimulacra2", "SSIMULACRA2", (50, 60, 70, 80), float)
BUTTERAUGLI = Axis("butteraugli", "Butteraugli's 3-norm", (2.0, 1.5, 1.0), lambda value: -value)
AXES = (MS_SSIM, SSIMULACRA2, BUTTERAUGLI)


def read_folder(folder: Path) -> dict[str, DecodedPhoto]:
    """The photos in a folder, all the way down, without metadata, by their path within it.

    Raises:
        ValueError: no photo is there, or a file that is none, naming it.
    """
    photos = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            check_name(path.name)
            photo = read_photo(path.read_bytes())
        except (NotAPhotoError, UnreadablePhotoError) as error:
            raise ValueError(f"{path}: {error}") from error
        photos[str(path.relative_to(folder))] = DecodedPhoto(photo.pixels, photo.grey, photo.format)
    if not photos:
        raise ValueError(f"{folder}: no photos there")
    return photos


def rgc_curve(
    photos: Sequence[DecodedPhoto], targets: Sequence[float], device: str, weights: Path = DEFAULT_WEIGHTS
) -> list[RatePoint]:
    """One point for each target, over whole files, and one for the best that the model does.

    A photo that does not reach a target counts with its best file. Files are decoded by another process,
    which sees nothing but their bytes.
    """
    codec = Codec.load(device, weights=weights)
    goals = [*(Settings(target_ms_ssim=target) for target in targets), Settings(iterations=codec.iterations)]
    with ProcessPoolExecutor(1, mp_context=_SPAWN) as decoder:
        measured = [
            [
                decoder.submit(_measure_rgc, data, photo.pixels, device, weights)
                for data in _rgc_files(codec, photo, goals)
            ]
            for photo in photos
        ]
        by_photo = [[future.result() for future in futures] for futures in measured]
    settings = [goal.target_ms_ssim for goal in goals]
    return [RatePoint.of(s, points) for s, points in zip(settings, zip(*by_photo, strict=True), strict=True)]


def _rgc_files(codec: Codec, photo: DecodedPhoto, goals: Sequence[Settings]) -> Iterator[bytes]:
    """A photo's file for each goal, in batches that are not too large."""
    together = max(_BATCH_PIXELS // photo.pixels[:, :, 0].size, 1)
    for start in range(0, len(goals), together):
        batch = goals[start : start + together]
        for encoded in encode_photos(codec, [photo] * len(batch), batch):
            yield encoded.file.to_bytes()


@lru_cache(1)
def _codec(device: str, weights: Path) -> Codec:
    return Codec.load(device, weights=weights)


def _measure_rgc(data: bytes, pixels: Pixels, device: str, weights: Path) -> Measures:
    return measure(len(data), _codec(device, weights).decode(read_rgc(data)), pixels)


def pillow_curves(names: Sequence[str], photos: Sequence[DecodedPhoto]) -> dict[str, list[RatePoint]]:
    """One point for each quality of each codec; photos in parallel, as most of it takes one core."""
    one_thread, cores = torch.set_num_threads, torch.get_num_threads()
    with ProcessPoolExecutor(cores, mp_context=_SPAWN, initializer=one_thread, initargs=(1,)) as pool:
        return {name: _pillow_curve(name, photos, pool) for name in names}


def _pillow_curve(name: str, photos: Sequence[DecodedPhoto], pool: Executor) -> list[RatePoint]:
    measured = {
        quality: [pool.submit(_measure_pillow, name, quality, photo.pixels) for photo in photos]
        for quality in CODECS[name].qualities
    }
    return [
        RatePoint.of(quality, [point.result() for point in points]) for quality, points in measured.items()
    ]


def _measure_pillow(name: str, quality: int, pixels: Pixels) -> Measures:
    data = CODECS[name].encode(pixels, quality)
    return measure(len(data), decode_pillow(data), pixels)


def read_published(paths: Sequence[Path]) -> dict[str, list[RatePoint]]:
    """Published curves by file name: lines of bits per pixel and MS-SSIM, with # before comments.

    Raises:
        ValueError: a file that is no such table of two points or more, or a name that is taken, naming it.
    """
    curves: dict[str, list[RatePoint]] = {}
    for path in paths:
        if path.stem in ("rgc", *CODECS, *curves):
            raise ValueError(f"{path}: a curve named {path.stem} is there already; rename the file")
        try:
            rows = np.loadtxt(path, delimiter=",", comments="#", ndmin=2)
        except ValueError as error:
            raise ValueError(f"{path}: {error}; lines of bits per pixel, MS-SSIM are needed") from error
        if min(rows.shape) < 2 or not ((rows > 0).all() and (rows[:, 1] < 1).all()):
            raise ValueError(f"{path}: two lines or more of bits per pixel, MS-SSIM are needed")
        curves[path.stem] = [RatePoint(float(rate), float(quality)) for rate, quality, *_ in rows]
    return curves


def rate_at(curve: Curve, axis: Axis, mark: float) -> float | None:
    """Bits per pixel at a mean quality: the logarithm of the rate is linear between points, on the scale.

    None out of the curve's range.
    """
    positions, wanted = axis.positions(curve), axis.scale(mark)
    if positions is None or not min(positions) <= wanted <= max(positions):
        return None
    rising = np.argsort(positions)
    rates = np.log([curve[i].bits_per_pixel for i in rising])
    return math.exp(np.interp(wanted, np.sort(positions), rates))

"""Rate against quality over a folder of images."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from model.codec import Codec
from model.files import encode_photo
from model.photo import DecodedPhoto, check_name, read_photo
from model.settings import Settings


@dataclass(frozen=True)
class RatePoint:
    """Means over images: bits per pixel of whole files, and MS-SSIM of what they decode to."""

    bits_per_pixel: float
    ms_ssim: float


def read_folder(folder: Path) -> Iterator[tuple[str, DecodedPhoto]]:
    """Names and content of the photos in a folder, all the way down, without metadata.

    Raises:
        NotAPhotoError, UnreadablePhotoError: naming nothing; a folder to measure on holds photos only.
    """
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        check_name(path.name)
        photo = read_photo(path.read_bytes())
        yield path.name, DecodedPhoto(photo.pixels, photo.grey, photo.format)


def rate_points(codec: Codec, photos: Sequence[DecodedPhoto]) -> list[RatePoint]:
    """One point for each iteration, over whole files that end there."""
    rates, qualities = [], []
    for photo in photos:
        file = encode_photo(codec, photo, Settings(iterations=codec.iterations))
        rates.append([length * 8 / (file.width * file.height) for length in file.prefix_bytes()])
        qualities.append(file.ms_ssim)
    means = zip(np.mean(rates, axis=0), np.mean(qualities, axis=0), strict=True)
    return [RatePoint(float(rate), float(quality)) for rate, quality in means]

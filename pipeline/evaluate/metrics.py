"""How good a decoded photo is, by several measures."""

import math
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from ssimulacra2 import compute_ssimulacra2

from model.border import border_errors
from model.ms_ssim import ms_ssim_of_pixels

_BUTTERAUGLI = "butteraugli_main"  # of Debian's libjxl-devtools

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Measures:
    """One file of one photo.

    Attributes:
        bits_per_pixel: of the whole file.
        ms_ssim: at most 1.
        psnr: in dB, at most 148.
        ssimulacra2: 100 for equal images, 90 hard to tell apart, 70 good, 50 medium; without limit below.
        butteraugli: its 3-norm, 0 for equal images; None where `butteraugli_main` is not installed.
        border_error, inside_error: mean absolute error in grey levels, of the outermost pixels and
            of all others, see `border_errors`.
    """

    bits_per_pixel: float
    ms_ssim: float
    psnr: float
    ssimulacra2: float
    butteraugli: float | None
    border_error: float
    inside_error: float


def measure(length: int, decoded: Pixels, pixels: Pixels) -> Measures:
    """All measures of a file of `length` bytes, by what it decodes to and the photo.

    Args:
        decoded: (H, W, 3), or (H, W) if grey.
        pixels: (H, W, 3).

    Raises:
        ValueError: Butteraugli's program failed.
    """
    if decoded.ndim == 2:
        decoded = np.repeat(decoded[:, :, None], 3, axis=2)
    error = np.abs(decoded.astype(float) - pixels)
    border_error, inside_error = border_errors(decoded, pixels)
    with tempfile.TemporaryDirectory() as folder:
        paths = Path(folder) / "original.ppm", Path(folder) / "decoded.ppm"
        for path, image in zip(paths, (pixels, decoded), strict=True):
            Image.fromarray(image).save(path)
        perceived, distance = float(compute_ssimulacra2(*paths)), _butteraugli(*paths)
    return Measures(
        bits_per_pixel=length * 8 / (pixels.shape[0] * pixels.shape[1]),
        ms_ssim=ms_ssim_of_pixels(decoded, pixels),
        psnr=10 * math.log10(255**2 / max(np.square(error).mean(), 1e-10)),
        ssimulacra2=perceived,
        butteraugli=distance,
        border_error=border_error,
        inside_error=inside_error,
    )


def _butteraugli(original: Path, decoded: Path) -> float | None:
    """The 3-norm, which follows the whole picture; the distance that it prints first is its worst place's.

    Raises:
        ValueError: the program failed, with what it said.
    """
    if shutil.which(_BUTTERAUGLI) is None:
        return None
    result = subprocess.run([_BUTTERAUGLI, original, decoded], capture_output=True, text=True, check=False)
    norm = result.stdout.rpartition("3-norm:")[2]
    try:
        return float(norm)
    except ValueError as error:
        raise ValueError(f"{_BUTTERAUGLI} printed no 3-norm: {result.stdout}{result.stderr}") from error

"""The error of the outermost pixels by itself: MS-SSIM's whole windows hardly see them."""

import numpy as np
from numpy.typing import NDArray

BORDER = 4  # pixels


def border_errors(decoded: NDArray[np.uint8], pixels: NDArray[np.uint8]) -> tuple[float, float]:
    """Mean absolute error in grey levels of the outermost `BORDER` pixels, and of all others.

    Args:
        decoded: (H, W, 3), or (H, W) of a grey photo.
        pixels: (H, W, 3). Of photos that are all border, the second error is the first.
    """
    error = np.abs(np.atleast_3d(decoded).astype(np.int16) - pixels)
    inner = error[BORDER:-BORDER, BORDER:-BORDER]
    if not inner.size:
        return float(error.mean()), float(error.mean())
    outside = (error.sum(dtype=np.int64) - inner.sum(dtype=np.int64)) / (error.size - inner.size)
    return float(outside), float(inner.mean())

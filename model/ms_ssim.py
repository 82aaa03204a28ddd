"""Multi-scale structural similarity (Wang, Simoncelli and Bovik, 2003).

Five scales, 11-tap Gaussian window with sigma 1.5, valid windows only, 2x2 average pooling between
scales, mean over the channels: the figure that the published rate-distortion curves use.
"""

import math
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
WINDOW = 11
SIGMA = 1.5
K1, K2 = 0.01, 0.03
# All set speed, not the result: outputs that one row of the blur's matrix product makes, the longest side
# that is one product, and the values of a band: on a CPU they stay in its cache, on a GPU they bound memory.
_BLOCK = 32
_LONGEST_WHOLE = 256
_BAND_VALUES, _GPU_BAND_VALUES = 1 << 17, 1 << 24


def scales_that_fit(height: int, width: int) -> int:
    """Number of scales at which the shorter side still holds one whole window, 1 to 5.

    An image smaller than the window itself counts as one scale: its window is cut to the image.
    """
    side, scales = min(height, width), 1
    while scales < len(SCALE_WEIGHTS) and (side := math.ceil(side / 2)) >= WINDOW:
        scales += 1
    return scales


def ms_ssim(images: Tensor, reference: Tensor, data_range: float = 255.0) -> Tensor:
    """MS-SSIM of each image in a batch against its reference.

    Args:
        images, reference: float tensors (N, C, H, W), values from 0 to `data_range`.
        data_range: the difference between the largest and the smallest value there can be.

    Returns:
        (N,): the mean over channels, 1 for equal images. Images too small for five scales use as
        many as fit, with the weights renormalised to a sum of one.

    Raises:
        ValueError: shapes that differ or are not (N, C, H, W).
    """
    if images.shape != reference.shape or images.ndim != 4:
        raise ValueError(
            f"ms_ssim takes two (N, C, H, W) tensors of one shape, "
            f"not {tuple(images.shape)} and {tuple(reference.shape)}"
        )
    weights = torch.tensor(SCALE_WEIGHTS[: scales_that_fit(*images.shape[-2:])])
    weights = weights / weights.sum()
    product = torch.ones((), device=images.device)
    for scale, weight in enumerate(weights.tolist()):
        last = scale == len(weights) - 1
        # relu: a negative correlation has no real fractional power; pytorch-msssim does the same.
        term = _mean_ssim(images, reference, data_range, with_luminance=last).relu()
        product = product * term**weight
        if not last:
            padding = (images.shape[-2] % 2, images.shape[-1] % 2)
            images = F.avg_pool2d(images, 2, padding=padding)
            reference = F.avg_pool2d(reference, 2, padding=padding)
    return product.mean(dim=1)


def ms_ssim_of_pixels(
    decoded: NDArray[np.uint8], pixels: NDArray[np.uint8], device: torch.device | str = "cpu"
) -> float:
    """MS-SSIM of two images of one size, (H, W, 3) each, or (H, W) of a grey one; at most 1.

    Rounding lifts that of flat images a little higher at times.
    """
    images, reference = (_planes(image, device) for image in (decoded, pixels))
    channels = max(images.shape[1], reference.shape[1])
    both = [planes.expand(-1, channels, -1, -1) for planes in (images, reference)]
    return min(ms_ssim(both[0], both[1]).item(), 1.0)


def _planes(pixels: NDArray[np.uint8], device: torch.device | str) -> Tensor:
    planes = np.ascontiguousarray(np.atleast_3d(pixels).transpose(2, 0, 1))
    return torch.from_numpy(planes).to(device).float()[None]


def _mean_ssim(x: Tensor, y: Tensor, data_range: float, with_luminance: bool) -> Tensor:
    """Mean (N, C) of SSIM or of its contrast-structure term alone, in bands of planes and rows."""
    taps, columns = min(WINDOW, x.shape[2]), max(x.shape[3] - WINDOW, 0) + 1
    outputs = x.shape[2] - taps + 1
    values = _GPU_BAND_VALUES if x.is_cuda else _BAND_VALUES
    planes = max(values // x.shape[3] // _BLOCK, 1)
    sums = []
    for some_x, some_y in zip(*(torch.split(z.flatten(0, 1), planes) for z in (x, y)), strict=True):
        rows = max(values // some_x[:, 0].numel() // _BLOCK, 1) * _BLOCK
        bands = [slice(top, min(top + rows, outputs) + taps - 1) for top in range(0, outputs, rows)]
        maps = (_ssim(some_x[:, band], some_y[:, band], data_range, with_luminance) for band in bands)
        sums.append(torch.stack([similarity.sum(dim=(1, 2)) for similarity in maps]).sum(dim=0))
    return torch.cat(sums).view(x.shape[:2]) / columns / outputs


def _ssim(x: Tensor, y: Tensor, data_range: float, with_luminance: bool) -> Tensor:
    """The map of SSIM, or of its contrast-structure term alone, where whole windows fit; of (P, H, W)."""
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    # Of the variances only their sum is needed, so four planes are blurred, together.
    planes = torch.stack([x, y, x * y, torch.addcmul(x * x, y, y)])
    mean_x, mean_y, mean_product, mean_squares = _blur(planes).unbind()
    product, squares = mean_x * mean_y, torch.addcmul(mean_x * mean_x, mean_y, mean_y)
    covariance, variances = mean_product - product, mean_squares - squares
    contrast = (2 * covariance + c2) / (variances + c2)
    if with_luminance:
        contrast = (2 * product + c1) / (squares + c1) * contrast
    return contrast


def gaussian(taps: int) -> Tensor:
    """(taps,) in float64, their sum 1."""
    offsets = torch.arange(taps, dtype=torch.float64) - (taps - 1) / 2
    window = torch.exp(-(offsets**2) / (2 * SIGMA**2))
    return window / window.sum()


def _blur(x: Tensor) -> Tensor:
    """Gaussian-blurs both axes, valid windows only, as matrix products.

    A depthwise convolution spends its time on memory. A side of a crop is one product with a banded
    matrix of its whole length; longer sides are cut into blocks, since most of such a band is zero. So are
    all on a GPU, which would wait longer for the bands of many lengths to be made.
    """
    if x.is_cuda or max(x.shape[-2:]) > _LONGEST_WHOLE:
        return _blur_columns(_blur_rows(x))
    rows, columns = (_band(min(WINDOW, n), n - min(WINDOW, n) + 1, x.dtype, x.device) for n in x.shape[-2:])
    return rows.T @ (x @ columns)


def _blur_rows(x: Tensor) -> Tensor:
    """Blurs along the last axis. Each row, cut into overlapping blocks, gives `_BLOCK` outputs at once:

    x[b*B : b*B + B + taps - 1]  @  band (B + taps - 1, B)  =  y[b*B : b*B + B]
    """
    blocks, band, outputs = _blocks(x, 3)
    return (blocks.reshape(-1, len(band)) @ band).view(*x.shape[:-1], -1)[..., :outputs]


def _blur_columns(x: Tensor) -> Tensor:
    """The same along the axis before it, where blocks of whole rows need no copy."""
    blocks, band, outputs = _blocks(x, 2)
    products = band.T @ blocks.transpose(3, 4)
    return products.view(*x.shape[:2], -1, x.shape[3])[:, :, :outputs]


def _blocks(x: Tensor, axis: int) -> tuple[Tensor, Tensor, int]:
    """A view of an axis as overlapping blocks, their length last; their band; how many outputs there are."""
    taps = min(WINDOW, x.shape[axis])
    outputs = x.shape[axis] - taps + 1
    block = min(_BLOCK, outputs)
    if missing := -outputs % block:
        x = F.pad(x, (0, missing) if axis == 3 else (0, 0, 0, missing))
    return x.unfold(axis, block + taps - 1, block), _band(taps, block, x.dtype, x.device), outputs


@lru_cache(32)
@torch.inference_mode(False)  # else the first one made while encoding could not be used in training
def _band(taps: int, block: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The window in each of `block` columns, one row further down in each."""
    band = torch.zeros(block + taps - 1, block, dtype=torch.float64)
    columns = torch.arange(block)[:, None]
    band[columns + torch.arange(taps), columns] = gaussian(taps)
    return band.to(device, dtype)

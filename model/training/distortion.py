"""What training takes for distortion: measures of each photo that see every pixel up to its border."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from model.ms_ssim import K1, K2, SCALE_WEIGHTS, WINDOW, gaussian

_constants: dict[tuple[str, torch.device], Tensor] = {}
_SMALLEST_SIDE = 8  # of a scale of SSIMULACRA2

# SSIMULACRA2 (Sneyers 2022), as in libjxl and in the package `ssimulacra2`.
_OPSIN = (
    (0.30, 0.622, 0.078),
    (0.23, 0.692, 0.078),
    (0.24342268924547819, 0.20476744424496821, 0.5518098665),
)
_OPSIN_BIAS = 0.0037930732552754493
_C2 = 0.0009
_SSIMULACRA2_SCALE = 0.9562382616834844
# By channel (X, Y, B), scale, norm (mean, L4) and feature (SSIM, artifacts, lost detail). Those below 0.05
# are left out.
_SSIMULACRA2_WEIGHTS = {
    (0, 1, 1, 0): 1.10417,
    (0, 2, 1, 0): 1.84225,
    (0, 2, 1, 1): 11.4412,
    (0, 3, 1, 0): 1.87876,
    (0, 3, 1, 1): 10.9491,
    (0, 4, 0, 1): 0.967794,
    (0, 4, 1, 1): 0.998177,
    (1, 0, 1, 0): 7.46689,
    (1, 0, 1, 2): 17.4458,
    (1, 1, 1, 0): 6.68368,
    (1, 1, 1, 2): 1.02789,
    (1, 2, 0, 0): 225.205,
    (1, 2, 1, 0): 19.2132,
    (1, 3, 0, 0): 176.393,
    (1, 3, 1, 0): 24.433,
    (1, 3, 1, 1): 0.285208,
    (1, 4, 1, 0): 34.7791,
    (1, 4, 1, 1): 44.8356,
    (2, 3, 1, 0): 8.82698,
    (2, 3, 1, 1): 23.1924,
    (2, 4, 0, 0): 95.108,
    (2, 4, 0, 1): 0.986398,
    (2, 4, 0, 2): 0.983438,
    (2, 4, 1, 1): 171.267,
    (2, 4, 1, 2): 0.980786,
}
_CHANNELS_OF_SCALES = tuple(
    slice(min(channels), max(channels) + 1)
    for channels in ({c for c, s, _, _ in _SSIMULACRA2_WEIGHTS if s == scale} for scale in range(5))
)


def ms_ssim_to_the_border(images: Tensor, reference: Tensor) -> Tensor:
    """MS-SSIM (N,) of images (N, 3, H, W) in 0 to 1, with windows that reflect what lies inside the border.

    The published measure has whole windows only, so that the outermost pixels hardly count.
    """
    product = torch.ones((), device=images.device)
    for scale, weight in enumerate(SCALE_WEIGHTS):
        luminance, contrast = _ssim_terms(images, reference)
        last = scale == len(SCALE_WEIGHTS) - 1
        term = (luminance * contrast if last else contrast).mean(dim=(2, 3))
        product = product * term.clamp(min=1e-4) ** weight
        if not last:
            images, reference = F.avg_pool2d(images, 2), F.avg_pool2d(reference, 2)
    return product.mean(dim=1)


def ssimulacra2_distance(images: Tensor, reference: Tensor) -> Tensor:
    """SSIMULACRA2's weighted sum (N,) of its features: 0 for equal images, 2.6 about a score of 70.

    Args:
        images, reference: sRGB (N, 3, H, W) in 0 to 1.
    """
    linear, linear_reference = _linear(images), _linear(reference)
    weights = _constant("SSIMULACRA2", _ssimulacra2_weights, images.device)
    total = images.new_zeros(images.shape[0])
    for scale, channels in enumerate(_CHANNELS_OF_SCALES):
        if min(linear.shape[-2:]) < _SMALLEST_SIDE:
            break
        if scale:
            linear, linear_reference = F.avg_pool2d(linear, 2), F.avg_pool2d(linear_reference, 2)
        features = _ssimulacra2_features(_xyb(linear)[:, channels], _xyb(linear_reference)[:, channels])
        total = total + (features * weights[channels, scale]).sum(dim=(1, 2, 3))
    return total * _SSIMULACRA2_SCALE


def _ssimulacra2_features(x: Tensor, y: Tensor) -> Tensor:
    """(N, C, 2, 3): by channel, norm and feature, of images against their originals in XYB."""
    mean_x, mean_y = blur(x), blur(y)
    covariance = blur(x * y) - mean_x * mean_y
    variances = blur(x * x + y * y) - mean_x * mean_x - mean_y * mean_y
    similarity = (1 - (mean_x - mean_y) ** 2) * (2 * covariance + _C2) / (variances + _C2)
    ssim = (1 - similarity).relu()
    edges = (1 + (x - mean_x).abs()) / (1 + (y - mean_y).abs()) - 1
    means, norms = [], []
    for feature in (ssim, edges.relu(), (-edges).relu()):
        squares = feature * feature
        means.append(feature.mean(dim=(2, 3)))
        norms.append(((squares * squares).mean(dim=(2, 3)) + 1e-16) ** 0.25)
    return torch.stack([torch.stack(means, dim=2), torch.stack(norms, dim=2)], dim=2)


def _linear(srgb: Tensor) -> Tensor:
    srgb = srgb.clamp(0, 1)
    power = ((srgb.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4
    return torch.where(srgb <= 0.04045, srgb / 12.92, power)


def _xyb(linear: Tensor) -> Tensor:
    """Linear RGB to X, Y, B in SSIMULACRA2's positive ranges."""
    opsin = _constant("opsin", lambda: torch.tensor(_OPSIN), linear.device)
    mixed = torch.einsum("ij,njhw->nihw", opsin, linear) + _OPSIN_BIAS
    first, second, third = (mixed.clamp(min=1e-5) ** (1 / 3) - _OPSIN_BIAS ** (1 / 3)).unbind(dim=1)
    x, y = 0.5 * (first - second), 0.5 * (first + second)
    return torch.stack([x * 14 + 0.42, y + 0.01, third - y + 0.55], dim=1)


def _ssim_terms(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Maps of SSIM's luminance and contrast-structure terms, values from 0 to 1."""
    mean_x, mean_y = blur(x), blur(y)
    product, squares = mean_x * mean_y, mean_x * mean_x + mean_y * mean_y
    covariance = blur(x * y) - product
    variances = blur(x * x + y * y) - squares
    c1, c2 = K1**2, K2**2
    return (2 * product + c1) / (squares + c1), (2 * covariance + c2) / (variances + c2)


def blur(x: Tensor) -> Tensor:
    """Gaussian blur of sigma 1.5, 11 taps, reflecting at the border, as two matrix products."""
    height, width = x.shape[-2:]
    rows = _constant(f"blur {height}", lambda: _blur_matrix(height), x.device)
    columns = _constant(f"blur {width}", lambda: _blur_matrix(width), x.device)
    return rows @ (x @ columns.T)


def _constant(name: str, make: Callable[[], Tensor], device: torch.device) -> Tensor:
    """Made on the first call: a CUDA graph cannot copy from the CPU, and a compiler need not trace `make`."""
    key = name, device
    if key not in _constants:
        _constants[key] = make().to(device)
    return _constants[key]


def _blur_matrix(length: int) -> Tensor:
    """(length, length): each row holds the window around its position, reflected into the image."""
    reflected = np.pad(np.eye(length), ((0, 0), (WINDOW // 2,) * 2), mode="symmetric")
    return (torch.from_numpy(reflected).unfold(1, WINDOW, 1) @ gaussian(WINDOW)).T.float().contiguous()


def _ssimulacra2_weights() -> Tensor:
    """(3, 6, 2, 3)"""
    weights = torch.zeros(3, 6, 2, 3)
    for place, weight in _SSIMULACRA2_WEIGHTS.items():
        weights[place] = weight
    return weights

"""Photos to the tensors that the networks take, and reconstructions to photos."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from model.devices import to_device, to_host
from model.format.limits import MARGIN, padded_size
from model.ms_ssim import ms_ssim


def to_padded_tensor(pixels: NDArray[np.uint8], device: torch.device) -> Tensor:
    """(1, 3, H, W) in 0 to 1, the outermost pixels repeated up to the padded size."""
    height, width = pixels.shape[:2]
    padded_height, padded_width = padded_size(height, width)
    there = to_device(torch.from_numpy(np.require(pixels, requirements=["C", "W"])), device)
    image = there.permute(2, 0, 1)[None].to(torch.float32, memory_format=torch.contiguous_format) / 255
    right, bottom = padded_width - width - MARGIN, padded_height - height - MARGIN
    return F.pad(image, (MARGIN, right, MARGIN, bottom), mode="replicate")


def inside(padded: Tensor, height: int, width: int) -> Tensor:
    """The photo's own pixels of a padded image (C, H, W)."""
    return padded[:, MARGIN : MARGIN + height, MARGIN : MARGIN + width]


def to_8_bits(reconstruction: Tensor, height: int, width: int, grey: bool) -> Tensor:
    """What a reconstruction (3, H, W) decodes to, 0 to 255: (3, height, width), or (1, ...) if grey."""
    image = inside(reconstruction, height, width)
    if grey:
        image = image.mean(dim=0, keepdim=True)
    return (image * 255).round_().clamp_(0, 255)


def to_pixels(reconstruction: Tensor, height: int, width: int, grey: bool) -> NDArray[np.uint8]:
    """(height, width, 3) pixels of a reconstruction (3, H, W), or (height, width) if grey."""
    planes = to_8_bits(reconstruction, height, width, grey).to(torch.uint8)
    pixels = planes[0] if grey else planes.permute(1, 2, 0)
    return to_host(pixels.contiguous()).numpy()


def quality(reconstruction: Tensor, image: Tensor, height: int, width: int, grey: bool) -> Tensor:
    """MS-SSIM (1,) of what a reconstruction (3, H, W) decodes to, against its padded image (3, H, W)."""
    decoded = to_8_bits(reconstruction, height, width, grey)
    original = inside(image, height, width) * 255
    return ms_ssim(decoded.expand_as(original)[None], original[None])

"""The image formats that rgc is compared with, as Pillow writes them."""

import io
from dataclasses import dataclass
from importlib import import_module, util
from typing import Any

import numpy as np
from PIL import Image

from pipeline.evaluate.metrics import Pixels


@dataclass(frozen=True)
class PillowCodec:
    """An image format as Pillow writes it with these options.

    Attributes:
        qualities: at which its curve is measured.
    """

    format: str
    options: dict[str, Any]
    qualities: tuple[int, ...]

    def encode(self, pixels: Pixels, quality: int) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, self.format, quality=quality, **self.options)
        return buffer.getvalue()


def decode_pillow(data: bytes) -> Pixels:
    """Pixels (H, W, 3) of a file that `PillowCodec` wrote."""
    with Image.open(io.BytesIO(data)) as image:
        return np.array(image.convert("RGB"))


CODECS = {
    "jpeg": PillowCodec(
        "JPEG", {"optimize": True, "subsampling": "4:2:0"}, (5, 10, 15, 22, 35, 50, 68, 82, 91, 96)
    ),
    "webp": PillowCodec("WEBP", {"method": 6}, (0, 12, 30, 50, 68, 80, 89, 94, 98)),
    "avif": PillowCodec(
        "AVIF", {"subsampling": "4:2:0", "speed": 4}, (2, 10, 20, 32, 44, 56, 67, 77, 86, 93)
    ),
}
if util.find_spec("pillow_jxl"):
    import_module("pillow_jxl")  # registers JPEG XL with Pillow
    CODECS["jxl"] = PillowCodec("JXL", {"effort": 7}, (5, 20, 35, 50, 63, 74, 83, 90, 95))

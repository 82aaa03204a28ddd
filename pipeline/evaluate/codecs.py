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
    qualities: tuple[int, ...] = ()

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
        "JPEG", {"optimize": True, "subsampling": "4:2:0"}, (5, 10, 15, 20, 30, 45, 60, 75, 85, 92, 97)
    ),
    "webp": PillowCodec("WEBP", {"method": 6}, (0, 10, 25, 40, 55, 70, 80, 88, 94, 98)),
    "avif": PillowCodec(
        "AVIF", {"subsampling": "4:2:0", "speed": 4}, (2, 5, 10, 20, 30, 40, 50, 60, 70, 80, 88, 94, 98)
    ),
}
if util.find_spec("pillow_jxl"):
    import_module("pillow_jxl")  # registers JPEG XL with Pillow
    CODECS["jxl"] = PillowCodec("JXL", {"effort": 7}, (10, 20, 30, 40, 50, 60, 70, 78, 85, 91, 95, 97))

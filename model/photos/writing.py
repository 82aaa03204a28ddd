"""Writing images in the formats that people have programs for."""

import io
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

_SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    "png": {},
    "jpeg": {"quality": 95, "subsampling": 0},
    "webp": {"quality": 95, "method": 4},
}


def image_bytes(image: Image.Image, image_format: str) -> bytes:
    """The image as a file of this format, with its metadata.

    JPEG has no alpha channel: the image is shown on white there.
    """
    if image_format == "jpeg" and image.mode in ("LA", "RGBA"):
        info, alpha = image.info, image.getchannel("A")
        opaque = image.convert(image.mode.removesuffix("A"))
        image = Image.composite(opaque, Image.new(opaque.mode, image.size, "white"), alpha)
        image.info = info
    metadata: dict[str, Any] = {
        key: image.info[key] for key in ("exif", "icc_profile", "xmp") if key in image.info
    }
    if image_format == "png" and "xmp" in metadata:
        metadata["pnginfo"] = _png_xmp(metadata.pop("xmp"))
    buffer = io.BytesIO()
    image.save(buffer, image_format.upper(), **metadata, **_SAVE_OPTIONS[image_format])
    return buffer.getvalue()


def _png_xmp(xmp: bytes) -> PngInfo:
    info = PngInfo()
    info.add_itxt("XML:com.adobe.xmp", xmp.decode(errors="replace"))
    return info

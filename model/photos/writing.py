"""Restored pixels as files of the formats that people have programs for, with their metadata."""

import io
from typing import Any

import numpy as np
import pillow_heif
from PIL import Image

from model.format.metadata import Block, MetadataBlocks
from model.photos.metadata import containers, heif, jpeg, png, tiff, webp
from model.photos.metadata.common import View

pillow_heif.register_heif_opener()

# These two take long: as long as decoding, and not ten times that, for files a tenth larger.
_OPTIONS: dict[str, dict[str, Any]] = {
    "PNG": {},
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"quality": 95, "method": 4},
    "HEIF": {"quality": 95, "chroma": 444, "enc_params": {"preset": "ultrafast"}},
    "AVIF": {"quality": 95, "subsampling": "4:4:4", "speed": 8},
}


def image_file(
    image: Image.Image, container: str, metadata: MetadataBlocks | None, seen: View
) -> tuple[bytes, list[str]]:
    """The bytes of an image file, and what its container could not hold, in words.

    JPEG has no alpha channel: the image is shown on white there.

    Args:
        image: L, LA, RGB or RGBA.
        container: one of `containers.FORMATS`.
        metadata: as it was carried; None where there is no more than `seen`.
        seen: the same for any container.

    Raises:
        OSError, ValueError: the container has no room for so large an image.
    """
    is_own = metadata is not None and metadata.format == container
    if image.mode in ("L", "LA") and not is_own and seen.icc_profile[16:20] == b"RGB ":
        image = image.convert("RGB" if image.mode == "L" else "RGBA")
    if metadata is None:
        metadata = MetadataBlocks("")
    blocks, could_not = containers.blocks_for(container, metadata, seen)
    if container == "JPEG" and image.mode in ("LA", "RGBA"):
        image = _on_white(image)
        could_not.append("its alpha channel")
    image = image.copy()
    image.info = {}
    if container == "JPEG":
        return jpeg.apply(blocks, _saved(image, "JPEG")), could_not
    if container == "PNG":
        return png.apply(blocks, _saved(image, "PNG")), could_not
    if container == "WEBP":
        return webp.apply(blocks, _saved(image, "WEBP"), *image.size), could_not
    if container == "AVIF":
        data, not_written = _avif(image, blocks)
        return data, [*could_not, *not_written]
    return (_tiff if container == "TIFF" else _heif)(image, blocks), could_not


def _on_white(image: Image.Image) -> Image.Image:
    opaque = image.convert(image.mode.removesuffix("A"))
    return Image.composite(opaque, Image.new(opaque.mode, image.size, "white"), image.getchannel("A"))


def _saved(image: Image.Image, container: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, container, **_OPTIONS[container], **options)
    return buffer.getvalue()


def _tiff(image: Image.Image, blocks: list[Block]) -> bytes:
    pixels = np.array(image)
    pixels = pixels[:, :, None] if pixels.ndim == 2 else pixels
    has_alpha = image.mode in ("LA", "RGBA")
    return tiff.write(blocks, pixels, image.mode in ("L", "LA"), 2 if has_alpha else None)


def _heif(image: Image.Image, blocks: list[Block]) -> bytes:
    if image.mode == "LA":
        image = image.convert("RGBA")
    options = heif.heif_options(blocks)
    file = pillow_heif.from_pillow(image)
    buffer = io.BytesIO()
    file.save(buffer, **_OPTIONS["HEIF"], **options)
    return buffer.getvalue()


def _avif(image: Image.Image, blocks: list[Block]) -> tuple[bytes, list[str]]:
    options, replacements, not_written = heif.avif_options(blocks)
    data = _saved(image, "AVIF", **options)
    for stand_in, content in replacements:
        data = data.replace(stand_in, content, 1)
    return heif.with_nclx(blocks, data), not_written

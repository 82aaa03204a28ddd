"""A loaded Pillow image as 8-bit pixels: what each mode and depth comes to, and its alpha channel."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from model.photos.errors import UnreadablePhotoError

Plane = NDArray[np.uint8]
_TIFF_BITS, _TIFF_PHOTOMETRIC, _TIFF_FORMAT = 258, 262, 339
_LEAST, _MOST = (340, 280), (341, 281)  # tags of a TIFF that say the range of its samples
_WHITE_IS_ZERO, _UNSIGNED = 0, 1


@dataclass
class Pixels:
    """What an image's pixels come to.

    Attributes:
        colour: (H, W, 3), or (H, W) where the source has one channel.
        alpha: (H, W), or None if all is opaque.
        is_converted: colours were converted to sRGB; the file's profile is not theirs any more.
        lost: in words, what the pixels were more than these.
    """

    colour: Plane
    alpha: Plane | None = None
    is_converted: bool = False
    lost: list[str] = field(default_factory=list)


def eight_bits(
    image: Image.Image, stored_bits: int, low_bytes: Plane | None = None, extra: Sequence[int] = ()
) -> Pixels:
    """What the image comes to.

    Args:
        stored_bits: of its samples in the file.
        low_bytes: of a PNG of 16 bits in colour, see `_png_low_bytes` in reading.py.
        extra: what a TIFF says of its samples beside the colours: 0 where that is nothing.

    Raises:
        UnreadablePhotoError: samples whose range nobody knows.
    """
    pixels = _of_mode(image, stored_bits, low_bytes)
    if stored_bits > 8 and image.mode != "F":
        pixels.lost.append(f"{stored_bits} bits reduced to 8")
    has_alpha = image.getbands()[-1] == "A"
    if len(extra) > has_alpha:
        pixels.lost.append(f"samples beside the colours: {len(extra) - has_alpha}")
    if has_alpha and pixels.alpha is not None and extra[:1] == (0,):
        if pixels.alpha.any():
            pixels.lost.append("an extra sample that is not said to be anything, taken for alpha")
        else:
            pixels.alpha = None  # padding
    return pixels


def _of_mode(image: Image.Image, stored_bits: int, low_bytes: Plane | None) -> Pixels:
    mode = image.mode
    if mode == "CMYK":
        return _of_cmyk(image)
    if mode == "LAB":
        return Pixels(np.array(image.convert("RGB")), None, True, ["CIELab converted to sRGB"])
    if mode.startswith("I") or mode == "F":
        return _of_deep_grey(image)
    if mode in ("1", "L"):
        grey = np.array(image.convert("L"))
        # Pillow has scaled the transparent value of one bit, too.
        return Pixels(grey, _keyed(grey, image.info.get("transparency"), 8 if mode == "1" else stored_bits))
    return _of_colour(image, low_bytes)


def _of_colour(image: Image.Image, low_bytes: Plane | None) -> Pixels:
    """Or of grey with an alpha channel."""
    if image.mode == "RGB":
        colour = np.array(image)
        key = image.info.get("transparency")
        if low_bytes is None or not isinstance(key, tuple):
            return Pixels(colour, _keyed(colour, key, 8))
        deep = colour.astype(np.uint16) << 8 | low_bytes
        return Pixels(colour, _opaque_or((deep != np.array(key)).any(axis=2)))
    if not image.has_transparency_data:
        return Pixels(np.array(image.convert("RGB")))
    whole = np.array(image.convert("RGBA"))
    colour, alpha = whole[:, :, :3], whole[:, :, 3]
    colour = colour[:, :, 0] if image.mode in ("LA", "La") else colour
    return Pixels(np.ascontiguousarray(colour), None if (alpha == 255).all() else alpha.copy())


def _keyed(values: Plane, key: object, bits: int) -> Plane | None:
    """Alpha of an image in which one value, in the file's own bits, is transparent."""
    if not isinstance(key, (int, tuple)):
        return None
    wanted = np.array(key) * 255 // ((1 << bits) - 1)
    differs = values != wanted
    return _opaque_or(differs.any(axis=2) if values.ndim == 3 else differs)


def _opaque_or(opaque: NDArray[np.bool_]) -> Plane | None:
    return None if opaque.all() else opaque.astype(np.uint8) * 255


def _of_cmyk(image: Image.Image) -> Pixels:
    lost = ["CMYK converted to sRGB"]
    if profile := image.info.get("icc_profile"):
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            srgb = ImageCms.createProfile("sRGB")
            converted = ImageCms.profileToProfile(image, source, srgb, outputMode="RGB")
            if converted is not None:
                return Pixels(np.array(converted), None, True, lost)
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            lost.append("its ICC profile, which cannot be read")
    return Pixels(np.array(image.convert("RGB")), None, True, lost)


def _of_deep_grey(image: Image.Image) -> Pixels:
    """Grey of more than 8 bits, which Pillow's own conversion clips instead of scaling."""
    values = np.asarray(image)
    lost = []
    tags = getattr(image, "tag_v2", {}) if image.format == "TIFF" else {}
    bits = int(max(tags.get(_TIFF_BITS, (16,))))
    if image.mode == "F":
        lost.append("floating point reduced to 8 bits")
        least, most = _range(tags, 0.0, 1.0)
        if not np.isfinite(values).all():
            raise UnreadablePhotoError("floating-point samples that are no numbers")
    elif tags:
        signed = int(max(tags.get(_TIFF_FORMAT, (_UNSIGNED,)))) != _UNSIGNED
        if signed and bits > 8 and tags.get(_LEAST[0]) is None:
            raise UnreadablePhotoError(
                f"signed samples of {bits} bits, of a range that the file does not say"
            )
        if bits == 32 and not signed:
            values = values.astype(np.int32).view(np.uint32)
        least, most = _range(tags, 0.0, float((1 << bits) - 1))
    else:
        least, most = 0.0, 65535.0
    key = image.info.get("transparency")
    alpha = _opaque_or(values != key) if isinstance(key, int) else None
    scaled = (values.astype(np.float64) - least) * (255 / (most - least))
    if image.mode == "F" or (tags and bits == 32):
        _check_range(scaled, values, least, most)
    if tags.get(_TIFF_PHOTOMETRIC) == _WHITE_IS_ZERO:
        scaled = 255 - scaled
    return Pixels(scaled.round().clip(0, 255).astype(np.uint8), alpha, False, lost)


def _range(tags: object, least: float, most: float) -> tuple[float, float]:
    """What the file says of its samples' range, else what its type has."""
    found = []
    for numbers, default in ((_LEAST, least), (_MOST, most)):
        said = [tags.get(number) for number in numbers]  # type: ignore[attr-defined]
        value = next((each for each in said if each is not None), default)
        found.append(float(value[0] if isinstance(value, tuple) else value))
    if not found[0] < found[1]:
        raise UnreadablePhotoError(f"samples from {found[0]:g} to {found[1]:g}, as the file says")
    return found[0], found[1]


def _check_range(scaled: NDArray[np.float64], values: NDArray[np.generic], least: float, most: float) -> None:
    """A picture must not turn black or white because its file is silent on its range."""
    lowest, highest = scaled.min(), scaled.max()
    if lowest == highest:
        return
    if lowest < -0.5 or highest > 255.5 or highest - lowest < 1:
        said = f"samples from {values.min()} to {values.max()}, where {least:g} is black and {most:g} white"
        raise UnreadablePhotoError(f"{said}: no picture in 8 bits")


def oriented(plane: Plane, orientation: int) -> Plane:
    """(H, W, ...) turned as an EXIF orientation asks for."""
    if orientation in (5, 6, 7, 8):
        plane = plane.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        plane = plane[::-1]
    if orientation in (2, 3, 6, 7):
        plane = plane[:, ::-1]
    return np.ascontiguousarray(plane)

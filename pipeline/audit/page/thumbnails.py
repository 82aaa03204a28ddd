"""Photos beside what their .rgc files decode to: thumbnails, as data URIs."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageChops

from model.codec import Codec
from model.files import decode_pixels
from model.format.container import RgcFile, read_rgc
from model.photos.isolation.pool import read_photo_in_child
from pipeline.audit.page.content import WorstPhoto
from transforms.storage.files import find_status, read_bytes

AMPLIFIED = 4  # the difference to the original is shown so many times as large
MAX_PIXELS = 30_000_000  # of a photo; a larger one takes gigabytes to decode
_DECODED_PIXELS = 8_000_000  # pixels times iterations; a thumbnail does not show what further ones add
_SIDE = 480  # pixels, twice what the page shows


class _NotShownError(ValueError):
    """Why a thumbnail is missing, in words for the page."""


@dataclass(frozen=True)
class Comparison:
    """A photo as original, decoded, and the difference between them, `AMPLIFIED` times.

    Attributes:
        iterations: how many were decoded.
        notes: why an image is None.
    """

    photo: WorstPhoto
    iterations: int
    original: str | None
    decoded: str | None
    residual: str | None
    notes: list[str]


def compare_photos(photos: Sequence[WorstPhoto], device: str) -> list[Comparison]:
    if not photos:
        return []
    codec = Codec.load(device)
    return [_compare(codec, photo) for photo in photos]


def _compare(codec: Codec, photo: WorstPhoto) -> Comparison:
    notes: list[str] = []
    original = decoded = residual = None
    iterations = 0
    try:
        original = _read_original(photo)
    except _NotShownError as error:
        notes.append(str(error))
    except (OSError, ValueError) as error:
        notes.append(f"The original cannot be read: {_without_uri(error, photo.source_uri)}")
    try:
        file = _read_first_iterations(photo)
        decoded = Image.fromarray(decode_pixels(codec, file)).convert("RGB")
        iterations = len(file.codes)
    except FileNotFoundError:
        notes.append("Its .rgc file is not there.")
    except Exception as error:  # one photo must not cost the page
        notes.append(f"Its .rgc file cannot be shown: {_without_uri(error, photo.rgc_uri)}")
    if original is not None and decoded is not None:
        residual = _data_uri(ImageChops.difference(original, decoded), AMPLIFIED)
    return Comparison(photo, iterations, _data_uri(original), _data_uri(decoded), residual, notes)


def _read_original(photo: WorstPhoto) -> Image.Image:
    status = find_status(photo.source_uri)
    if status is None:
        raise _NotShownError("The original is no longer there.")
    if photo.source_fingerprint not in (None, status.fingerprint):
        raise _NotShownError("The original was changed after it was encoded.")
    return Image.fromarray(read_photo_in_child(read_bytes(photo.source_uri)).pixels)


def _read_first_iterations(photo: WorstPhoto) -> RgcFile:
    """As many of a photo's iterations as a thumbnail shows.

    Raises:
        OSError, RgcError: it is not there, or damaged.
        _NotShownError: it is too large, or another photo's.
    """
    uri = photo.rgc_uri
    if (pixels := photo.width * photo.height) > MAX_PIXELS:
        raise _NotShownError(f"{pixels / 1e6:.0f} megapixels are too large for a preview.")
    file = read_rgc(read_bytes(uri), uri).first_iterations(max(_DECODED_PIXELS // pixels, 1))
    if (file.width, file.height) != (photo.width, photo.height):
        raise _NotShownError(f"It holds {file.width} × {file.height} pixels.")
    return file


def _without_uri(error: Exception, uri: str) -> str:
    """The page shows the name elsewhere."""
    return str(error).removeprefix(f"{uri}: ")


def _data_uri(image: Image.Image | None, amplified: int = 1) -> str | None:
    if image is None:
        return None
    small = image.copy()
    small.thumbnail((_SIDE, _SIDE), Image.Resampling.BOX)
    buffer = io.BytesIO()
    small.point(lambda level: min(level * amplified, 255)).save(buffer, "WEBP", quality=75)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"

"""Photos to .rgc files and back, for the pipeline, the command line and rgc.py."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from model.batches.batch import Encoding, Goal
from model.batches.memory import in_available_memory
from model.codec import Codec
from model.format.container import RgcError, RgcFile, stored_quality
from model.format.limits import why_implausible
from model.format.source import SourceRecord
from model.photos.colour import view_with_profile
from model.photos.metadata.common import EXIF_HEADER, View
from model.photos.reading import DecodedPhoto
from model.settings import Settings


class TargetOutOfReachError(ValueError):
    """The model's last iteration does not reach the target, or its first does not fit it."""


def choose_device(device: str) -> str:
    """Resolves "auto" to "cuda" where there is a GPU, else to "cpu".

    Raises:
        ValueError: not one of auto, cpu and cuda, or "cuda" without a GPU.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device is {device!r}; it is auto, cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device is cuda, but torch sees no GPU here; auto takes the CPU then")
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device


@dataclass(frozen=True)
class EncodedPhoto:
    """A photo's .rgc file, and whether it meets the settings.

    Attributes:
        without_codes: all of the file but what encoding has made.
        encoding: of the photo.
    """

    without_codes: RgcFile
    encoding: Encoding

    @property
    def reached(self) -> bool:
        """Whether the settings are met."""
        return self.encoding.reached

    @cached_property
    def file(self) -> RgcFile:
        """The file. Its last stream is coded when it is first asked for, in whichever thread that is."""
        qualities = tuple(map(stored_quality, self.encoding.ms_ssim))
        return replace(
            self.without_codes, codes=self.encoding.codes, levels=self.encoding.levels, ms_ssim=qualities
        )

    def why_not(self, settings: Settings) -> str:
        """Why `reached` is false, with the values compared."""
        if settings.target_ms_ssim is None:
            return f"one iteration alone takes more than {settings.max_bits_per_pixel} bits per pixel"
        best = max(self.file.ms_ssim)
        return (
            f"MS-SSIM {settings.target_ms_ssim} is out of reach: "
            f"{best:.4f} after {len(self.file.codes)} iterations"
        )


def encode_photos(
    codec: Codec,
    photos: Sequence[DecodedPhoto],
    settings: Sequence[Settings],
    sources: Sequence[SourceRecord | None] | None = None,
    tile: int | None = None,
) -> list[EncodedPhoto]:
    """Encodes photos together, or in parts that fit into memory; see `Codec.encode`.

    Args:
        sources: written into each file, for the manifest.

    Raises:
        ValueError: more iterations are asked for than the model has; and see `Codec.encode`.
        OutOfMemoryError: one photo does not fit into memory.
    """
    for wanted in settings:
        if (wanted.iterations or 0) > codec.iterations:
            raise ValueError(f"iterations is {wanted.iterations}; this model has {codec.iterations}")
    files = [
        RgcFile(
            width=photo.pixels.shape[1],
            height=photo.pixels.shape[0],
            grey=photo.grey,
            model_id=codec.model_id,
            levels=(),
            ms_ssim=(),
            codes=(),
            alpha=photo.alpha,
            source=source,
            metadata=photo.metadata,
            **_metadata_chunks(photo),
        )
        for photo, source in zip(photos, sources or [None] * len(photos), strict=True)
    ]
    goals = [_goal(file, wanted) for file, wanted in zip(files, settings, strict=True)]

    def encode(batch: Sequence[tuple[DecodedPhoto, Goal]], tile: int) -> list[Encoding]:
        pixels = [photo.pixels for photo, _ in batch]
        return codec.encode(pixels, [goal for _, goal in batch], [photo.grey for photo, _ in batch], tile)

    encodings = in_available_memory(encode, list(zip(photos, goals, strict=True)), tile or codec.default_tile)
    return [EncodedPhoto(*both) for both in zip(files, encodings, strict=True)]


def encode_photo(
    codec: Codec, photo: DecodedPhoto, settings: Settings, source: SourceRecord | None = None
) -> RgcFile:
    """Encodes one photo; `source` as in `encode_photos`.

    Raises:
        TargetOutOfReachError: naming the best that the model reached.
    """
    (encoded,) = encode_photos(codec, [photo], [settings], [source])
    if not encoded.reached:
        raise TargetOutOfReachError(encoded.why_not(settings))
    return encoded.file


def to_image(codec: Codec, file: RgcFile) -> Image.Image:
    """Decodes a file: RGB, RGBA, L or LA, with EXIF, ICC profile and XMP in Pillow's `info` keys.

    Raises:
        RgcError: see `Codec.decode`.
    """
    return with_alpha(file, decode_pixels(codec, file))


def decode_pixels(codec: Codec, file: RgcFile) -> NDArray[np.uint8]:
    """See `Codec.decode`; in tiles that fit into memory.

    Raises:
        RgcError: also where the file claims more pixels than its bytes can hold, before any are allocated.
    """
    if why := why_implausible(file.width, file.height, sum(map(len, file.codes))):
        raise RgcError(why)
    (pixels,) = in_available_memory(
        lambda files, tile: [codec.decode(each, tile) for each in files], [file], codec.default_tile
    )
    return pixels


def with_alpha(file: RgcFile, pixels: NDArray[np.uint8]) -> Image.Image:
    """Decoded pixels as an image, with the file's alpha channel and metadata.

    Raises:
        RgcError: the alpha channel or the metadata is damaged.
    """
    image = Image.fromarray(pixels)
    if file.alpha:
        image.putalpha(_alpha(file, image.size))
    image.info.update(image_info(file))
    return image


def _alpha(file: RgcFile, size: tuple[int, int]) -> Image.Image:
    try:
        with Image.open(io.BytesIO(file.alpha), formats=["PNG"]) as alpha:
            if alpha.size != size or alpha.mode != "L":  # before it is loaded
                raise RgcError(f"its alpha channel is {alpha.size} {alpha.mode}, the image {size}")
            alpha.load()
            return alpha
    except RgcError:
        raise
    except Exception as error:  # Pillow raises nearly anything on broken files
        raise RgcError(f"its alpha channel is damaged: {type(error).__name__}: {error}") from error


def view_of(file: RgcFile) -> View:
    """The file's metadata as other programs know it.

    Raises:
        RgcError: its blocks are not what rgc writes.
    """
    if file.metadata is None:
        return View(exif=file.exif, icc_profile=file.icc_profile, xmp=file.xmp)
    try:
        return view_with_profile(file.metadata)
    except Exception as error:  # blocks of a damaged or crafted file may be anything
        raise RgcError(f"its metadata is damaged: {type(error).__name__}: {error}") from error


def image_info(file: RgcFile) -> dict[str, Any]:
    """The file's metadata under the keys that Pillow uses; raises as `view_of` does."""
    seen = view_of(file)
    exif = EXIF_HEADER + seen.exif if seen.exif else b""  # as Pillow's JPEG plugin reads and wants it
    info = {"exif": exif, "icc_profile": seen.icc_profile, "xmp": seen.xmp}
    return {key: value for key, value in info.items() if value}


def _metadata_chunks(photo: DecodedPhoto) -> dict[str, bytes]:
    """What has a chunk of its own where there are no blocks to be carried."""
    if photo.metadata is not None:
        return {}
    return {"exif": photo.exif, "icc_profile": photo.icc_profile, "xmp": photo.xmp}


def _goal(file: RgcFile, settings: Settings) -> Goal:
    code_bytes = None
    if settings.max_bits_per_pixel is not None:
        whole_file = int(settings.max_bits_per_pixel * file.width * file.height / 8)
        code_bytes = whole_file - len(file.to_bytes())
    return Goal(settings.target_ms_ssim, code_bytes, settings.iterations)

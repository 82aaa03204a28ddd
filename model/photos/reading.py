"""Reading photos: pixels upright, metadata kept."""

import io
import warnings
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

import numpy as np
import pillow_heif
from numpy.typing import NDArray
from PIL import Image, ImageCms, UnidentifiedImageError

from model.format.container import MAX_PIXELS
from model.photos.left_out import left_out
from model.photos.metadata import exif_of, orientation_of, upright_exif, upright_xmp, xmp_of

pillow_heif.register_heif_opener()

FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "AVIF", "HEIF", "GIF")
PHOTO_SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .mpo .png .apng .tif .tiff .webp .avif .heic .heif .hif .gif".split()
)
# Raw files are often TIFFs whose first image is a thumbnail, so they go by their names.
RAW_SUFFIXES = frozenset(
    (
        ".3fr .arw .cr2 .cr3 .crw .dcr .dng .erf .fff .iiq .kdc .mef .mos .mrw .nef .nrw .orf .pef .raf"
        " .raw .rw2 .rwl .sr2 .srf .srw .x3f"
    ).split()
)
VIDEO_SUFFIXES = frozenset(".3gp .avi .m2ts .m4v .mkv .mov .mp4 .mpg .mpeg .mts .webm .wmv".split())

# One byte of flat colour is 64 pixels of a JPEG, 344 of a PNG (8,256 with 1-bit pixels), tens of thousands of
# a WebP. Any machine has the memory for HARMLESS_PIXELS.
HARMLESS_PIXELS = 25_000_000
MAX_PIXELS_A_BYTE = 10_000

_TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class NotAPhotoError(ValueError):
    """A file that is no photo, or of a kind that rgc does not read. It stays as it is."""


class UnreadablePhotoError(ValueError):
    """The decoder cannot read a photo, or it is refused; the message says why."""


@dataclass(frozen=True)
class DecodedPhoto:
    """A photo as displayed.

    Attributes:
        pixels: (H, W, 3) uint8, EXIF orientation applied.
        grey: the three channels are equal because the source has only one.
        format: Pillow's name of the source format, "JPEG" for one.
        exif: a TIFF structure, byte for byte but for the orientation, which is now 1 (of a TIFF: anew).
        icc_profile, xmp: byte for byte (but for an orientation in XMP).
        alpha: the alpha channel as a grey PNG, empty where opaque.
        notes: what else the file holds, in words; empty if that is not known.
    """

    pixels: NDArray[np.uint8]
    grey: bool
    format: str
    exif: bytes = b""
    icc_profile: bytes = b""
    xmp: bytes = b""
    alpha: bytes = b""
    notes: tuple[str, ...] = ()


def check_name(name: str) -> None:
    """Raises NotAPhotoError for names of files that hold something else."""
    suffix = PurePosixPath(name).suffix.lower()
    if suffix in RAW_SUFFIXES:
        raise NotAPhotoError(f"a camera raw file ({suffix}): the original is the better archive")
    if suffix in VIDEO_SUFFIXES:
        raise NotAPhotoError(f"a video ({suffix})")
    if suffix not in PHOTO_SUFFIXES:
        raise NotAPhotoError(f"not a photo rgc reads ({suffix or 'no suffix'})")


def read_photo(data: bytes) -> DecodedPhoto:
    """Decodes the bytes of a photo.

    Raises:
        UnreadablePhotoError: with the decoder's own message, or the sizes for which it was refused.
    """
    if not data:
        raise UnreadablePhotoError("the file is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of broken EXIF, and of sizes, which are checked below
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                _check_size(image, len(data))
                image.load()
                notes = tuple(left_out(image, data))
                return replace(decode_image(image), notes=notes)
    except UnidentifiedImageError as error:
        raise UnreadablePhotoError("no decoder recognises the file's content") from error
    except UnreadablePhotoError:
        raise
    except Exception as error:  # decoders raise nearly anything on broken files
        raise UnreadablePhotoError(f"{type(error).__name__}: {error}") from error


def decode_image(image: Image.Image) -> DecodedPhoto:
    """What a loaded Pillow image holds: pixels as displayed, and metadata from its `info`."""
    # Before looking at the orientation, which loading a TIFF applies; counting its pages has unloaded it.
    image.load()
    transposition = _TRANSPOSITIONS.get(orientation_of(image))
    exif, xmp = upright_exif(exif_of(image)), upright_xmp(xmp_of(image))
    icc_profile = image.info.get("icc_profile") or b""
    image_format = image.format or "RAW"
    if image.mode == "CMYK":
        image, icc_profile = _cmyk_to_srgb(image, icc_profile), b""
    elif image.mode.startswith("I") or image.mode == "F":
        image = _to_8_bits(image)
    if transposition is not None:
        image = image.transpose(transposition)
    grey = image.mode in ("1", "L", "LA")
    alpha = b""
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = _alpha_png(image.getchannel("A"))
    pixels = np.array(image.convert("RGB"))
    return DecodedPhoto(pixels, grey, image_format, exif, icc_profile, xmp, alpha)


def _check_size(image: Image.Image, file_bytes: int) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise UnreadablePhotoError(f"{width}x{height} pixels; rgc takes up to {MAX_PIXELS} pixels")
    if width * height > max(HARMLESS_PIXELS, MAX_PIXELS_A_BYTE * file_bytes):
        raise UnreadablePhotoError(
            f"claims {width}x{height} pixels in {file_bytes} bytes: refused as a decompression bomb"
        )


def _cmyk_to_srgb(image: Image.Image, icc_profile: bytes) -> Image.Image:
    if not icc_profile:
        return image.convert("RGB")
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(icc_profile))
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
        return converted or image.convert("RGB")
    except ImageCms.PyCMSError:
        return image.convert("RGB")


def _to_8_bits(image: Image.Image) -> Image.Image:
    """16-bit grey (Pillow's own conversion clips instead of scaling); floats count as 0 to 1."""
    values = np.asarray(image).astype(np.float64)
    scaled = values * 255 if image.mode == "F" else values / 257
    return Image.fromarray(scaled.round().clip(0, 255).astype(np.uint8))


def _alpha_png(alpha: Image.Image) -> bytes:
    if alpha.getextrema() == (255, 255):
        return b""
    buffer = io.BytesIO()
    alpha.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()

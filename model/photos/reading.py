"""Photos in the formats that people have them in: pixels upright, metadata kept."""

import io
import re
import struct
import warnings
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

import numpy as np
import pillow_heif
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError

from model.format.container import MAX_PIXELS
from model.photos.left_out import left_out

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

# Flat colour takes a JPEG 1 byte for 64 pixels, a PNG 1 for 344 (8,256 with 1-bit pixels), a WebP 1 for
# tens of thousands. Sizes that any machine has the memory for are let through whatever they claim.
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
_TIFF_LONG = 4
_XMP_ORIENTATION = re.compile(rb"(tiff:Orientation(?:\s*=\s*[\"']|>)\s*)[2-8]")
# Tags of a TIFF that describe how its pixels are stored, which end with its pixels.
_TIFF_LAYOUT_TAGS = {
    254, 255, 256, 257, 258, 259, 262, 263, 266, 273, 277, 278, 279, 284, 292, 293, 317, 320, 321, 322,
    323, 324, 325, 330, 332, 338, 339, 340, 341, 347, 512, 513, 514, 529, 530, 531, 532, 700, 34675,
}  # fmt: skip


class NotAPhotoError(ValueError):
    """A file that is no photo rgc reads, and need not be one: it stays as it is."""


class UnreadablePhotoError(ValueError):
    """A photo that its decoder cannot read, or that is refused; the message says why."""


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
        notes: what the file holds beyond all of this, in words; empty if it is not known.
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
    transposition = _TRANSPOSITIONS.get(_orientation(image))
    exif, xmp = _upright_exif(_exif(image)), _upright_xmp(_xmp(image))
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


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # broken EXIF must not cost the photo
        return 1


def _exif(image: Image.Image) -> bytes:
    if image.format != "TIFF":
        return bytes(image.info.get("exif") or b"").removeprefix(b"Exif\0\0")
    try:
        exif = Image.Exif()
        exif.load(image.getexif().tobytes())  # a copy
        for tag in _TIFF_LAYOUT_TAGS & set(exif):
            del exif[tag]
        return exif.tobytes().removeprefix(b"Exif\0\0") if len(exif) else b""
    except Exception:  # broken EXIF must not cost the photo
        return b""


def _xmp(image: Image.Image) -> bytes:
    xmp = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
    return xmp.encode() if isinstance(xmp, str) else bytes(xmp)


def _upright_exif(exif: bytes) -> bytes:
    """Sets the orientation in the first directory of a TIFF structure to 1, in place."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    try:
        (directory,) = struct.unpack_from(f"{order}I", exif, 4)
        (entries,) = struct.unpack_from(f"{order}H", exif, directory)
        for entry in range(directory + 2, directory + 2 + 12 * entries, 12):
            tag, kind = struct.unpack_from(f"{order}HH", exif, entry)
            if tag == ExifTags.Base.Orientation:
                upright = (
                    struct.pack(f"{order}I", 1) if kind == _TIFF_LONG else struct.pack(f"{order}HH", 1, 0)
                )
                return exif[: entry + 8] + upright + exif[entry + 12 :]
    except struct.error:  # broken EXIF stays as it is: Pillow reads no orientation from it
        pass
    return exif


def _upright_xmp(xmp: bytes) -> bytes:
    return _XMP_ORIENTATION.sub(rb"\g<1>1", xmp)


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

"""Photos in the formats that people have them in: pixels upright, metadata kept."""

import io
import re
import struct
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

import numpy as np
import pillow_heif
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError

from model.container import MAX_PIXELS

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
_TIFF_BITS, _TIFF_SUB_DIRECTORIES = 258, 330
_PNG_BITS = 24  # where a PNG says how many

# Segments of a JPEG that are carried over, or say only how the picture is stored, by how they begin.
_CARRIED_SEGMENTS = (
    ("APP0", b""),
    ("APP1", b"Exif\0\0"),
    ("APP1", b"http://ns.adobe.com/xap/1.0/\0"),
    ("APP2", b"ICC_PROFILE\0"),
    ("APP2", b"MPF\0"),
    ("APP12", b"Ducky"),
    ("APP14", b"Adobe"),
)
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # but those within the pixels' bits
_JPEG_END = b"\xff\xd9"
_LEAST_CONTENT = 64  # bytes; what some cameras leave at a file's end is less, and no picture fits into it

_HEIF_BOXES = {b"ftyp", b"meta", b"mdat", b"free", b"skip"}  # of a picture alone
# What viewers show as if it were sRGB: by number in ITU-T H.273, 2 being "unspecified".
_LIKE_SRGB = {"color_primaries": {1, 2, 5, 6}, "transfer_characteristics": {1, 2, 6, 13}}


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
                notes = tuple(_left_out(image, data))
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


def _left_out(image: Image.Image, data: bytes) -> Iterator[str]:
    """What a loaded file holds beyond the first picture in 8 bits of sRGB, EXIF, ICC profile and XMP.

    Thumbnails do not count.
    """
    if (frames := getattr(image, "n_frames", 1)) > 1:
        yield f"the first of {frames} frames"
    if image.mode == "CMYK":
        yield "CMYK converted to sRGB"
    if image.mode == "F":
        yield "floating point reduced to 8 bits"
    if (bits := _bits(image, data)) > 8:
        yield f"{bits} bits reduced to 8"
    try:
        if look := _LOOK_FOR_MORE.get(image.format or ""):
            yield from look(image, data)
    except Exception as error:  # must not cost the photo
        yield f"parts that could not be looked at: {type(error).__name__}"


def _bits(image: Image.Image, data: bytes) -> int:
    """Of a channel, as the file has them: Pillow opens some with more than 8 as if they had 8."""
    if image.format == "PNG":
        return data[_PNG_BITS]
    if image.format == "TIFF" and image.mode != "F":
        return int(max(getattr(image, "tag_v2", {}).get(_TIFF_BITS, (1,))))
    return 8


def _left_out_of_jpeg(image: Image.Image, data: bytes) -> Iterator[str]:
    segments: list[tuple[str, bytes]] = getattr(image, "applist", [])
    left = dict.fromkeys(name for name, content in segments if not _is_carried(name, content))
    if left:
        yield f"metadata in {', '.join(left)}"
    if _bytes_after_jpeg(data) >= _LEAST_CONTENT:
        yield "what follows the picture: another one, a gain map or a video"


def _is_carried(name: str, content: bytes) -> bool:
    return any(name == carried and content.startswith(start) for carried, start in _CARRIED_SEGMENTS)


def _bytes_after_jpeg(data: bytes) -> int:
    """Bytes after the end of a file's first picture, without zeros around them."""
    position = len(_JPEG_END)  # as long as what a picture begins with
    while marker := _JPEG_MARKER.search(data, position):
        if marker[0] == _JPEG_END:
            return len(data[marker.end() :].strip(b"\0"))
        position = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2])
    return 0


def _left_out_of_png(image: Image.Image, _data: bytes) -> Iterator[str]:
    if names := set(getattr(image, "text", ())) - {"XML:com.adobe.xmp"}:
        yield f"text: {', '.join(sorted(names))}"


def _left_out_of_tiff(image: Image.Image, _data: bytes) -> Iterator[str]:
    if _TIFF_SUB_DIRECTORIES in getattr(image, "tag_v2", {}):
        yield "pictures in sub-directories"


def _left_out_of_gif(image: Image.Image, _data: bytes) -> Iterator[str]:
    if image.info.get("comment"):
        yield "a comment"


def _left_out_of_heif(_image: Image.Image, data: bytes) -> Iterator[str]:
    """Of HEIF or AVIF, of which Pillow itself says less."""
    info = pillow_heif.open_heif(io.BytesIO(data)).info
    if info["bit_depth"] > 8:
        yield f"{info['bit_depth']} bits reduced to 8"
    pictures = ["depth"] * bool(info["depth_images"]) + [kind.rpartition(":")[2] for kind in info["aux"]]
    boxes = list(_boxes(data))
    if any(kind == b"meta" and data.find(b"tmap", start, end) > 0 for kind, start, end in boxes):
        pictures.append("gain map")
    if pictures:
        yield f"auxiliary pictures: {', '.join(pictures)}"
    if info["metadata"]:
        yield "metadata other than EXIF and XMP"
    if unknown := {kind.decode("latin-1") for kind, _, _ in boxes if kind not in _HEIF_BOXES}:
        yield f"parts beside the picture: {', '.join(sorted(unknown))}"
    colours = info.get("nclx_profile", {})
    if not info.get("icc_profile") and any(colours.get(key, 2) not in _LIKE_SRGB[key] for key in _LIKE_SRGB):
        yield "colours other than sRGB's, without an ICC profile"


def _boxes(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of each box that an ISO base media file consists of."""
    start = 0
    while start + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, start)
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, start + 8)
        end = start + size if size >= 8 else len(data)  # 0: all the rest
        yield kind, start, end
        start = end


_LOOK_FOR_MORE = {
    "JPEG": _left_out_of_jpeg,
    "MPO": _left_out_of_jpeg,
    "PNG": _left_out_of_png,
    "TIFF": _left_out_of_tiff,
    "GIF": _left_out_of_gif,
    "HEIF": _left_out_of_heif,
    "AVIF": _left_out_of_heif,
}

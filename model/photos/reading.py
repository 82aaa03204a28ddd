"""Photos in the formats that people have them in: pixels upright, metadata kept."""

import ctypes
import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pillow_heif
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from model.format.limits import why_too_large
from model.format.metadata import MetadataBlocks
from model.photos.colour import view_with_profile
from model.photos.errors import UnreadablePhotoError
from model.photos.metadata import containers, exif, heif, jpeg, png, tiff, tiff_pictures, xmp
from model.photos.metadata.common import Found, View
from model.photos.metadata.tiff_directories import Reader
from model.photos.pixels import Pixels, Plane, eight_bits, oriented

pillow_heif.register_heif_opener()

FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "AVIF", "HEIF", "GIF")
_JPEG_START = b"\xff\xd8"
_M_PERTURB = -6  # from malloc.h
_SENTINEL = b"\x5a\xa5\x00" * 4096


@dataclass(frozen=True)
class DecodedPhoto:
    """A photo as displayed.

    Attributes:
        pixels: (H, W, 3) uint8, orientation applied.
        grey: the three channels are equal because the source has only one.
        format: Pillow's name of the source format, "JPEG" for one.
        exif: a TIFF structure; its orientation is 1.
        icc_profile: of the pixels, made for them where the file says their colours in another way.
        xmp: a packet; its orientation is 1.
        alpha: the alpha channel as a grey PNG, empty where opaque.
        notes: what the file holds and none of this does, in words; empty if it is not known.
        metadata: all blocks that are carried, of which `exif`, `icc_profile` and `xmp` are a part; None of an
            image that is no file.
    """

    pixels: NDArray[np.uint8]
    grey: bool
    format: str
    exif: bytes = b""
    icc_profile: bytes = b""
    xmp: bytes = b""
    alpha: bytes = b""
    notes: tuple[str, ...] = ()
    metadata: MetadataBlocks | None = None


def read_photo(data: bytes) -> DecodedPhoto:
    """Decodes the bytes of a photo.

    Raises:
        UnreadablePhotoError: with the decoder's own message, or the sizes for which it was refused.
    """
    if not data:
        raise UnreadablePhotoError("the file is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes, which are checked below
            return _read(data)
    except UnidentifiedImageError as error:
        raise UnreadablePhotoError(
            "no decoder recognises the file's content: it is damaged, or no photo"
        ) from error
    except UnreadablePhotoError:
        raise
    except Exception as error:  # decoders raise nearly anything on broken files
        raise UnreadablePhotoError(f"{type(error).__name__}: {error}") from error


def decode_image(image: Image.Image) -> DecodedPhoto:
    """What a loaded Pillow image holds: pixels as displayed, and metadata from its `info`."""
    image.load()  # before looking at the orientation, which loading a TIFF applies
    orientation = _orientation(image)
    pixels = eight_bits(image, 8)
    profile = b"" if pixels.is_converted else bytes(image.info.get("icc_profile") or b"")
    structure, packet = _exif(image), _xmp(image)
    if orientation != 1:
        structure, packet = exif.turned(structure, orientation), xmp.reset_orientation(packet)
    return _decoded(pixels, orientation, image.format or "RAW", View(structure, profile, packet))


def _read(data: bytes) -> DecodedPhoto:
    parts = tuple(jpeg.segments(data)) if data.startswith(_JPEG_START) else ()
    with Image.open(io.BytesIO(_for_pillow(data, parts)), formats=FORMATS) as image:
        if why := why_too_large(*image.size, len(data)):
            raise UnreadablePhotoError(why)
        container = image.format or ""
        found = _blocks(data, container, parts)
        orientation = containers.orientation(container, found.blocks)
        if container == "AVIF":  # Pillow says in EXIF what the container asks for
            orientation = _orientation(image)
        if image.mode == "CMYK":  # its profile is hidden from Pillow, see `_for_pillow`
            seen = containers.view(MetadataBlocks(container, tuple(found.blocks)))
            image.info["icc_profile"] = seen.icc_profile
        if container == "JPEG":
            _check_whole(data, parts)
        low_bytes = _png_low_bytes(data) if container == "PNG" and found.bits == 16 else None
        if any(tile.codec_name == "libtiff" for tile in image.tile):
            _load_and_check(image, data)
        image.load()
        extra = tiff_pictures.extra_samples(data) if container == "TIFF" else ()
        pixels = eight_bits(image, found.bits, low_bytes, extra)
        pictures, broken = _count_pictures(data, image, parts)
    blocks = containers.turned(container, found.blocks, orientation)
    if pixels.is_converted:
        blocks = containers.without_profile(container, blocks)
    metadata = MetadataBlocks(container, tuple(blocks))
    if why := metadata.why_too_much():
        raise UnreadablePhotoError(why)
    frames = [f"the first of {pictures} frames"] if pictures > 1 else []
    notes = (*frames, *broken, *pixels.lost, *found.left_out)
    image_format = "MPO" if container == "JPEG" and pictures > 1 else container
    return _decoded(pixels, orientation, image_format, view_with_profile(metadata), notes, metadata)


def _decoded(
    pixels: Pixels,
    orientation: int,
    image_format: str,
    seen: View,
    notes: tuple[str, ...] = (),
    metadata: MetadataBlocks | None = None,
) -> DecodedPhoto:
    grey = pixels.colour.ndim == 2
    colour = oriented(pixels.colour, orientation)
    alpha = b"" if pixels.alpha is None else _png(oriented(pixels.alpha, orientation))
    whole = np.repeat(colour[:, :, None], 3, axis=2) if grey else colour
    return DecodedPhoto(
        whole, grey, image_format, seen.exif, seen.icc_profile, seen.xmp, alpha, notes, metadata
    )


def _for_pillow(data: bytes, parts: Sequence[jpeg.Segment]) -> bytes:
    """The file without what Pillow does not need for the pixels and may fail on.

    A JPEG without its end marker is given one; of a TIFF only the first picture is left, and no orientation.
    """
    if data.startswith(png.SIGNATURE):
        return png.only_pixels(data)
    if data.startswith(_JPEG_START):
        return jpeg.only_pixels(data, parts)
    if data[:2] in (b"II", b"MM"):
        return tiff_pictures.only_first_picture(data)
    if data[4:12] in (b"ftypavif", b"ftypavis"):
        return heif.without_exif(data)
    return data


def _blocks(data: bytes, container: str, parts: Sequence[jpeg.Segment]) -> Found:
    try:
        return containers.read_blocks(data, container, parts)
    except Exception as error:  # must not cost the photo
        return Found([], [f"parts that could not be looked at: {type(error).__name__}"])


def _check_whole(data: bytes, parts: Sequence[jpeg.Segment]) -> None:
    """Checks that the pixels of a JPEG without an end marker are all there.

    Bytes that are put after its end must not show in the picture.

    Raises:
        UnreadablePhotoError: they do.
    """
    if jpeg.is_ended(parts):
        return
    pictures = []
    for after in (b"", _SENTINEL):
        with Image.open(io.BytesIO(jpeg.only_pixels(data, parts, after)), formats=["JPEG"]) as image:
            pictures.append(np.asarray(image).copy())
    if not np.array_equal(pictures[0], pictures[1]) or not jpeg.is_whole_progressive(parts):
        raise UnreadablePhotoError("truncated: it has no end marker, and pixels are missing")


def _load_and_check(image: Image.Image, data: bytes) -> None:
    """Loads a TIFF by libtiff, and finds out whether all pixels were filled. It may not say if not.

    What memory held before is made another, twice: it must not show in the picture. (With another C library
    than glibc this finds nothing.)

    Raises:
        UnreadablePhotoError: it does.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    try:
        mallopt(_M_PERTURB, 0x55)
        image.load()
        mallopt(_M_PERTURB, 0xAA)
        with Image.open(io.BytesIO(tiff_pictures.only_first_picture(data)), formats=["TIFF"]) as again:
            again.load()
            is_filled = np.array_equal(np.asarray(image), np.asarray(again))
    finally:
        mallopt(_M_PERTURB, 0)
    if not is_filled:
        raise UnreadablePhotoError("truncated: pixels are missing that its decoder does not miss")


def _png_low_bytes(data: bytes) -> Plane | None:
    """The lower bytes of a colour PNG of 16 bits, of which Pillow gives the upper ones; None of others."""
    with Image.open(io.BytesIO(png.only_pixels(data)), formats=["PNG"]) as image:
        if image.mode != "RGB" or "transparency" not in image.info or not image.tile:
            return None
        # Bytes in the other order: what Pillow takes for the upper ones are the lower.
        image.tile = [tile._replace(args="RGB;16L") for tile in image.tile]
        return np.array(image)


def _count_pictures(data: bytes, image: Image.Image, parts: Sequence[jpeg.Segment]) -> tuple[int, list[str]]:
    """How many pictures the file holds, and in words what cannot be read of that."""
    try:
        if image.format == "TIFF":
            return Reader(data).count_directories(), []
        if image.format == "PNG":
            return png.count_frames(data), []
        if image.format == "JPEG":
            return jpeg.count_pictures(parts), []
        return int(getattr(image, "n_frames", 1)), []
    except Exception as error:  # Pillow raises nearly anything on broken files
        return 1, [f"pictures after the first, which cannot be read: {error}"]


def _orientation(image: Image.Image) -> int:
    try:
        found = int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # broken EXIF must not cost the photo
        return 1
    if found == 1 and ExifTags.Base.Orientation not in image.getexif():
        found = xmp.orientation(_xmp(image))
    return found if found in exif.TRANSPOSITIONS else 1


def _exif(image: Image.Image) -> bytes:
    if image.format != "TIFF" or "exif" in image.info:
        return exif.structure(bytes(image.info.get("exif") or b""))
    try:
        blocks = tiff.read(exif.structure(image.getexif().tobytes())).blocks
        return tiff.view(MetadataBlocks("TIFF", tuple(blocks))).exif if len(blocks) > 1 else b""
    except Exception:  # broken EXIF must not cost the photo
        return b""


def _xmp(image: Image.Image) -> bytes:
    packet = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
    return packet.encode() if isinstance(packet, str) else bytes(packet)


def _png(alpha: Plane) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(alpha).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()

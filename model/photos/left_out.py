"""What a photo's file holds and its .rgc file will not. An original with any of it should stay."""

import io
import re
import struct
from collections.abc import Iterator

import pillow_heif
from PIL import Image

_TIFF_BITS, _TIFF_SUB_DIRECTORIES = 258, 330
_PNG_BITS = 24  # where a PNG says how many

# Beginnings of a JPEG's segments that are carried over, or only say how the picture is stored.
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
_LEAST_CONTENT = 64  # bytes: no picture fits into less, and some cameras leave less at a file's end

_HEIF_BOXES = {b"ftyp", b"meta", b"mdat", b"free", b"skip"}  # of a picture alone
# Viewers show these as if they were sRGB: numbers of ITU-T H.273, 2 being "unspecified".
_LIKE_SRGB = {"color_primaries": {1, 2, 5, 6}, "transfer_characteristics": {1, 2, 6, 13}}


def left_out(image: Image.Image, data: bytes) -> Iterator[str]:
    """What a loaded file holds besides its first picture in 8 bits of sRGB, EXIF, ICC profile and XMP.

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
    """Of a channel in the file: Pillow opens some with more than 8 as if they had 8."""
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

"""The .rgc file: a signature, then chunks. FORMAT.md beside this file is its specification."""

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any

from model.format.limits import MAX_PIXELS, padded_pixels
from model.format.metadata import MetadataBlocks
from model.format.source import SourceRecord

SIGNATURE = b"\x89RGC\r\n\x1a\n"
VERSION = 3
MAX_ITERATIONS = 64
_HEADER = struct.Struct(">BBIIB6s")  # version, colour, width, height, iterations, model id
_CHUNK = struct.Struct(">4sI")
_CRC = struct.Struct(">I")
_ITERATION = struct.Struct(">BHI")  # in the header: level of the gain, quality, length of the stream
# Bytes that an iteration takes beside its stream, in its chunk and in the header.
ITERATION_OVERHEAD = _CHUNK.size + _CRC.size + _ITERATION.size
_QUALITY_UNIT = 65535
_METADATA_CHUNKS = {"exif": b"EXIF", "icc_profile": b"ICCP", "xmp": b"XMPM", "alpha": b"ALPH"}
_PARSERS: dict[bytes, tuple[str, Callable[[bytes], Any]]] = {
    b"SRCE": ("source", SourceRecord.from_json),
    b"META": ("metadata", MetadataBlocks.from_bytes),
}
_ORDER = [b"HEAD", *_PARSERS, *_METADATA_CHUNKS.values(), b"ITER"]


def stored_quality(ms_ssim: float) -> float:
    """An MS-SSIM as the header holds it, 0 to 1 in steps of 1/65535.

    On flat images rounding can lift the computed one a little above 1.
    """
    return round(min(max(ms_ssim, 0.0), 1.0) * _QUALITY_UNIT) / _QUALITY_UNIT


class RgcError(ValueError):
    """A .rgc file that cannot be read; the message says what was found and what was expected."""


@dataclass(frozen=True)
class RgcFile:
    """What a .rgc file holds.

    Attributes:
        width, height: of the image as displayed, in pixels.
        grey: the decoded image is one channel, the mean of red, green and blue.
        model_id: names the weights that decode it, "rgc-" and 12 hexadecimal digits.
        levels: of the gain in each iteration, 0 to 255.
        ms_ssim: of the 8-bit image decoded after each iteration, see `stored_quality`.
        codes: entropy-coded bits of each iteration; fewer than `ms_ssim` where the file was cut off.
        exif: EXIF as a TIFF structure, without the "Exif\\0\\0" that JPEG puts before it.
        icc_profile: byte for byte as in the source; xmp too, but for its orientation.
        alpha: the alpha channel as a grey PNG.
        metadata: the blocks that the source holds beside its pixels, of which EXIF, ICC profile and XMP are a
            part; then these have no chunks of their own. None of an image that was no file.
        source: what the manifest says of the source; None where nothing was said.
    """

    width: int
    height: int
    grey: bool
    model_id: str
    levels: tuple[int, ...]
    ms_ssim: tuple[float, ...]
    codes: tuple[bytes, ...]
    exif: bytes = b""
    icc_profile: bytes = b""
    xmp: bytes = b""
    alpha: bytes = b""
    source: SourceRecord | None = None
    metadata: MetadataBlocks | None = None

    def first_iterations(self, count: int) -> "RgcFile":
        """The same image, coarser: only its first `count` iterations, from 1."""
        if count < 1:
            raise ValueError(f"iterations is {count}; it is at least 1")
        return replace(self, codes=self.codes[:count])

    def to_bytes(self) -> bytes:
        return self._preamble() + b"".join(_chunk(b"ITER", codes) for codes in self.codes)

    def prefix_bytes(self) -> list[int]:
        """The file's length up to and with each iteration."""
        length, lengths = len(self._preamble()), []
        for codes in self.codes:
            length += _CHUNK.size + len(codes) + _CRC.size
            lengths.append(length)
        return lengths

    def _preamble(self) -> bytes:
        """Everything ahead of the codes, what the manifest needs first."""
        model = bytes.fromhex(self.model_id.removeprefix("rgc-"))
        header = _HEADER.pack(VERSION, self.grey, self.width, self.height, len(self.ms_ssim), model)
        lengths = map(len, self.codes)
        for level, quality, length in zip_longest(self.levels, self.ms_ssim, lengths, fillvalue=0):
            header += _ITERATION.pack(level, round(quality * _QUALITY_UNIT), length)
        chunks = [_chunk(b"HEAD", header)]
        if self.source is not None:
            chunks.append(_chunk(b"SRCE", self.source.to_json().encode()))
        if self.metadata is not None:
            chunks.append(_chunk(b"META", self.metadata.to_bytes()))
        for name, kind in _METADATA_CHUNKS.items():
            if payload := getattr(self, name):
                chunks.append(_chunk(kind, payload))
        return SIGNATURE + b"".join(chunks)


def read_rgc(data: bytes, name: str = "data") -> RgcFile:
    """Reads a .rgc file, whole or cut off anywhere after its metadata.

    Args:
        data: the file's first bytes, as many as there are.
        name: of the file, for error messages.

    Raises:
        RgcError: no .rgc file, a version or chunk this decoder does not know, a checksum or a
            dimension that is wrong.
    """
    fields: dict[str, Any] = {}
    codes: list[bytes] = []
    lengths: list[int] = []
    kinds = {kind: field_name for field_name, kind in _METADATA_CHUNKS.items()}
    previous = b""
    for kind, length, payload in _chunks(data, name):
        if not previous and kind != b"HEAD":
            raise RgcError(f"{name}: begins with chunk {kind!r}, not HEAD")
        if kind in _ORDER:
            _check_order(kind, previous, name)
            previous = kind
        if kind == b"ITER":
            _check_length(length, len(codes), lengths, name)
        if payload is None:
            break  # cut off in this chunk
        if kind == b"HEAD":
            fields, lengths = _parse_header(payload, name)
        elif kind in _PARSERS:
            field_name, parse = _PARSERS[kind]
            try:
                fields[field_name] = parse(payload)
            except ValueError as error:
                raise RgcError(f"{name}: its {kind.decode()} chunk cannot be read: {error}") from error
        elif kind == b"ITER":
            codes.append(payload)
        elif kind in kinds:
            fields[kinds[kind]] = payload
        elif not kind[:1].islower():  # lower case marks a chunk that a decoder may pass over
            raise RgcError(f"{name}: unknown chunk {kind!r}; it was written by a newer rgc")
    if not fields:
        raise RgcError(f"{name}: cut off after {len(data)} bytes, before its header was complete")
    return RgcFile(codes=tuple(codes), **fields)


def _chunk(kind: bytes, payload: bytes) -> bytes:
    return _CHUNK.pack(kind, len(payload)) + payload + _CRC.pack(zlib.crc32(kind + payload))


def _chunks(data: bytes, name: str) -> Iterator[tuple[bytes, int, bytes | None]]:
    """Kind, length and payload of each chunk; None for the payload of one that is cut off, the last."""
    if data[: len(SIGNATURE)] != SIGNATURE:
        raise RgcError(f"{name} is no .rgc file: it starts with {data[:8]!r}, not {SIGNATURE!r}")
    position = len(SIGNATURE)
    while len(data) - position >= _CHUNK.size:
        kind, length = _CHUNK.unpack_from(data, position)
        end = position + _CHUNK.size + length
        if end + _CRC.size > len(data):
            yield kind, length, None
            return
        payload = data[position + _CHUNK.size : end]
        (stored,) = _CRC.unpack_from(data, end)
        if (computed := zlib.crc32(kind + payload)) != stored:
            raise RgcError(
                f"{name}: the {kind!r} chunk at byte {position} is damaged: "
                f"its checksum is {computed:08x}, the file says {stored:08x}"
            )
        yield kind, length, payload
        position = end + _CRC.size


def _check_order(kind: bytes, previous: bytes, name: str) -> None:
    """Only ITER may follow itself."""
    if previous and _ORDER.index(kind) < _ORDER.index(previous) + (previous != b"ITER"):
        raise RgcError(f"{name}: a {kind!r} chunk after {previous!r}; the order is {_ORDER}")


def _check_length(length: int, index: int, lengths: list[int], name: str) -> None:
    """The header holds the lengths, too: a damaged one must not pass for a file that was cut off."""
    if index >= len(lengths):
        raise RgcError(f"{name}: more ITER chunks than the {len(lengths)} that its header announces")
    if length != lengths[index]:
        raise RgcError(
            f"{name}: iteration {index + 1} has {length} bytes, but {lengths[index]} in the header: damaged"
        )


def _parse_header(payload: bytes, name: str) -> tuple[dict[str, Any], list[int]]:
    """Fields of `RgcFile`, and the length of each iteration's stream."""
    if payload[:1] != bytes([VERSION]):
        raise RgcError(
            f"{name}: version {payload[:1].hex() or 'none'}, this rgc reads version {VERSION}: "
            "decode it with the rgc that wrote it"
        )
    if len(payload) < _HEADER.size:
        raise RgcError(f"{name}: a header of {len(payload)} bytes, at least {_HEADER.size} are needed")
    _, colour, width, height, iterations, model = _HEADER.unpack_from(payload)
    if colour > 1:
        raise RgcError(f"{name}: colour mode {colour}, this rgc knows 0 (RGB) and 1 (grey)")
    if not (width and height and padded_pixels(width, height) <= MAX_PIXELS):
        raise RgcError(
            f"{name}: {width}x{height} pixels; sides from 1, at most {MAX_PIXELS} pixels with margins"
        )
    if not 1 <= iterations <= MAX_ITERATIONS:
        raise RgcError(f"{name}: {iterations} iterations, not 1 to {MAX_ITERATIONS}")
    if len(payload) != _HEADER.size + _ITERATION.size * iterations:
        raise RgcError(f"{name}: a header of {len(payload)} bytes does not fit {iterations} iterations")
    announced = list(_ITERATION.iter_unpack(payload[_HEADER.size :]))
    fields = {
        "width": width,
        "height": height,
        "grey": bool(colour),
        "model_id": f"rgc-{model.hex()}",
        "levels": tuple(level for level, _, _ in announced),
        "ms_ssim": tuple(quality / _QUALITY_UNIT for _, quality, _ in announced),
    }
    return fields, [length for _, _, length in announced]

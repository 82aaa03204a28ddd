"""ICC profiles for pictures whose colours their files define by numbers: gAMA, cHRM, cICP, nclx, TIFF.

Primaries and transfer functions by number are those of ITU-T H.273.
"""

import struct
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from model.format.metadata import MetadataBlocks
from model.photos.metadata import containers, heif, tiff
from model.photos.metadata.common import View

XY = tuple[float, float]
Primaries = tuple[XY, XY, XY, XY]  # red, green, blue, white
_D65, _C, _DCI, _E = (0.3127, 0.3290), (0.310, 0.316), (0.314, 0.351), (1 / 3, 1 / 3)
_SRGB: Primaries = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06), _D65)
_NTSC: Primaries = ((0.63, 0.34), (0.31, 0.595), (0.155, 0.07), _D65)
_PRIMARIES: dict[int, Primaries] = {
    4: ((0.67, 0.33), (0.21, 0.71), (0.14, 0.08), _C),
    7: _NTSC,
    8: ((0.681, 0.319), (0.243, 0.692), (0.145, 0.049), _C),
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), _D65),
    10: ((1.0, 0.0), (0.0, 1.0), (0.0, 0.0), _E),
    11: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), _DCI),
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), _D65),
    22: ((0.630, 0.340), (0.295, 0.605), (0.155, 0.077), _D65),
}
# What viewers show as if it were sRGB: 2 is "unspecified".
_LIKE_SRGB_PRIMARIES, _LIKE_SRGB_TRANSFERS = {1, 2, 5, 6}, {1, 2, 6, 11, 12, 13, 14, 15}
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_D50 = np.array([0.9642, 1.0, 0.8249])
_CURVE = np.linspace(0, 1, 1024)
_GAMMA_UNIT = 100_000  # of gAMA and cHRM


def _made_profile(metadata: MetadataBlocks) -> bytes:
    """A profile for pixels whose file has none of its own; nothing where they are sRGB, or hardly differ."""
    if metadata.format == "PNG":
        return _of_png(metadata)
    if metadata.format in ("HEIF", "AVIF") and (numbers := heif.nclx(metadata)):
        return _of_numbers(*numbers)
    if metadata.format == "TIFF":
        return _of_tiff(metadata)
    return b""


def _outranks_profile(metadata: MetadataBlocks) -> bool:
    """Whether something in the file counts for more than its ICC profile: PNG's cICP does."""
    return metadata.format == "PNG" and any(len(data) == 4 for data in metadata.of_kind("cICP"))


def _of_png(metadata: MetadataBlocks) -> bytes:
    for data in metadata.of_kind("cICP"):
        if len(data) == 4:
            return _of_numbers(data[0], data[1])
    if any(True for _ in metadata.of_kind("sRGB")):
        return b""
    primaries, gamma = _SRGB, None
    for data in metadata.of_kind("cHRM"):
        if len(data) == 32:
            white, red, green, blue = zip(
                *[iter(v / _GAMMA_UNIT for v in struct.unpack(">8I", data))] * 2, strict=True
            )
            primaries = (red, green, blue, white)
    for data in metadata.of_kind("gAMA"):
        if len(data) == 4 and (value := struct.unpack(">I", data)[0]):
            gamma = _GAMMA_UNIT / value
    is_srgb = np.allclose(primaries, _SRGB, atol=0.002) and (gamma is None or abs(gamma - 2.2) < 0.05)
    if is_srgb:
        return b""
    curve = _srgb(_CURVE) if gamma is None or abs(gamma - 2.2) < 0.05 else _CURVE**gamma
    return profile(primaries, curve)


def _of_tiff(metadata: MetadataBlocks) -> bytes:
    """WhitePoint and PrimaryChromaticities are rationals; the curve is taken to be sRGB's."""
    order, tags = tiff.tags_of(metadata.blocks)
    values = {tag.tag: tag.value for tag in tags if tag.type == 5 and isinstance(tag.value, bytes)}
    numbers = {}
    for tag, count in ((318, 2), (319, 6)):
        raw = values.get(tag, b"")
        if len(raw) != 8 * count:
            return b""
        pairs = np.array(struct.unpack(f"{order}{2 * count}I", raw), dtype=float).reshape(-1, 2)
        if not pairs[:, 1].all():
            return b""
        numbers[tag] = (pairs[:, 0] / pairs[:, 1]).reshape(-1, 2)
    red, green, blue = ((float(x), float(y)) for x, y in numbers[319])
    primaries = (red, green, blue, (float(numbers[318][0][0]), float(numbers[318][0][1])))
    return b"" if np.allclose(primaries, _SRGB, atol=0.002) else profile(primaries, _srgb(_CURVE))


def _of_numbers(primaries: int, transfer: int) -> bytes:
    if primaries in _LIKE_SRGB_PRIMARIES and transfer in _LIKE_SRGB_TRANSFERS:
        return b""
    return profile(
        _PRIMARIES.get(primaries, _SRGB), _TRANSFERS.get(transfer, _srgb)(_CURVE), (primaries, transfer)
    )


def _srgb(v: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)


def _pq(v: NDArray[np.float64]) -> NDArray[np.float64]:
    """SMPTE ST 2084, of 10,000 cd/m2."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    power = v ** (1 / m2)
    return np.asarray((np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1))


def _hlg(v: NDArray[np.float64]) -> NDArray[np.float64]:
    """ARIB STD-B67, without the display's own curve."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(v <= 0.5, v * v / 3, (np.exp((v - c) / a) + b) / 12)


_TRANSFERS: dict[int, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    4: lambda v: v**2.2,
    5: lambda v: v**2.8,
    8: lambda v: v,
    16: _pq,
    17: lambda v: v**2.6,
    18: _hlg,
}


def profile(
    primaries: Primaries, curve: NDArray[np.float64], numbers: tuple[int, int] | None = None
) -> bytes:
    """An ICC profile of a display, version 4.

    Args:
        primaries: xy of red, green, blue and white.
        curve: from a channel's value, at equal steps from 0 to 1, to light, 0 to 1.
        numbers: the primaries' and the transfer function's, for readers that know them.

    Raises:
        ValueError: primaries that span no triangle.
    """
    columns = np.array(
        [[x / y if y else x, 1.0 if y else 0.0, (1 - x - y) / y if y else 1 - x] for x, y in primaries]
    ).T
    white = columns[:, 3]
    try:
        matrix = columns[:, :3] * np.linalg.solve(columns[:, :3], white)
    except np.linalg.LinAlgError as error:
        raise ValueError(f"primaries {primaries} span no triangle") from error
    cone, cone50 = _BRADFORD @ white, _BRADFORD @ _D50
    adaptation = np.linalg.inv(_BRADFORD) @ np.diag(cone50 / cone) @ _BRADFORD
    adapted = adaptation @ matrix
    curve_tag = b"curv" + bytes(4) + struct.pack(">I", len(curve))
    curve_tag += (curve * 65535).round().clip(0, 65535).astype(">u2").tobytes()
    tags = {
        b"desc": _text("RGB, made by rgc"),
        b"cprt": _text("CC0"),
        b"wtpt": _xyz(_D50),
        b"chad": b"sf32" + bytes(4) + _fixed(adaptation.ravel()),
        **{name: _xyz(adapted[:, i]) for i, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))},
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve_tag),
    }
    if numbers is not None:
        tags[b"cicp"] = b"cicp" + bytes(4) + bytes([*numbers, 0, 1])
    return _assembled(tags)


def _assembled(tags: dict[bytes, bytes]) -> bytes:
    table, body = b"", b""
    start = 128 + 4 + 12 * len(tags)
    places: dict[bytes, int] = {}
    for name, content in tags.items():
        if content not in places:
            places[content] = start + len(body)
            body += content + b"\0" * (-len(content) % 4)
        table += name + struct.pack(">II", places[content], len(content))
    size = start + len(body)
    header = struct.pack(">I4xI4s4s4s", size, 0x04400000, b"mntr", b"RGB ", b"XYZ ")
    header += struct.pack(">6H4s", 2026, 1, 1, 0, 0, 0, b"acsp") + bytes(28) + _fixed(_D50)
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def _fixed(values: NDArray[np.float64]) -> bytes:
    return struct.pack(f">{len(values)}i", *(round(float(value) * 65536) for value in values))


def _xyz(values: NDArray[np.float64]) -> bytes:
    return b"XYZ " + bytes(4) + _fixed(values)


def _text(words: str) -> bytes:
    encoded = words.encode("utf-16-be")
    return b"mluc" + struct.pack(">4xII2s2sII", 1, 12, b"en", b"US", len(encoded), 28) + encoded


def view_with_profile(metadata: MetadataBlocks) -> View:
    """What the blocks come to, with a profile for the pixels' colours wherever these are not sRGB's."""
    seen = containers.view(metadata)
    if seen.icc_profile and not _outranks_profile(metadata):
        return seen
    try:
        return replace(seen, icc_profile=_made_profile(metadata))
    except ValueError:  # numbers that are no colours
        return seen

"""Whether what manifests say is so: .rgc files read back, decoded and measured against their originals."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import duckdb
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from model.codec import Codec
from model.container import RgcError, RgcFile, read_rgc
from model.files import with_alpha
from model.ms_ssim import ms_ssim
from model.photo import UnreadablePhotoError, read_photo
from model.settings import DEFAULT_TARGET_MS_SSIM
from pipeline.audit import QUALITY_STEP
from pipeline.manifests import open_manifests, query
from transforms.storage import find_status, is_remote, read_bytes

# Decoded on the device and in the floating-point format that encoded it, a photo's MS-SSIM comes out the
# same but for the row's rounding, 0.000008. Others round pixels another way (bfloat16 against float32, on
# coffee.png and others of scikit-image): up to 0.0001 on photos, ten times less than this, and up to 0.016 on
# icons, where a few pixels decide. What was damaged, or is another image, differs by far more.
TOLERANCE = 0.001
TOLERANCE_BELOW_64_PIXELS = 0.02
_BATCH = 1000  # rows held at a time
_COLUMNS = ["source_uri", "rgc_uri", "source_bytes", "source_sha256", "source_fingerprint", "rgc_sha256"]
_COLUMNS += ["ms_ssim", "target_ms_ssim"]


class Finding(StrEnum):
    """What a check ends with."""

    AS_SAID = "as the manifest says"
    RGC_MISSING = ".rgc file not there"
    RGC_CHANGED = ".rgc file changed"
    RGC_UNREADABLE = ".rgc file does not decode"
    SOURCE_MISSING = "original not there"
    SOURCE_UNREADABLE = "original cannot be read"
    SOURCE_CHANGED = "original changed"
    QUALITY = "MS-SSIM differs"


@dataclass(frozen=True)
class Check:
    """What came of checking one photo.

    Attributes:
        detail: the values that were compared, where they differ.
        difference: between the MS-SSIM measured and the row's; None if there was nothing to measure.
        why_not_safe: why the original should not go, empty if it may.
    """

    source_uri: str
    rgc_uri: str
    finding: Finding
    detail: str
    difference: float | None
    why_not_safe: str


@dataclass(frozen=True)
class Verification:
    """What came of all checks.

    Attributes:
        encoded: encoded photos in the manifests.
        checked: how many of them were looked at.
        seed: what they were chosen by; None if all were.
        largest_difference: of MS-SSIM, of those that are as the manifest says.
        mismatches: all that are not as the manifest says.
        missing_sources: photos whose .rgc file is sound, and whose original is gone.
        safe_to_delete: originals that may go, see `why_not_safe`; local ones as full paths.
        not_safe: how many may not, by why.
        skipped: manifest files, as in `AuditReport`.
    """

    encoded: int
    checked: int
    seed: int | None
    largest_difference: float
    mismatches: list[Check]
    missing_sources: list[str]
    safe_to_delete: list[str]
    not_safe: dict[str, int]
    skipped: list[dict[str, Any]]

    def summary(self) -> dict[str, Any]:
        """Ready for JSON; of the originals that may go only how many."""
        return {**asdict(self), "safe_to_delete": len(self.safe_to_delete)}


class CheckError(Exception):
    """A photo that is not as its row says."""

    def __init__(self, finding: Finding, detail: str, difference: float | None = None) -> None:
        super().__init__(detail)
        self.finding = finding
        self.difference = difference


def verify(
    manifests: Sequence[str],
    codec: Codec,
    count: int | None,
    seed: int,
    where: str | None = None,
    console: Console | None = None,
) -> Verification:
    """Checks encoded photos: `count` of them, chosen by `seed`, or all if it is None.

    Args:
        manifests, where: see `open_manifests`.
        console: where progress is shown, if it is a terminal.

    Raises:
        ManifestError, WhereError: see `open_manifests`.
    """
    with open_manifests(manifests, where) as database:
        skipped = query(database, "FROM skipped ORDER BY uri")
        (found,) = query(database, "SELECT count(*) AS encoded FROM latest WHERE status = 'encoded'")
        total = min(found["encoded"], found["encoded"] if count is None else count)
        hidden = console is None or not console.is_terminal
        rows = track(
            _rows(database, count, seed), "verify", total, console=console, transient=True, disable=hidden
        )
        checks = [check(row, codec) for row in rows]
    differences = [abs(each.difference or 0.0) for each in checks if each.finding is Finding.AS_SAID]
    harmless = (Finding.AS_SAID, Finding.SOURCE_MISSING)
    return Verification(
        encoded=found["encoded"],
        checked=len(checks),
        seed=None if count is None else seed,
        largest_difference=max(differences, default=0.0),
        mismatches=sorted(
            (each for each in checks if each.finding not in harmless), key=lambda each: each.source_uri
        ),
        missing_sources=sorted(each.source_uri for each in checks if each.finding is Finding.SOURCE_MISSING),
        safe_to_delete=sorted(_full(each.source_uri) for each in checks if not each.why_not_safe),
        not_safe=dict(Counter(each.why_not_safe for each in checks if each.why_not_safe).most_common()),
        skipped=skipped,
    )


def _rows(database: duckdb.DuckDBPyConnection, count: int | None, seed: int) -> Iterator[dict[str, Any]]:
    chosen = "" if count is None else "ORDER BY md5($seed || source_uri), source_uri LIMIT $count"
    parameters = {} if count is None else {"seed": str(seed), "count": count}
    sql = f"SELECT {', '.join(_COLUMNS)} FROM latest WHERE status = 'encoded' {chosen}"
    result = database.execute(sql, parameters)
    while batch := result.fetchmany(_BATCH):
        yield from (dict(zip(_COLUMNS, values, strict=True)) for values in batch)


def check(row: dict[str, Any], codec: Codec) -> Check:
    """Checks one encoded photo: its .rgc file first, then its original, then one against the other.

    Only the first thing that is wrong is found: the others follow from it.
    """
    finding, detail, difference, notes = Finding.AS_SAID, "", None, []
    try:
        file, pixels = _read_back(row, codec)
        notes = file.source.get("notes", [])
        difference = _compare(pixels, _read_original(row), row, codec.device)
    except CheckError as error:
        finding, detail, difference = error.finding, str(error), error.difference
    unsafe = finding.value if finding is not Finding.AS_SAID else _why_not_safe(row, notes)
    return Check(row["source_uri"], row["rgc_uri"], finding, detail, difference, unsafe)


def _read_back(row: dict[str, Any], codec: Codec) -> tuple[RgcFile, NDArray[np.uint8]]:
    try:
        data = read_bytes(row["rgc_uri"])
    except FileNotFoundError as error:
        raise CheckError(Finding.RGC_MISSING, row["rgc_uri"]) from error
    except OSError as error:
        raise CheckError(Finding.RGC_UNREADABLE, str(error)) from error
    _compare_sha256(Finding.RGC_CHANGED, data, row["rgc_sha256"])
    try:
        file = read_rgc(data, row["rgc_uri"])
        pixels = codec.decode(file)
        with_alpha(file, pixels)
    except (RgcError, OSError) as error:  # Pillow's of an alpha channel is an OSError
        raise CheckError(Finding.RGC_UNREADABLE, str(error)) from error
    return file, pixels


def _read_original(row: dict[str, Any]) -> bytes:
    """The bytes of the original, which are those that were encoded."""
    try:
        status = find_status(row["source_uri"])
        if status is None:
            raise CheckError(Finding.SOURCE_MISSING, row["source_uri"])
        if status.size != row["source_bytes"]:
            sizes = f"{status.size} bytes, {row['source_bytes']} in the manifest"
            raise CheckError(Finding.SOURCE_CHANGED, sizes)
        data = read_bytes(row["source_uri"])
    except OSError as error:
        raise CheckError(Finding.SOURCE_UNREADABLE, str(error)) from error
    _compare_sha256(Finding.SOURCE_CHANGED, data, row["source_sha256"])
    if row["source_fingerprint"] not in (None, status.fingerprint):  # an early manifest has none
        detail = f"fingerprint {status.fingerprint}, {row['source_fingerprint']} in the manifest"
        raise CheckError(Finding.SOURCE_CHANGED, f"{detail}, but the same content")
    return data


def _compare_sha256(finding: Finding, data: bytes, said: str) -> None:
    if (found := hashlib.sha256(data).hexdigest()) != said:
        raise CheckError(finding, f"sha256 {found} ({len(data)} bytes), {said} in the manifest")


def _compare(decoded: NDArray[np.uint8], original: bytes, row: dict[str, Any], device: torch.device) -> float:
    """MS-SSIM of a decoded image, (H, W, 3) or (H, W), as encoding measured it, less the row's."""
    try:
        pixels = read_photo(original).pixels
    except UnreadablePhotoError as error:
        raise CheckError(Finding.SOURCE_UNREADABLE, str(error)) from error
    if decoded.shape[:2] != pixels.shape[:2]:
        sizes = "{1}x{0} pixels, the original has {3}x{2}".format(*decoded.shape[:2], *pixels.shape[:2])
        raise CheckError(Finding.QUALITY, sizes)
    reference = _planes(pixels, device)
    measured = min(ms_ssim(_planes(decoded, device).expand_as(reference), reference).item(), 1.0)
    difference = measured - float(row["ms_ssim"])
    if abs(difference) > (TOLERANCE if min(pixels.shape[:2]) >= 64 else TOLERANCE_BELOW_64_PIXELS):
        detail = f"{measured:.5f}, {row['ms_ssim']:.5f} in the manifest"
        raise CheckError(Finding.QUALITY, detail, difference)
    return difference


def _planes(pixels: NDArray[np.uint8], device: torch.device) -> torch.Tensor:
    """(1, 3, H, W), or (1, 1, H, W) of a grey image, 0 to 255."""
    planes = np.atleast_3d(pixels).transpose(2, 0, 1)
    return torch.from_numpy(np.ascontiguousarray(planes)).to(device).float()[None]


def _why_not_safe(row: dict[str, Any], notes: Sequence[str]) -> str:
    """Why an original should not go although all is as the manifest says, or nothing.

    Where the settings promised no quality, the default target is asked for.
    """
    target = row["target_ms_ssim"] or DEFAULT_TARGET_MS_SSIM
    if row["ms_ssim"] < target - QUALITY_STEP:
        return f"MS-SSIM below {target}"
    if notes:
        return "more in the original than in the .rgc file: frames, bits or colours"
    if "\n" in row["source_uri"] or "\r" in row["source_uri"]:
        return "a line break in its name, which a list cannot hold"
    return ""


def _full(uri: str) -> str:
    """A list of relative paths would name other files in another folder."""
    return uri if is_remote(uri) else os.path.abspath(uri)


def print_verification(verification: Verification, console: Console) -> None:
    chosen = "" if verification.seed is None else f", chosen by seed {verification.seed}"
    sound = verification.checked - len(verification.mismatches) - len(verification.missing_sources)
    console.print(
        f"verified {verification.checked} of {verification.encoded} encoded photos{chosen}: "
        f"{sound} are as the manifest says, MS-SSIM within {verification.largest_difference:.5f}",
        highlight=False,
    )
    for each in verification.mismatches:
        text = f"mismatch: {each.source_uri}: {each.finding}: {each.detail}"
        console.print(text, highlight=False, markup=False)
    for uri in verification.missing_sources:
        console.print(f"original not there: {uri}", highlight=False, markup=False)


def print_safe_to_delete(verification: Verification, console: Console) -> None:
    console.print(f"{len(verification.safe_to_delete)} originals may go", highlight=False)
    for why, photos in verification.not_safe.items():
        console.print(f"{photos} may not: {why}", highlight=False)

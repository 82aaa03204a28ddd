"""Checks what manifests say: .rgc files are read back, decoded and measured against their originals."""

import hashlib
import io
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

import duckdb
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.progress import track

from model.border import BORDER, border_errors
from model.codec import Codec
from model.files import decode_pixels, with_alpha
from model.format.container import RgcError, RgcFile, read_rgc
from model.ms_ssim import ms_ssim_of_pixels
from model.photos.errors import UnreadablePhotoError
from model.photos.isolation.pool import read_photo_in_child
from model.photos.reading import DecodedPhoto
from model.settings import DEFAULT_TARGET_MS_SSIM
from pipeline.audit.manifests import query
from pipeline.audit.report import LISTED, QUALITY_STEP
from transforms.storage.files import find_status, is_remote, read_bytes

# Another device or floating-point format rounds pixels in another way than the one that encoded them. That
# changed MS-SSIM by up to 0.0001 on photos, and by up to 0.016 on icons, where a few pixels decide (bfloat16
# against float32). A damaged or different image differs by far more.
TOLERANCE = 0.001
TOLERANCE_BELOW_64_PIXELS = 0.02
# The border may be worse than the inside by this factor and so many grey levels. An earlier model's was
# worse by 10 to 40 levels; the shipped one's is by a tenth on camera photos, by a third on Kodak's slides.
BORDER_FACTOR, BORDER_LEVELS = 2.0, 4.0
SECONDS_BETWEEN_LINES = 30.0  # of progress in a log
_BATCH = 1000  # rows held at a time
_THREADS = 16  # that look at originals
_NEEDED = ["source_uri", "rgc_uri", "source_bytes", "source_sha256", "rgc_sha256", "ms_ssim"]
_COLUMNS = [*_NEEDED, "source_fingerprint", "target_ms_ssim"]
# `gcloud storage` takes these for a pattern, or for the beginning of a generation.
_GCLOUD_CHARACTERS = frozenset("*?[]#")
Item = TypeVar("Item")


class Finding(StrEnum):
    """The result of a check."""

    AS_SAID = "as the manifest says"
    ROW_INCOMPLETE = "row incomplete"
    RGC_MISSING = ".rgc file not there"
    RGC_CHANGED = ".rgc file changed"
    RGC_UNREADABLE = ".rgc file does not decode"
    SOURCE_MISSING = "original not there"
    SOURCE_UNREADABLE = "original cannot be read"
    SOURCE_CHANGED = "original changed"
    QUALITY = "MS-SSIM differs"
    BORDER = "wrong at its border"
    NOT_CHECKED = "could not be checked"


@dataclass(frozen=True)
class Check:
    """The check of one photo.

    Attributes:
        detail: the values that differ.
        difference: of the measured MS-SSIM from the row's; None if it was not measured.
        fingerprint: of the original; None unless all is as the manifest says.
        why_not_safe: why the original must stay; empty if it may be deleted.
    """

    source_uri: str
    rgc_uri: str | None
    finding: Finding
    detail: str = ""
    difference: float | None = None
    fingerprint: str | None = None
    why_not_safe: str = ""


@dataclass
class Verification:
    """All checks so far.

    Attributes:
        encoded: encoded photos in the manifests.
        seed: by which the checked photos were chosen; None if all are checked.
        sound: how many are as the manifest says.
        largest_difference: of MS-SSIM, among the sound ones.
        mismatches: checks that found something else.
        missing_sources: photos whose .rgc file decodes, and whose original is gone.
        safe: originals that may be deleted, with their fingerprints.
        not_safe: how many must stay, by reason.
    """

    encoded: int
    seed: int | None
    checked: int = 0
    sound: int = 0
    largest_difference: float = 0.0
    mismatches: list[Check] = field(default_factory=list)
    missing_sources: list[str] = field(default_factory=list)
    safe: dict[str, str] = field(default_factory=dict)
    not_safe: Counter[str] = field(default_factory=Counter)

    def count(self, check: Check) -> None:
        self.checked += 1
        if check.finding is Finding.AS_SAID:
            self.sound += 1
            self.largest_difference = max(self.largest_difference, abs(check.difference or 0.0))
        elif check.finding is Finding.SOURCE_MISSING:
            self.missing_sources.append(check.source_uri)
        else:
            self.mismatches.append(check)
        if check.why_not_safe or check.fingerprint is None:
            self.not_safe[check.why_not_safe] += 1
        else:
            self.safe[check.source_uri] = check.fingerprint

    def drop_changed(self, console: Console | None = None) -> None:
        """Looks again at the originals that may be deleted: hours may have passed since their checks.

        Args:
            console: where progress is shown.
        """
        with ThreadPoolExecutor(_THREADS) as threads:
            looks = threads.map(_why_changed, self.safe, self.safe.values())
            reasons = list(_shown(looks, "looked again at", len(self.safe), console))
        for uri, reason in zip(list(self.safe), reasons, strict=True):
            if reason:
                del self.safe[uri]
                self.sound -= 1
                self.not_safe[Finding.SOURCE_CHANGED] += 1
                self.mismatches.append(Check(uri, None, Finding.SOURCE_CHANGED, f"after its check: {reason}"))

    @property
    def is_complete(self) -> bool:
        """Whether all checked photos are as the manifest says."""
        return self.sound == self.checked

    @property
    def safe_to_delete(self) -> list[str]:
        """Absolute paths: relative ones would name other files in another folder."""
        return sorted({uri if is_remote(uri) else os.path.abspath(uri) for uri in self.safe})

    def summary(self) -> dict[str, Any]:
        """Ready for JSON; originals that may be deleted are only counted."""
        figures = {name: value for name, value in vars(self).items() if name != "safe"}
        mismatches = [asdict(check) for check in self.mismatches]
        return {**figures, "mismatches": mismatches, "safe_to_delete": len(self.safe)}


class CheckError(Exception):
    """A photo is not as its row says."""

    def __init__(self, finding: Finding, detail: str, difference: float | None = None) -> None:
        super().__init__(detail)
        self.finding = finding
        self.difference = difference


def verify(
    database: duckdb.DuckDBPyConnection,
    codec: Codec,
    count: int | None,
    seed: int,
    console: Console | None = None,
) -> Verification:
    """Checks `count` encoded photos, chosen by `seed`, or all if it is None.

    Args:
        database: of `open_manifests`.
        console: where progress is shown.
    """
    chosen = "" if count is None else "ORDER BY md5($seed || source_uri), source_uri LIMIT $count"
    parameters = {} if count is None else {"seed": str(seed), "count": count}
    # All rows are read before the first photo: a damaged manifest must not end what has taken hours.
    database.execute(
        f"CREATE TEMP TABLE chosen AS SELECT {', '.join(_COLUMNS)} FROM latest "
        f"WHERE status = 'encoded' {chosen}",
        parameters,
    )
    counts = "(SELECT count(*) FROM latest WHERE status = 'encoded') AS encoded, count(*) AS chosen"
    (found,) = query(database, f"SELECT {counts} FROM chosen")
    verification = Verification(found["encoded"], None if count is None else seed)
    batches = database.sql("FROM chosen").to_arrow_reader(_BATCH)
    rows = (row for batch in batches for row in batch.to_pylist())
    for row in _shown(rows, "verified", found["chosen"], console):
        verification.count(check(row, codec))
    verification.mismatches.sort(key=lambda each: each.source_uri)
    verification.missing_sources.sort()
    return verification


def _shown(items: Iterable[Item], verb: str, total: int, console: Console | None) -> Iterator[Item]:
    """Shows how many photos are done: a bar on a terminal, a line now and then in a log."""
    if console is None or console.is_terminal:
        yield from track(items, verb, total, console=console, transient=True, disable=console is None)
        return
    next_line = time.monotonic() + SECONDS_BETWEEN_LINES
    for done, item in enumerate(items):
        if time.monotonic() >= next_line:
            console.print(f"{verb} {done} of {total} photos", highlight=False)
            next_line = time.monotonic() + SECONDS_BETWEEN_LINES
        yield item


def check(row: dict[str, Any], codec: Codec) -> Check:
    """Checks one encoded photo: its .rgc file, then its original, then one against the other.

    Stops at the first fault, as others follow from it.
    """
    uris = row["source_uri"], row["rgc_uri"]
    try:
        if missing := [name for name in _NEEDED if row[name] is None]:
            raise CheckError(Finding.ROW_INCOMPLETE, f"no {', '.join(missing)}")
        file, pixels = _read_back(row, codec)
        fingerprint, photo = _read_original(row)
        measured = _compare(pixels, photo.pixels, row, codec.device)
        _check_border(pixels, photo.pixels)
        difference = measured - float(row["ms_ssim"])
        # An earlier rgc may have noted less than this one finds.
        notes = dict.fromkeys([*(file.source.notes if file.source else ()), *photo.notes])
        unsafe = _why_not_safe(row, measured, [*notes, *_differences(file, photo)])
        return Check(*uris, Finding.AS_SAID, "", difference, fingerprint, unsafe)
    except CheckError as error:
        return Check(*uris, error.finding, str(error), error.difference, why_not_safe=error.finding)
    except Exception as error:  # one bad photo never stops a verification
        detail = f"{type(error).__name__}: {error}"
        return Check(*uris, Finding.NOT_CHECKED, detail, why_not_safe=Finding.NOT_CHECKED)


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
        pixels = decode_pixels(codec, file)
        with_alpha(file, pixels)
    except (RgcError, OSError) as error:  # Pillow's of an alpha channel is an OSError
        raise CheckError(Finding.RGC_UNREADABLE, str(error)) from error
    return file, pixels


def _read_original(row: dict[str, Any]) -> tuple[str, DecodedPhoto]:
    """The fingerprint and the content of the original, after checking that it is what was encoded."""
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
    try:
        return status.fingerprint, read_photo_in_child(data)
    except UnreadablePhotoError as error:
        raise CheckError(Finding.SOURCE_UNREADABLE, str(error)) from error


def _compare_sha256(finding: Finding, data: bytes, said: str) -> None:
    if (found := hashlib.sha256(data).hexdigest()) != said:
        raise CheckError(finding, f"sha256 {found} ({len(data)} bytes), {said} in the manifest")


def _compare(
    decoded: NDArray[np.uint8], pixels: NDArray[np.uint8], row: dict[str, Any], device: torch.device
) -> float:
    """MS-SSIM of a decoded image, (H, W, 3) or (H, W), against the original; compares it with the row."""
    if decoded.shape[:2] != pixels.shape[:2]:
        sizes = "{1}x{0} pixels, the original has {3}x{2}".format(*decoded.shape[:2], *pixels.shape[:2])
        raise CheckError(Finding.QUALITY, sizes)
    measured = ms_ssim_of_pixels(decoded, pixels, device)
    difference = measured - float(row["ms_ssim"])
    if abs(difference) > (TOLERANCE if min(pixels.shape[:2]) >= 64 else TOLERANCE_BELOW_64_PIXELS):
        detail = f"{measured:.5f}, {row['ms_ssim']:.5f} in the manifest"
        raise CheckError(Finding.QUALITY, detail, difference)
    return measured


def _check_border(decoded: NDArray[np.uint8], pixels: NDArray[np.uint8]) -> None:
    """MS-SSIM hardly counts the outermost pixels, so they are compared by themselves."""
    border, inside = border_errors(decoded, pixels)
    if border > BORDER_FACTOR * inside + BORDER_LEVELS:
        detail = f"an error of {border:.1f} grey levels in the outermost {BORDER} pixels, {inside:.1f} inside"
        raise CheckError(Finding.BORDER, detail)


def _differences(file: RgcFile, photo: DecodedPhoto) -> Iterator[str]:
    """What differs between the alpha channel and metadata of an original and of its .rgc file."""
    if not np.array_equal(_alpha(file.alpha), _alpha(photo.alpha)):
        yield "its alpha channel"
    ours, theirs = ((each.metadata.blocks if each.metadata else ()) for each in (file, photo))
    if ours != theirs:
        counts = Counter(theirs)
        counts.subtract(ours)
        kinds = {block.kind for block, count in counts.items() if count} or {"their order"}
        yield f"metadata that differs: {', '.join(sorted(kinds))}"


def _alpha(png: bytes) -> NDArray[np.uint8]:
    """The alpha channel in a PNG; without pixels if the image is opaque."""
    if not png:
        return np.empty((0, 0), np.uint8)
    with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
        return np.array(image)


def _why_not_safe(row: dict[str, Any], measured: float, missing: Sequence[str]) -> str:
    """Why an original must stay although all is as the manifest says; empty if it may be deleted.

    The measured MS-SSIM counts, not the manifest's. If the settings have no target, the default one counts.
    """
    target = row["target_ms_ssim"] or DEFAULT_TARGET_MS_SSIM
    if measured < target - QUALITY_STEP:
        return f"MS-SSIM below {target}"
    if missing:
        return f"not in the .rgc file: {'; '.join(missing)}"
    return _why_not_in_a_list(row["source_uri"])


def _why_not_in_a_list(uri: str) -> str:
    """Why `rm` or `gcloud` would misread a line of the list; empty if they would not."""
    if "\n" in uri or "\r" in uri:
        return "a line break in its name, which a list cannot hold"
    if is_remote(uri) and (not _GCLOUD_CHARACTERS.isdisjoint(uri) or uri[-1].isspace()):
        return "*, ?, [, ], # or a space at the end of its name, by which gcloud would delete others"
    return ""


def _why_changed(uri: str, fingerprint: str) -> str:
    try:
        status = find_status(uri)
    except OSError as error:
        return str(error)
    found = "not there" if status is None else f"fingerprint {status.fingerprint}"
    return "" if status and status.fingerprint == fingerprint else f"{found}, {fingerprint} before"


def print_verification(verification: Verification, console: Console) -> None:
    chosen = "" if verification.seed is None else f", chosen by seed {verification.seed}"
    within = f"MS-SSIM within {verification.largest_difference:.5f}"
    console.print(
        f"verified {verification.checked} of {verification.encoded} encoded photos{chosen}: "
        f"{verification.sound} are as the manifest says, {within}",
        highlight=False,
    )
    for each in verification.mismatches:
        text = f"mismatch: {each.source_uri}: {each.finding}: {each.detail}"
        console.print(text, highlight=False, markup=False)
    if missing := verification.missing_sources:
        text = "their originals are not there: deleted, or on a disk that is not mounted?"
        console.print(f"{len(missing)} could not be compared, {text}", highlight=False)
        for uri in missing[:LISTED]:
            console.print(f"original not there: {uri}", highlight=False, markup=False)
        if (more := len(missing) - LISTED) > 0:
            console.print(f"original not there: {more} more")


def print_safe_to_delete(verification: Verification, listed_in: str, console: Console) -> None:
    counted = f"{len(verification.safe)} originals may be deleted, listed in {listed_in}"
    console.print(f"{counted}; their exact pixels are gone then", highlight=False, markup=False)
    for why, photos in verification.not_safe.most_common():
        console.print(f"{photos} must stay: {why}", highlight=False, markup=False)

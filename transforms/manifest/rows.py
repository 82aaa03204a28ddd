"""One row of the manifest."""

import hashlib
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Self
from uuid import uuid4

from model.format.container import RgcFile
from transforms.elements import Encoded, Photo


@dataclass(frozen=True)
class Run:
    """What the rows of one run have in common: its id, its model's id, its settings as canonical JSON."""

    run_id: str
    model: str
    settings: str


def new_run_id() -> str:
    """The id of a run that begins now; ids sort by time."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}-{uuid4().hex[:6]}"


@dataclass(frozen=True, slots=True)  # slots: pickled without the fields' names
class ManifestRow:
    """One row; columns as in `SCHEMA`. What was not measured is None.

    `encode_seconds` is also None if the row was rebuilt from a .rgc file. These hold no times, so that equal
    work gives equal files.
    """

    source_uri: str
    status: str
    source_bytes: int
    source_fingerprint: str
    model: str
    settings: str
    run_id: str
    finished_at: datetime
    saved_bytes: int = 0
    rgc_uri: str | None = None
    reason: str | None = None
    source_format: str | None = None
    width: int | None = None
    height: int | None = None
    rgc_bytes: int | None = None
    source_bits_per_pixel: float | None = None
    bits_per_pixel: float | None = None
    ms_ssim: float | None = None
    iterations: int | None = None
    source_sha256: str | None = None
    rgc_sha256: str | None = None
    encode_seconds: float | None = None

    @classmethod
    def not_encoded(
        cls, run: Run, photo: Photo, status: str, reason: str, content: Encoded | None = None
    ) -> Self:
        """The row of a photo that was `kept` or `failed`, with what is known of it."""
        known: dict[str, Any] = {}
        if content is not None:
            known = {
                "source_format": content.format,
                "width": content.width,
                "height": content.height,
                "source_bits_per_pixel": photo.size * 8 / (content.width * content.height),
                "source_sha256": content.sha256,
                "encode_seconds": content.seconds,
            }
        return cls(
            source_uri=photo.uri,
            status=status,
            reason=reason,
            source_bytes=photo.size,
            source_fingerprint=photo.fingerprint,
            finished_at=datetime.now(UTC),
            **asdict(run),
            **known,
        )

    @classmethod
    def encoded(
        cls,
        run: Run,
        photo: Photo,
        rgc_uri: str,
        file: RgcFile,
        data: bytes,
        finished_at: datetime,
        encode_seconds: float | None,
    ) -> Self:
        """The row of a photo whose .rgc file, `data`, is written."""
        assert file.source is not None
        pixels = file.width * file.height
        return cls(
            source_uri=photo.uri,
            rgc_uri=rgc_uri,
            status="encoded",
            source_format=file.source.format,
            width=file.width,
            height=file.height,
            source_bytes=photo.size,
            rgc_bytes=len(data),
            saved_bytes=photo.size - len(data),
            source_bits_per_pixel=photo.size * 8 / pixels,
            bits_per_pixel=len(data) * 8 / pixels,
            ms_ssim=file.ms_ssim[-1],
            iterations=len(file.codes),
            source_sha256=file.source.sha256,
            source_fingerprint=photo.fingerprint,
            rgc_sha256=hashlib.sha256(data).hexdigest(),
            encode_seconds=encode_seconds,
            finished_at=finished_at,
            **asdict(run),
        )

"""The manifest: one row an input, in Parquet."""

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Self

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from apache_beam.io.filesystems import FileSystems
from apache_beam.io.parquetio import WriteToParquet

from model.container import RgcFile
from transforms.elements import Encoded, Photo
from transforms.storage import escape_glob, join

_LOG = logging.getLogger(__name__)

SCHEMA = pa.schema(
    [
        pa.field("source_uri", pa.string(), nullable=False),
        pa.field("rgc_uri", pa.string()),
        pa.field("status", pa.string(), nullable=False),
        pa.field("reason", pa.string()),
        pa.field("source_format", pa.string()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("source_bytes", pa.int64(), nullable=False),
        pa.field("rgc_bytes", pa.int64()),
        pa.field("saved_bytes", pa.int64(), nullable=False),
        pa.field("source_bits_per_pixel", pa.float64()),
        pa.field("bits_per_pixel", pa.float64()),
        pa.field("ms_ssim", pa.float64()),
        pa.field("iterations", pa.int32()),
        pa.field("source_sha256", pa.string()),
        pa.field("source_fingerprint", pa.string(), nullable=False),
        pa.field("rgc_sha256", pa.string()),
        pa.field("model", pa.string(), nullable=False),
        pa.field("settings", pa.string(), nullable=False),
        pa.field("encode_seconds", pa.float64()),
        pa.field("run_id", pa.string(), nullable=False),
        pa.field("finished_at", pa.timestamp("us", tz="UTC"), nullable=False),
    ]
)


@dataclass(frozen=True)
class Run:
    """What the rows of one run share: its id, its model's id and its settings as canonical JSON."""

    run_id: str
    model: str
    settings: str


@dataclass(frozen=True)
class ManifestRow:
    """One row; columns as in `SCHEMA`. What was not measured is None.

    `encode_seconds` is None, too, where only the .rgc file of an earlier, interrupted run is left:
    it holds no times, so that equal work gives equal files.
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
        """The row of a photo that was `kept` or `failed`, with what is known of its content."""
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
        pixels = file.width * file.height
        return cls(
            source_uri=photo.uri,
            rgc_uri=rgc_uri,
            status="encoded",
            source_format=file.source["format"],
            width=file.width,
            height=file.height,
            source_bytes=photo.size,
            rgc_bytes=len(data),
            saved_bytes=photo.size - len(data),
            source_bits_per_pixel=photo.size * 8 / pixels,
            bits_per_pixel=len(data) * 8 / pixels,
            ms_ssim=file.ms_ssim[-1],
            iterations=len(file.codes),
            source_sha256=file.source["sha256"],
            source_fingerprint=photo.fingerprint,
            rgc_sha256=hashlib.sha256(data).hexdigest(),
            encode_seconds=encode_seconds,
            finished_at=finished_at,
            **asdict(run),
        )


def manifest_folder(output: str) -> str:
    return join(output, "manifest")


def read_rows(output: str, run: Run) -> Iterator[ManifestRow]:
    """The rows of earlier runs into `output` by the same model with the same settings as `run`.

    A Parquet file that cannot be read is passed over.
    """
    pattern = join(escape_glob(manifest_folder(output)), "run=*/*.parquet")
    for file in FileSystems.match([pattern])[0].metadata_list:
        try:
            with FileSystems.open(file.path) as stream:
                # Not read_table: given a path of this shape, it would take `run=` for a column.
                table = pq.ParquetFile(stream).read()
        except (pa.ArrowException, OSError) as error:
            _LOG.warning("%s: cannot be read and is passed over: %s", file.path, error)
            continue
        if table.schema.equals(SCHEMA):
            same_work = (pc.field("model") == run.model) & (pc.field("settings") == run.settings)
            yield from (ManifestRow(**row) for row in table.filter(same_work).to_pylist())
        else:
            _LOG.warning("%s: has other columns than this rgc writes and is passed over", file.path)


class WriteManifest(beam.PTransform):
    """Writes rows to `output`/manifest/run=<id>/."""

    def __init__(self, output: str, run_id: str) -> None:
        super().__init__()
        self._prefix = join(manifest_folder(output), f"run={run_id}/rows")

    def expand(self, rows: beam.PCollection[ManifestRow]) -> Any:
        return (
            rows
            | "ToDict" >> beam.Map(asdict)
            | WriteToParquet(self._prefix, SCHEMA, codec="zstd", file_name_suffix=".parquet")
        )

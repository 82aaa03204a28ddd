"""The manifest: one row an input, in Parquet."""

import hashlib
import logging
import pickle
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Self

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from apache_beam.pvalue import AsSingleton
from apache_beam.transforms.window import GlobalWindows

from model.format.container import RgcFile
from transforms.elements import Encoded, Photo
from transforms.storage.files import join, list_folder, read_bytes, write_bytes

_LOG = logging.getLogger(__name__)

VERSION = 1  # of the columns; the first manifests say none
VERSION_KEY = b"rgc_manifest"
_SUFFIX = ".parquet"
_ROWS_PER_FILE = 20_000  # some 4 MB
_ROWS_PACKED = 250  # at once; until then a worker holds them as objects, 1 kB each, for every file

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
    ],
    metadata={VERSION_KEY: str(VERSION)},
)


@dataclass(frozen=True)
class Run:
    """What the rows of one run share: its id, its model's id and its settings as canonical JSON."""

    run_id: str
    model: str
    settings: str


@dataclass(frozen=True, slots=True)  # slots: pickled without the fields' names
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


def manifest_folder(output: str) -> str:
    return join(output, "manifest")


def manifest_files(manifest: str) -> list[str]:
    """The Parquet files of a manifest: its folder, one run's, the output folder or one file."""
    if manifest.endswith(_SUFFIX):
        return [manifest]
    for folder in (manifest_folder(manifest), manifest):
        if files := sorted(file.uri for file in list_folder(folder) if file.uri.endswith(_SUFFIX)):
            return files
    return []


def read_table(uri: str) -> pa.Table:
    """The rows of one Parquet file.

    Raises:
        OSError, pyarrow.ArrowException: it cannot be read, or is no Parquet.
    """
    # Not pq.read_table: given a path of this shape, it would take `run=` for a column.
    return pq.ParquetFile(pa.BufferReader(read_bytes(uri))).read()


def read_rows(uri: str, run: Run, base: str) -> Iterator[ManifestRow]:
    """What one file of an earlier run says of photos whose URIs begin with `base`.

    Only rows of the same model and settings as `run`'s, and none that `failed`: these are tried again.
    A Parquet file that cannot be read is passed over.
    """
    try:
        table = read_table(uri)
    except (pa.ArrowException, OSError) as error:
        _LOG.warning("%s: cannot be read and is passed over: %s", uri, error)
        return
    if not table.schema.equals(SCHEMA):
        _LOG.warning("%s: has other columns than this rgc writes and is passed over", uri)
        return
    same_work = (pc.field("model") == run.model) & (pc.field("settings") == run.settings)
    of_these = pc.starts_with(pc.field("source_uri"), base)
    for batch in table.filter(same_work & of_these & (pc.field("status") != "failed")).to_batches():
        yield from (ManifestRow(**row) for row in batch.to_pylist())


class WriteManifest(beam.PTransform):
    """Writes rows to `output`/manifest/run=<id>/, so many to a file, each file at once.

    Beam's own WriteToParquet leaves temporary files behind where a run is killed. A row's file
    depends on nothing but its source, so a stage that is tried again replaces what it had written.

    Args:
        photos: one for each row. Their number is known before the first row, so that rows are packed in the
            stages that make them.
    """

    def __init__(self, output: str, run_id: str, photos: beam.PCollection[Photo]) -> None:
        super().__init__()
        self._prefix = join(manifest_folder(output), f"run={run_id}/rows")
        self._photos = photos

    def expand(self, rows: Sequence[beam.PCollection[ManifestRow]]) -> Any:
        count = self._photos | beam.combiners.Count.Globally()
        files = AsSingleton(count | "Files" >> beam.Map(lambda count: -(-count // _ROWS_PER_FILE)))
        packs = [some | f"Pack{number}" >> beam.ParDo(PackRows(), files) for number, some in enumerate(rows)]
        return (
            packs
            | beam.Flatten()
            | "ByFile" >> beam.GroupByKey()
            | "WriteFile" >> beam.Map(_write_file, self._prefix)
        )


class PackRows(beam.DoFn):
    """Rows to (file, packed rows), a tenth of their size: a local runner holds them in memory to the end.

    A file is its number, and how many there are. Rows are in the global window.
    """

    def start_bundle(self) -> None:
        self._rows: dict[tuple[int, int], list[ManifestRow]] = {}

    def process(self, row: ManifestRow, files: int) -> Iterator[tuple[tuple[int, int], bytes]]:
        file = zlib.crc32(row.source_uri.encode()) % files, files
        rows = self._rows.setdefault(file, [])
        rows.append(row)
        if len(rows) == _ROWS_PACKED:
            yield file, _packed(self._rows.pop(file))

    def finish_bundle(self) -> Iterator[Any]:
        for file, rows in self._rows.items():
            yield GlobalWindows.windowed_value_at_end_of_window((file, _packed(rows)))


def _packed(rows: list[ManifestRow]) -> bytes:
    return zlib.compress(pickle.dumps(rows))


def _table(packed: bytes) -> pa.Table:
    rows = pickle.loads(zlib.decompress(packed))
    return pa.table({name: [getattr(row, name) for row in rows] for name in SCHEMA.names}, SCHEMA)


def _write_file(group: tuple[tuple[int, int], Iterable[bytes]], prefix: str) -> str:
    (number, files), packs = group
    table = pa.concat_tables(map(_table, packs))
    buffer = pa.BufferOutputStream()
    pq.write_table(table.sort_by("source_uri"), buffer, compression="zstd")
    uri = f"{prefix}-{number:05}-of-{files:05}{_SUFFIX}"
    write_bytes(uri, buffer.getvalue().to_pybytes())
    return uri

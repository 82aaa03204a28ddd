"""Writing a run's manifest."""

import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.pvalue import AsSingleton
from apache_beam.transforms.window import GlobalWindows

from transforms.elements import Photo
from transforms.manifest.reading import SUFFIX, manifest_folder
from transforms.manifest.rows import ManifestRow
from transforms.manifest.runs import finish_run
from transforms.manifest.schema import SCHEMA
from transforms.storage.files import join, write_bytes

_ROWS_PER_FILE = 20_000  # some 4 MB
_ROWS_PACKED = 250  # at once; until then a worker holds them as objects, 1 kB each, for every file


class WriteRows(beam.PTransform):
    """Writes rows to Parquet files that begin with a prefix, so many to a file, each file at once.

    Gives how many rows were written, in all.

    Beam's own WriteToParquet leaves temporary files behind if a run is killed. Here a row's file depends only
    on its source, so a stage that is tried again replaces what it has written.

    Args:
        schema: of the rows, which have its names as attributes; its first column tells them apart.
        count: of the rows, at least. It is known before the first row, so that rows are packed in the stages
            that make them.
    """

    def __init__(self, prefix: str, schema: pa.Schema, count: beam.PCollection[int]) -> None:
        super().__init__()
        self._prefix = prefix
        self._schema = schema
        self._count = count

    def expand(self, rows: Sequence[beam.PCollection[Any]]) -> beam.PCollection[int]:
        files = AsSingleton(self._count | "Files" >> beam.Map(lambda count: -(-count // _ROWS_PER_FILE)))
        pack = PackRows(self._schema)
        packs = [some | f"Pack{number}" >> beam.ParDo(pack, files) for number, some in enumerate(rows)]
        return (
            packs
            | beam.Flatten()
            | "ByFile" >> beam.GroupByKey()
            | "WriteFile" >> beam.Map(_write_file, self._prefix)
            | "CountRows" >> beam.CombineGlobally(sum)
        )


class PackRows(beam.DoFn):
    """Rows to (file, rows as an Arrow stream). A local runner holds these in memory to the end of the run.

    A file is its number and how many there are. Rows are in the global window.
    """

    def __init__(self, schema: pa.Schema = SCHEMA) -> None:
        self._schema = schema

    def start_bundle(self) -> None:
        self._rows: dict[tuple[int, int], list[Any]] = {}

    def process(self, row: Any, files: int) -> Iterator[tuple[tuple[int, int], bytes]]:
        file = zlib.crc32(getattr(row, self._schema.names[0]).encode()) % files, files
        rows = self._rows.setdefault(file, [])
        rows.append(row)
        if len(rows) == _ROWS_PACKED:
            yield file, _packed(self._rows.pop(file), self._schema)

    def finish_bundle(self) -> Iterator[Any]:
        for file, rows in self._rows.items():
            yield GlobalWindows.windowed_value_at_end_of_window((file, _packed(rows, self._schema)))


def _packed(rows: list[Any], schema: pa.Schema) -> bytes:
    table = pa.table({name: [getattr(row, name) for row in rows] for name in schema.names}, schema)
    buffer = pa.BufferOutputStream()
    with pa.ipc.new_stream(buffer, schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as stream:
        stream.write_table(table)
    return buffer.getvalue().to_pybytes()


def _write_file(group: tuple[tuple[int, int], Iterable[bytes]], prefix: str) -> int:
    """Returns how many rows it has."""
    (number, files), packs = group
    table = pa.concat_tables(pa.ipc.open_stream(pack).read_all() for pack in packs)
    buffer = pa.BufferOutputStream()
    pq.write_table(table.sort_by(table.column_names[0]), buffer, compression="zstd")
    uri = f"{prefix}-{number:05}-of-{files:05}{SUFFIX}"
    write_bytes(uri, buffer.getvalue().to_pybytes())
    return table.num_rows


class WriteManifest(beam.PTransform):
    """Writes a run's rows to `output`/manifest/run=<id>/, and whether these are all.

    Args:
        photos: one for each row, unless the run is stopped.
    """

    def __init__(self, output: str, run_id: str, photos: beam.PCollection[Photo]) -> None:
        super().__init__()
        self._folder = join(manifest_folder(output), f"run={run_id}")
        self._photos = photos

    def expand(self, rows: Sequence[beam.PCollection[ManifestRow]]) -> Any:
        count = self._photos | beam.combiners.Count.Globally()
        written = rows | "Rows" >> WriteRows(join(self._folder, "rows"), SCHEMA, count)
        return written | "Finish" >> beam.Map(finish_run, AsSingleton(count), self._folder)

"""Writing a run's manifest."""

import hashlib
import zlib
from collections.abc import Sequence
from operator import itemgetter
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.pvalue import AsSingleton

from transforms.elements import Photo
from transforms.manifest.reading import SUFFIX, run_folder
from transforms.manifest.rows import ManifestRow
from transforms.manifest.runs import WrittenFile, finish_run
from transforms.manifest.schema import SCHEMA
from transforms.storage.files import join, write_bytes

_ROWS_PER_FILE = 200_000  # some 40 MB; 90 MB in memory
_ROWS_PER_GROUP = 5_000  # `EarlierRows` holds one of each file in memory
_ROWS_PACKED = 1_000  # at once; until then a worker holds them as objects, 1 kB each
_SHARDS = 32  # so many workers at most write rows that were brought together


class TableCoder(beam.coders.Coder):
    """Rows as a compressed Arrow stream: a fifth of what pickling takes."""

    def encode(self, table: pa.Table) -> bytes:
        buffer = pa.BufferOutputStream()
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        with pa.ipc.new_stream(buffer, table.schema, options=options) as stream:
            stream.write_table(table)
        return buffer.getvalue().to_pybytes()

    def decode(self, encoded: bytes) -> pa.Table:
        return pa.ipc.open_stream(encoded).read_all()

    def is_deterministic(self) -> bool:
        return False


beam.coders.registry.register_coder(pa.Table, TableCoder)


def table_of(rows: Sequence[Any], schema: pa.Schema = SCHEMA) -> pa.Table:
    """Rows that have the schema's names as attributes."""
    return pa.table({name: [getattr(row, name) for row in rows] for name in schema.names}, schema)


class WriteRows(beam.PTransform):
    """Writes rows to Parquet files whose names begin with a prefix; gives a `WrittenFile` for each.

    Beam's own WriteToParquet leaves temporary files behind if a run is killed. Here each file is written at
    once. A bundle that is tried again may leave others: `finish_run` deletes them.

    Args:
        schema: of the rows, which have its names as attributes; files are sorted by its first column.
        regroup: brings rows of several bundles together first, for runners whose bundles may be small. A
            local runner would hold all rows in memory for it, and a run that is killed would leave none.
    """

    def __init__(self, prefix: str, schema: pa.Schema, regroup: bool) -> None:
        super().__init__()
        self._prefix = prefix
        self._schema = schema
        self._regroup = regroup

    def expand(self, rows: Sequence[beam.PCollection[Any]]) -> beam.PCollection[WrittenFile]:
        # Batches end with their bundle, so rows are never held longer than that.
        packs = [
            some
            | f"Batch{number}" >> beam.BatchElements(_ROWS_PACKED, _ROWS_PACKED, record_metrics=False)
            | f"Pack{number}" >> beam.Map(table_of, self._schema).with_output_types(pa.Table)
            for number, some in enumerate(rows)
        ]
        if not self._regroup:
            written = [
                some | f"Write{number}" >> WriteTables(f"{self._prefix}{number}")
                for number, some in enumerate(packs)
            ]
            return written | beam.Flatten()
        return (
            packs
            | beam.Flatten()
            | "Shard" >> beam.Map(_with_shard).with_output_types(tuple[int, pa.Table])
            | beam.GroupByKey()
            | "Tables" >> beam.FlatMap(itemgetter(1)).with_output_types(pa.Table)
            | "Write" >> WriteTables(self._prefix)
        )


class WriteTables(beam.PTransform):
    """Writes tables to files, those of a bundle together; gives a `WrittenFile` for each.

    A file is known by its first row, also when its bundle is tried again.
    """

    def __init__(self, prefix: str) -> None:
        super().__init__()
        self._prefix = prefix

    def expand(self, tables: beam.PCollection[pa.Table]) -> beam.PCollection[WrittenFile]:
        together = beam.BatchElements(
            _ROWS_PER_FILE, _ROWS_PER_FILE, element_size_fn=len, record_metrics=False
        )
        return tables | together | beam.Map(_write_file, self._prefix)


def _write_file(tables: Sequence[pa.Table], prefix: str) -> WrittenFile:
    table = pa.concat_tables(tables)
    buffer = pa.BufferOutputStream()
    ordered = table.sort_by(table.column_names[0])
    pq.write_table(ordered, buffer, row_group_size=_ROWS_PER_GROUP, compression="zstd")
    name = hashlib.sha256(str(table[0][0]).encode()).hexdigest()[:16]
    uri = f"{prefix}-{name}{SUFFIX}"
    write_bytes(uri, buffer.getvalue().to_pybytes())
    return WrittenFile(uri, len(table))


def _with_shard(table: pa.Table) -> tuple[int, pa.Table]:
    return zlib.crc32(str(table[0][0]).encode()) % _SHARDS, table


class WriteManifest(beam.PTransform):
    """Writes a run's rows to `output`/manifest/run=<id>/, and whether these are all.

    Args:
        photos: one for each row, unless the run is stopped.
        finished: rows of photos that needed no work, as tables, many at a time.
        regroup: see `WriteRows`.
    """

    def __init__(
        self,
        output: str,
        run_id: str,
        photos: beam.PCollection[Photo],
        finished: beam.PCollection[pa.Table],
        regroup: bool,
    ) -> None:
        super().__init__()
        self._folder = run_folder(output, run_id)
        self._photos = photos
        self._finished = finished
        self._regroup = regroup

    def expand(self, rows: Sequence[beam.PCollection[ManifestRow]]) -> Any:
        count = self._photos | beam.combiners.Count.Globally()
        finished = self._finished | "Finished" >> WriteTables(join(self._folder, "finished"))
        new = rows | "Rows" >> WriteRows(join(self._folder, "rows"), SCHEMA, self._regroup)
        files = (finished, new) | beam.Flatten() | beam.combiners.ToList()
        return files | "Finish" >> beam.Map(finish_run, AsSingleton(count), self._folder)

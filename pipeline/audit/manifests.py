"""Manifests as a database: the files that can be read, and the latest row of each photo."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from transforms.manifest.reading import local_copy, manifest_files
from transforms.manifest.runs import incomplete_runs
from transforms.manifest.schema import SCHEMA, ColumnsError, NewerManifestError, known_columns

_SQL_TYPES = {pa.string(): "VARCHAR", pa.int32(): "INTEGER", pa.int64(): "BIGINT", pa.float64(): "DOUBLE"}
_MEMORY = "1GB"  # for DuckDB; the process has some 500 MB of libraries besides
_MOST_THREADS = 4  # each reads a row group at a time, which all have to fit
_DOWNLOADS = 8  # objects at a time, of a few MB each

# Computed from a row's columns, only where a query asks for it.
_DERIVED = """
    parse_dirpath(source_uri, 'forward_slash') AS folder,
    width::DOUBLE * height / 1e6 AS megapixels,
    TRY((settings->>'$.target_ms_ssim')::DOUBLE) AS target_ms_ssim
"""
# The place of a row: 20 bits for the file, 28 for the row in it.
_POSITION = "(file_index::BIGINT << 28) + file_row_number"
# The latest row of each photo, by run, then by time, as positions. This has to save memory: a photo is 128
# bits of hash instead of a path. Run, time and position are one number (27, 52 and 48 bits), since DuckDB can
# move groups to disk if it wants their largest number, but not their largest tuple.
_WINNERS = """
    CREATE TEMP TABLE {name}_winners AS
    SELECT (max((run_number::HUGEINT << 100) + (epoch_us(finished_at)::HUGEINT << 48) + position)
        & ((1::HUGEINT << 48) - 1))::BIGINT AS position
    FROM {name}_rows
    JOIN (
        SELECT run_id, row_number() OVER (ORDER BY run_id) AS run_number
        FROM (SELECT DISTINCT run_id FROM {name}_rows)
    ) USING (run_id)
    GROUP BY md5_number(source_uri)
"""


class ManifestError(ValueError):
    """A manifest is missing, cannot be read, or was written by a newer rgc."""


class WhereError(ValueError):
    """A condition is not SQL, or does not fit the manifest's columns."""


@dataclass(frozen=True)
class ManifestFile:
    """A Parquet file of a manifest, and what its footer says.

    Attributes:
        path: on this machine.
        rows: their number.
        columns: those of `SCHEMA` that it has.
        run_id: of all of its rows; None if they differ, or the footer does not say.
    """

    uri: str
    path: str
    rows: int
    columns: frozenset[str]
    run_id: str | None


@contextmanager
def open_manifests(manifests: Sequence[str], where: str | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database with the rows of manifests, for as long as the context lasts.

    Its view `latest` has one row for each photo: that of its latest run, and of that run the one finished
    last. The columns are `SCHEMA`'s, null where an early manifest lacks them, and

        folder          source_uri without its last part
        megapixels      width * height / 1e6
        target_ms_ssim  of the row's settings, null if they set none

    Its table `skipped` has `uri` and `reason` of files that are truncated, or are no manifests; its table
    `incomplete` the runs that were stopped, or still go on, with the source and how many files were found
    and finished, null if the run did not get to say so.

    Args:
        manifests: for each its folder, the folder of one run, the output folder or one file; local or gs://.
        where: an SQL condition; `latest` has only rows that meet it.

    Raises:
        ManifestError: no manifest is there, none can be read, or one was written by a newer rgc; inside
            the context, a file is damaged.
        WhereError: `where` is no such condition.
    """
    with new_database() as (database, scratch):
        files = find_manifests(database, manifests, scratch)
        records = {record.run_id: record for each in manifests for record in incomplete_runs(each)}
        rows = [(run.run_id, run.source, run.found, run.rows) for run in records.values()]
        if rows:
            database.executemany("INSERT INTO incomplete VALUES (?, ?, ?, ?)", rows)
        with data_errors(files, where):
            create_latest(database, "latest", files, where=where)
            yield database


@contextmanager
def new_database() -> Iterator[tuple[duckdb.DuckDBPyConnection, str]]:
    """An empty database in memory, and a folder of its own on disk, for as long as the context lasts."""
    with TemporaryDirectory(prefix="rgc-audit-") as scratch:
        config: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": _MEMORY,
            "temp_directory": scratch,
            "threads": min(os.cpu_count() or 1, _MOST_THREADS),
            "preserve_insertion_order": False,
        }
        with duckdb.connect(config=config) as database:
            database.execute("SET TimeZone = 'UTC'")
            database.execute("CREATE TEMP TABLE skipped (uri VARCHAR PRIMARY KEY, reason VARCHAR)")
            columns = "run_id VARCHAR, source VARCHAR, found BIGINT, finished BIGINT"
            database.execute(f"CREATE TEMP TABLE incomplete ({columns})")
            yield database, scratch


def find_manifests(
    database: duckdb.DuckDBPyConnection, manifests: Sequence[str], scratch: str
) -> list[ManifestFile]:
    """The Parquet files of manifests, on this machine; files that are no manifests go to the table `skipped`.

    Args:
        scratch: a folder for copies of objects.

    Raises:
        ManifestError: see `open_manifests`.
    """
    uris = list(dict.fromkeys(uri for manifest in manifests for uri in _list(manifest)))
    with ThreadPoolExecutor(_DOWNLOADS) as threads:
        found = list(threads.map(_inspect, uris, [scratch] * len(uris)))
    files = [file for file in found if isinstance(file, ManifestFile)]
    skipped = [(uri, why) for uri, why in zip(uris, found, strict=True) if isinstance(why, str)]
    if not files:
        uri, why = skipped[0]
        raise ManifestError(f"{uri}: no manifest of rgc: {why} (and of {len(skipped)} files none is)")
    if skipped:
        database.executemany("INSERT OR IGNORE INTO skipped VALUES (?, ?)", skipped)
    return files


def create_latest(
    database: duckdb.DuckDBPyConnection,
    name: str,
    files: Sequence[ManifestFile],
    rows: str = "TRUE",
    where: str | None = None,
) -> None:
    """Makes the view that `open_manifests` describes.

    Args:
        name: of the view.
        rows: an SQL condition: the latest row is chosen among those that meet it.
        where: an SQL condition on the latest rows.

    Raises:
        WhereError: `where` is no condition on the view's columns.
    """
    if _are_one_run(files):
        one_for_each = f"{read_files(files)} WHERE {rows}"
    else:
        one_for_each = _choose_latest(database, name, files, rows)
    if where is not None:
        _check_condition(database, where)
    try:
        # On its own lines, as it may end with a comment.
        condition = "" if where is None else f"WHERE (\n{where}\n)"
        derived = f"SELECT *, {_DERIVED} FROM ({one_for_each})"
        database.execute(f"CREATE VIEW {name} AS SELECT * FROM ({derived}) {condition}")
    except duckdb.Error as error:
        if where is None:
            raise
        raise WhereError(f"{where}: {_message(error)}") from error


def _check_condition(database: duckdb.DuckDBPyConnection, where: str) -> None:
    """Raises WhereError unless `where` is one condition on a row, without queries of its own."""
    try:
        duckdb.SQLExpression(where)  # which takes one expression
    except duckdb.Error as error:
        raise WhereError(f"{where}: {_message(error)}") from error
    (parsed,) = database.execute("SELECT json_serialize_sql(?)", [f"SELECT (\n{where}\n)"]).fetchall()[0]
    if '"SUBQUERY"' in parsed:
        raise WhereError(f"{where}: a condition on rows, without queries of its own")


@contextmanager
def data_errors(files: Sequence[ManifestFile], where: str | None) -> Iterator[None]:
    """Names the file or the condition that causes an error while rows are read."""
    try:
        yield
    except duckdb.DataError as error:  # a failed conversion; a damaged file raises other errors
        if where is None:
            raise
        raise WhereError(f"{where}: {_message(error)}") from error
    except duckdb.Error as error:
        for file in files:
            try:
                for _ in pq.ParquetFile(file.path).iter_batches():
                    pass
            except (pa.ArrowException, OSError) as damage:
                raise ManifestError(f"{file.uri}: damaged: {damage}") from error
        if isinstance(error, duckdb.OperationalError):  # neither memory nor disk suffices
            raise ManifestError(_message(error)) from error
        if where is not None:
            raise WhereError(f"{where}: {_message(error)}") from error
        raise


def query(database: duckdb.DuckDBPyConnection, sql: str) -> list[dict[str, Any]]:
    """The rows of a query."""
    table: pa.Table = database.sql(sql).to_arrow_table()
    return table.to_pylist()


def read_files(files: Sequence[ManifestFile], extra: str = "") -> str:
    """A query for all rows of files, with `SCHEMA`'s columns and `extra` ones of DuckDB's."""
    present = frozenset().union(*(file.columns for file in files))
    columns = [
        field.name if field.name in present else f"NULL::{_SQL_TYPES[field.type]} AS {field.name}"
        for field in SCHEMA
    ]
    paths = ", ".join(literal(file.path) for file in files)
    mixed = len({file.columns for file in files}) > 1
    return (
        f"SELECT {', '.join([*columns, *filter(None, [extra])])} "
        f"FROM read_parquet([{paths}], hive_partitioning = false, union_by_name = {mixed})"
    )


def literal(text: str) -> str:
    """A text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def manifest_uris(manifest: str) -> list[str]:
    """Its Parquet files; none if it is no manifest. Raises ManifestError if it cannot be listed."""
    try:
        return manifest_files(manifest)
    except (OSError, ValueError) as error:
        raise ManifestError(str(error)) from error


def _list(manifest: str) -> list[str]:
    files = manifest_uris(manifest)
    if not files and (stopped := incomplete_runs(manifest)):
        runs = ", ".join(run.run_id for run in stopped)
        raise ManifestError(f"{manifest}: no rows: run {runs} was stopped, or still goes on")
    if not files:
        raise ManifestError(f"{manifest}: no Parquet file there, in run=*/ or in manifest/run=*/")
    return files


def _inspect(uri: str, scratch: str) -> ManifestFile | str:
    """A manifest's file, or the reason why it is none."""
    try:
        return _read_footer(uri, local_copy(uri, scratch))
    except (pa.ArrowException, OSError, ColumnsError) as error:
        return " ".join(str(error).removeprefix(f"{uri}: ").split())


def _read_footer(uri: str, path: str) -> ManifestFile:
    metadata = pq.read_metadata(path)
    schema = metadata.schema.to_arrow_schema().with_metadata(metadata.metadata)
    try:
        present = known_columns(schema)
    except NewerManifestError as error:
        raise ManifestError(f"{uri}: {error}") from error
    for name in present:
        if not SCHEMA.field(name).nullable and (rows := _rows_without(name, metadata)):
            raise ColumnsError(f"{rows} rows without {name}, or without statistics of it")
    return ManifestFile(uri, path, metadata.num_rows, frozenset(present), _only_run_id(metadata))


def _rows_without(column: str, metadata: pq.FileMetaData) -> int:
    """Rows with null in the column; rows that the footer does not count are counted as such."""
    index = metadata.schema.names.index(column)
    if metadata.schema.column(index).max_definition_level == 0:  # a required one
        return 0
    groups = [metadata.row_group(number).column(index) for number in range(metadata.num_row_groups)]
    counts = ((group.statistics, group.num_values) for group in groups)
    return sum(known.null_count if known and known.has_null_count else rows for known, rows in counts)


def _only_run_id(metadata: pq.FileMetaData) -> str | None:
    column = metadata.schema.names.index("run_id")
    bounds: set[str] = set()
    for group in range(metadata.num_row_groups):
        statistics = metadata.row_group(group).column(column).statistics
        if statistics is None or not statistics.has_min_max:
            return None
        bounds |= {statistics.min, statistics.max}
    return bounds.pop() if len(bounds) == 1 else None


def _are_one_run(files: Sequence[ManifestFile]) -> bool:
    """Whether each photo has one row at most. A run writes one, but there may be copies of a run."""
    same_run = len({file.run_id for file in files}) == 1 and files[0].run_id is not None
    return same_run and len({os.path.dirname(file.uri) for file in files}) == 1


def _choose_latest(
    database: duckdb.DuckDBPyConnection, name: str, files: Sequence[ManifestFile], rows: str
) -> str:
    """A query for the latest row of each photo.

    Rows have to be looked up one by one only in files that hold both latest and older rows.
    """
    positions = f"{read_files(files, f'file_index, {_POSITION} AS position')} WHERE {rows}"
    database.execute(f"CREATE VIEW {name}_rows AS {positions}")
    database.execute(_WINNERS.format(name=name))
    counts = f"SELECT position >> 28, count(*) FROM {name}_winners GROUP BY 1"
    winners = dict(database.execute(counts).fetchall())
    whole = [files[index] for index, count in winners.items() if count == files[index].rows]
    mixed = [str(index) for index, count in winners.items() if count != files[index].rows]
    queries = [read_files(whole)] if whole else []
    if mixed:
        among = f"({', '.join(mixed)})"
        database.execute(f"DELETE FROM {name}_winners WHERE position >> 28 NOT IN {among}")
        queries.append(
            f"SELECT {', '.join(SCHEMA.names)} FROM {name}_rows SEMI JOIN {name}_winners USING (position) "
            f"WHERE file_index IN {among}"
        )
    return " UNION ALL ".join(queries) or f"{read_files(files)} WHERE FALSE"


def _message(error: duckdb.Error) -> str:
    """DuckDB's message in one line, without the query that it quotes."""
    return " ".join(str(error).partition("\n\nLINE ")[0].split())

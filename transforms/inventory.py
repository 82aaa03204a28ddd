"""An inventory of a bucket: a list of its objects, as Google's Storage Insights inventory reports make it."""

import re
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from pyarrow import csv

from transforms.storage.files import find_status, join, list_folder, read_bytes
from transforms.storage.gcs import SCHEME

_COLUMNS = ["bucket", "name", "size", "generation", "crc32c"]
_SUFFIXES = (".csv", ".parquet")
_ROWS = 50_000  # in memory at a time, besides the file
_CSV = ds.CsvFileFormat(
    convert_options=csv.ConvertOptions(column_types=dict.fromkeys(_COLUMNS, pa.string())),
    read_options=csv.ReadOptions(block_size=1 << 23),
)
_CRC32C = re.compile(r"[A-Za-z0-9+/]{6}==")


class InventoryError(ValueError):
    """A file is no inventory, or what is wrong with it."""


def inventory_files(inventory: str) -> list[str]:
    """The CSV and Parquet files of an inventory: one file, or all below a folder or prefix.

    Raises:
        FileNotFoundError: there are none.
    """
    if inventory.endswith(_SUFFIXES) and find_status(inventory) is not None:
        return [inventory]
    if files := sorted(file.uri for file in list_folder(inventory) if file.uri.endswith(_SUFFIXES)):
        return files
    raise FileNotFoundError(f"{inventory}: no .csv or .parquet file, and none is below it")


def read_inventory(uri: str, source: str) -> Iterator[tuple[str, int, str]]:
    """URI, size and fingerprint of each object below a gs:// prefix, in order within each 50,000 or so.

    Columns bucket, name, size, generation and crc32c (in base64) are needed, by name; others are not read.

    Raises:
        InventoryError: it lacks a column, or a value is none of an object.
        OSError: it cannot be read.
    """
    bucket, _, prefix = join(source, "").removeprefix(SCHEME).partition("/")
    kind = ds.ParquetFileFormat() if uri.endswith(".parquet") else _CSV
    try:
        file = kind.make_fragment(pa.py_buffer(read_bytes(uri)))
        if missing := [name for name in _COLUMNS if name not in file.physical_schema.names]:
            names = ", ".join(file.physical_schema.names)
            raise InventoryError(f"{uri}: no column {', '.join(missing)} among {names}")
        for batch in file.to_batches(columns=_COLUMNS, batch_size=_ROWS):
            rows = pa.table([column.cast(pa.string()) for column in batch.columns], _COLUMNS)
            below = (pc.field("bucket") == bucket) & pc.starts_with(pc.field("name"), prefix)
            for row in rows.filter(below).sort_by("name").to_pylist():
                yield _object(uri, **row)
    except pa.ArrowException as error:
        why = str(error).rpartition(": Invalid: ")[2]  # without the buffer's name
        raise InventoryError(f"{uri}: no inventory: {why}") from error


def _object(
    uri: str, bucket: str, name: str, size: str, generation: str, crc32c: str
) -> tuple[str, int, str]:
    if not (_is_number(size) and _is_number(generation) and _CRC32C.fullmatch(crc32c or "")):
        values = f"size {size}, generation {generation}, crc32c {crc32c}"
        raise InventoryError(f"{uri}: {name}: {values}: two whole numbers and a base64 checksum are needed")
    return f"{SCHEME}{bucket}/{name}", int(size), f"{generation}-{size}-{crc32c}"


def _is_number(text: str | None) -> bool:
    return text is not None and text.isdecimal()

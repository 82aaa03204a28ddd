"""Finding and reading manifests."""

import logging
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from transforms.manifest.rows import ManifestRow, Run
from transforms.manifest.schema import SCHEMA
from transforms.storage.files import join, list_folder, read_bytes

_LOG = logging.getLogger(__name__)

SUFFIX = ".parquet"


def manifest_folder(output: str) -> str:
    return join(output, "manifest")


def manifest_files(manifest: str) -> list[str]:
    """The Parquet files of a manifest: of its folder, one run's folder, the output folder, or one file."""
    if manifest.endswith(SUFFIX):
        return [manifest]
    for folder in (manifest_folder(manifest), manifest):
        if files := sorted(file.uri for file in list_folder(folder) if file.uri.endswith(SUFFIX)):
            return files
    return []


def read_table(uri: str) -> pa.Table:
    """The rows of one Parquet file.

    Raises:
        OSError, pyarrow.ArrowException: it cannot be read, or is no Parquet.
    """
    # Not pq.read_table: it would take `run=` in the path for a column.
    return pq.ParquetFile(pa.BufferReader(read_bytes(uri))).read()


def read_rows(uri: str, run: Run, base: str) -> Iterator[ManifestRow]:
    """Rows of one file of an earlier run: photos whose URIs begin with `base`, model and settings as `run`'s.

    Rows that `failed` are left out: these photos are tried again. So are files that cannot be read.
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

"""Finding and reading manifests."""

from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from transforms.storage.files import is_remote, join, list_folder, read_bytes

SUFFIX = ".parquet"


def manifest_folder(output: str) -> str:
    return join(output, "manifest")


def run_folder(output: str, run_id: str) -> str:
    """Where a run's rows lie, and what it says of itself."""
    return join(manifest_folder(output), f"run={run_id}")


def manifest_files(manifest: str) -> list[str]:
    """The Parquet files of a manifest: of its folder, one run's folder, the output folder, or one file."""
    return [manifest] if manifest.endswith(SUFFIX) else files_ending(SUFFIX, manifest)


def files_ending(ending: str, manifest: str) -> list[str]:
    """The files of such an ending in a manifest's folder, one run's folder or the output folder."""
    for folder in (manifest_folder(manifest), manifest):
        if files := sorted(file.uri for file in list_folder(folder) if file.uri.endswith(ending)):
            return files
    return []


def local_copy(uri: str, folder: str) -> str:
    """A path of the file on this machine: its own, or that of a copy in `folder`. Raises OSError."""
    if not is_remote(uri):
        return uri
    path = Path(folder, f"{uuid4().hex}{SUFFIX}")
    path.write_bytes(read_bytes(uri))
    return str(path)


def read_table(uri: str) -> pa.Table:
    """The rows of one Parquet file.

    Raises:
        OSError, pyarrow.ArrowException: it cannot be read, or is no Parquet.
    """
    # Not pq.read_table: it would take `run=` in the path for a column.
    return pq.ParquetFile(pa.BufferReader(read_bytes(uri))).read()

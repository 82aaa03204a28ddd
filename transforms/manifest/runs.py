"""A run's record beside its rows: what it was to do, and whether it has come to its end."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from transforms.attempts import remove_words
from transforms.manifest.reading import SUFFIX, files_ending
from transforms.storage.files import delete_if_there, join, list_folder, read_bytes, write_bytes

_NAME = "run.json"


@dataclass(frozen=True)
class RunRecord:
    """A run of `rgc compress`, from its start on.

    Attributes:
        found: how many files its INPUT had; None until the run has come to its end.
        rows: how many its manifest has; fewer than `found` if the run was stopped.
    """

    run_id: str
    source: str
    model: str
    settings: str
    found: int | None = None
    rows: int | None = None

    @property
    def work(self) -> tuple[str, str, str]:
        """What the run was to do: runs of equal work leave equal rows."""
        return self.source, self.model, self.settings

    @property
    def is_complete(self) -> bool:
        return self.found is not None and self.found == self.rows


def begin_run(folder: str, record: RunRecord) -> None:
    """Writes a run's record into the folder of its manifest, before anything else is there.

    Raises:
        OSError: it cannot be written.
    """
    write_bytes(join(folder, _NAME), json.dumps(asdict(record)).encode())


@dataclass(frozen=True)
class WrittenFile:
    """A Parquet file of a run, and how many rows it has."""

    uri: str
    rows: int


def finish_run(files: Sequence[WrittenFile], found: int, folder: str) -> None:
    """Completes a run's record.

    Other Parquet files in its folder are deleted first: a bundle that was tried again may have left them.
    Word of attempts is removed last, and only if all photos have a row: the others may be tried again.
    """
    written = {file.uri for file in files}
    for file in list_folder(folder):
        if file.uri.endswith(SUFFIX) and file.uri not in written:
            delete_if_there(file.uri)
    try:
        record = RunRecord(**json.loads(read_bytes(join(folder, _NAME))))
    except (FileNotFoundError, ValueError, TypeError):  # nobody has said that it began
        return
    record = replace(record, found=found, rows=sum(file.rows for file in files))
    begin_run(folder, record)
    if record.is_complete:
        remove_words(folder)


def newest_files(manifest: str, wanted: RunRecord) -> list[str]:
    """The Parquet files that tell what earlier runs of the same work have done, the latest run's first.

    A complete run of the same source knows all that earlier runs knew, so these are not read. Runs of an
    earlier rgc have left no record, but their rows name model and settings.

    Args:
        manifest: the folder of all runs.
        wanted: of the run that asks. Its own files are left out.
    """
    runs: defaultdict[str, list[str]] = defaultdict(list)
    for file in list_folder(manifest):
        folder, _, name = file.uri.rpartition("/")
        if name == _NAME or name.endswith(SUFFIX):
            runs[folder].append(file.uri)
    found: list[str] = []
    for folder in sorted(runs, reverse=True):
        record = _read(join(folder, _NAME)) if join(folder, _NAME) in runs[folder] else None
        same_work = record is None or (record.model, record.settings) == (wanted.model, wanted.settings)
        if same_work and not folder.endswith(f"/run={wanted.run_id}"):
            found += sorted(uri for uri in runs[folder] if uri.endswith(SUFFIX))
            if record is not None and record.is_complete and record.source == wanted.source:
                break
    return found


def incomplete_runs(manifest: str) -> list[RunRecord]:
    """Runs that were stopped, or still go on, and have no later, complete run of the same work.

    Runs of an earlier rgc have left no record.

    Args:
        manifest: as `manifest_files` takes it.
    """
    if manifest.endswith(SUFFIX):
        uris = [f"{manifest.rpartition('/')[0] or '.'}/{_NAME}"]
    else:
        uris = files_ending(f"/{_NAME}", manifest)
    in_order = sorted(filter(None, map(_read, uris)), key=lambda record: record.run_id)
    complete = {record.work: record.run_id for record in in_order if record.is_complete}
    return [r for r in in_order if not r.is_complete and r.run_id > complete.get(r.work, "")]


def _read(uri: str) -> RunRecord | None:
    try:
        record = RunRecord(**json.loads(read_bytes(uri)))
    except (OSError, ValueError, TypeError):
        return None
    return record if all(isinstance(value, str) for value in (record.run_id, record.source)) else None

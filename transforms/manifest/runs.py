"""What a run says of itself beside its rows: of what it is, and whether it came to its end."""

import json
from dataclasses import asdict, dataclass, replace

from transforms.storage.files import join, list_folder, read_bytes, write_bytes

_NAME = "run.json"


@dataclass(frozen=True)
class RunRecord:
    """A run of `rgc compress`, from its start on.

    Attributes:
        found: files that it was to see to; None until it has come to its end.
        rows: of its manifest; fewer where it was stopped before.
    """

    run_id: str
    source: str
    model: str
    settings: str
    found: int | None = None
    rows: int | None = None

    @property
    def is_complete(self) -> bool:
        return self.found is not None and self.found == self.rows


def begin_run(folder: str, record: RunRecord) -> None:
    """Leaves a record in the folder of a run's manifest, before there is anything else of it.

    Raises:
        OSError: it cannot be written.
    """
    write_bytes(join(folder, _NAME), json.dumps(asdict(record)).encode())


def finish_run(rows: int, found: int, folder: str) -> int:
    """Says in a run's record what it has come to; returns how many rows there are."""
    try:
        record = RunRecord(**json.loads(read_bytes(join(folder, _NAME))))
    except (FileNotFoundError, ValueError, TypeError):  # nobody has said that it began
        return rows
    begin_run(folder, replace(record, found=found, rows=rows))
    return rows


def incomplete_runs(manifest: str) -> list[RunRecord]:
    """Runs that were stopped, or still go on, and that no later run has made good.

    A later one has that is complete, of the same source, model and settings. Runs of an earlier rgc have left
    no record.

    Args:
        manifest: as `manifest_files` takes it.
    """
    records = [record for record in map(_read, _records(manifest)) if record is not None]
    complete: dict[tuple[str, str, str], str] = {}
    for record in records:
        if record.is_complete:
            work = (record.source, record.model, record.settings)
            complete[work] = max(complete.get(work, ""), record.run_id)
    return sorted(
        (
            record
            for record in records
            if not record.is_complete
            and record.run_id > complete.get((record.source, record.model, record.settings), "")
        ),
        key=lambda record: record.run_id,
    )


def _records(manifest: str) -> list[str]:
    if manifest.endswith(".parquet"):
        return [f"{manifest.rpartition('/')[0] or '.'}/{_NAME}"]
    for folder in (join(manifest, "manifest"), manifest):
        if records := [file.uri for file in list_folder(folder) if file.uri.endswith(f"/{_NAME}")]:
            return records
    return []


def _read(uri: str) -> RunRecord | None:
    try:
        record = RunRecord(**json.loads(read_bytes(uri)))
    except (OSError, ValueError, TypeError):
        return None
    return record if all(isinstance(value, str) for value in (record.run_id, record.source)) else None

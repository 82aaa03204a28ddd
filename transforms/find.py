"""Stage 1: lists the input."""

import os
from collections.abc import Iterator

import apache_beam as beam
from apache_beam.io.filesystem import FileMetadata
from apache_beam.io.filesystems import FileSystems

from transforms.elements import Photo
from transforms.storage import OUTPUT_FOLDERS, escape_glob, is_glob, join


def find_files(source: str, suffix: str = "") -> Iterator[Photo]:
    """The files of a folder (all the way down), a glob, an object-store prefix, or one file.

    What cannot be looked at (a folder without permission, a link to nothing, a name that is not
    UTF-8) is there too, as `unreadable`. Links to folders are not followed.

    Args:
        source: a path or URI.
        suffix: only names that end so.

    Raises:
        FileNotFoundError: nothing is there.
    """
    if os.path.isdir(source):
        found = _walk(source)
    else:
        base, metadata = _match(source)
        if not metadata:
            raise FileNotFoundError(f"{source}: no such file or folder, and no file matches it")
        found = (
            _photo(file.path, base, file.size_in_bytes, file.last_updated_in_seconds) for file in metadata
        )
    return (photo for photo in found if photo.uri.endswith(suffix) or photo.unreadable)


def _walk(folder: str) -> Iterator[Photo]:
    """The files of a local folder. Beam's own listing leaves out what it cannot look at."""
    errors: list[OSError] = []
    for parent, folders, names in os.walk(folder, onerror=errors.append):
        folders.sort()
        for name in sorted(names):
            path = join(parent, name)
            try:
                status = os.stat(path)
                yield _photo(path, folder, status.st_size, status.st_mtime)
            except OSError as error:
                yield _unreadable(path, folder, str(error))
    for denied in errors:
        yield _unreadable(str(denied.filename), folder, str(denied))


def _photo(path: str, base: str, size: int, modified: float | None) -> Photo:
    try:
        path.encode()
    except UnicodeEncodeError:  # neither Beam nor Parquet can hold it
        return _unreadable(path, base, "its name is not UTF-8")
    return Photo(path, _relative(path, base), size, f"{size}-{modified or 0:.6f}")


def _unreadable(path: str, base: str, reason: str) -> Photo:
    path = os.fsencode(path).decode(errors="backslashreplace")
    return Photo(path, _relative(path, base), 0, "", reason)


def _relative(path: str, base: str) -> str:
    return path.removeprefix(base).lstrip("/")


def _match(source: str) -> tuple[str, list[FileMetadata]]:
    """What `source` names, and the part of each path that is not the file's own name."""
    if "/" not in source:
        source = f"./{source}"  # else Beam finds no folder to look in
    if is_glob(source) and not os.path.exists(source):
        fixed = source[: min(source.find(c) for c in "*?[" if c in source)]
        return fixed[: fixed.rfind("/") + 1], _list(source)
    if file := _list(escape_glob(source)):
        return source[: source.rfind("/") + 1], file
    return join(source, ""), _list(join(escape_glob(source), "**"))


def _list(pattern: str) -> list[FileMetadata]:
    return FileSystems.match([pattern])[0].metadata_list


class FindPhotos(beam.PTransform):
    """One `Photo` for each file below `source`, except what rgc itself has written to `output`."""

    def __init__(self, source: str, output: str) -> None:
        super().__init__()
        self._source = source
        self._outputs = tuple(_absolute(join(output, f"{folder}/")) for folder in OUTPUT_FOLDERS)

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection[Photo]:
        outputs = self._outputs
        return (
            pipeline
            | beam.Create([self._source])
            | "List" >> beam.FlatMap(find_files)
            | "NotOutput" >> beam.Filter(lambda photo: not _absolute(photo.uri).startswith(outputs))
        )


def _absolute(uri: str) -> str:
    """A local path in full, whatever way it was written; a URI as it is."""
    if "://" in uri:
        return uri
    return os.path.abspath(uri) + ("/" if uri.endswith("/") else "")

"""Stage 1: lists the input."""

import os
from collections.abc import Iterator
from itertools import chain

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems

from transforms.elements import Photo
from transforms.storage import (
    OUTPUT_FOLDERS,
    Status,
    find_status,
    is_glob,
    is_remote,
    join,
    list_folder,
    list_glob,
    local_status,
)


def find_files(source: str, suffix: str = "") -> Iterator[Photo]:
    """The files of a folder (all the way down), a glob, a gs:// prefix, or one file.

    What cannot be looked at (a folder without permission, a link to nothing, a name that is not
    UTF-8) is there too, as `unreadable`. Links to folders are not followed. Listing streams.

    Args:
        source: a path or URI.
        suffix: only names that end so.

    Raises:
        FileNotFoundError: nothing is there.
    """
    found = _find_objects(source) if is_remote(source) else _find_local(source)
    return (photo for photo in found if photo.uri.endswith(suffix) or photo.unreadable)


def _find_objects(source: str) -> Iterator[Photo]:
    if (status := find_status(source)) is not None:
        return iter([_photo(status, _folder_of(source))])
    pattern = is_glob(source)
    base, objects = (_fixed_part(source), list_glob(source)) if pattern else (source, list_folder(source))
    if (first := next(objects, None)) is None:
        raise FileNotFoundError(f"{source}: no such object, and none is below it or matches it")
    return (_photo(status, base) for status in chain([first], objects))


def _find_local(source: str) -> Iterator[Photo]:
    if os.path.isdir(source):
        return _walk(source)
    if os.path.exists(source):
        return iter([_look(source, _folder_of(source))])
    if "/" not in source:
        source = f"./{source}"  # else Beam finds no folder to look in
    files = FileSystems.match([source])[0].metadata_list if is_glob(source) else []
    if not files:
        raise FileNotFoundError(f"{source}: no such file or folder, and no file matches it")
    return (_look(file.path, _fixed_part(source)) for file in files)


def _fixed_part(pattern: str) -> str:
    """The folder that everything that matches a pattern lies below."""
    return _folder_of(pattern[: min(pattern.find(c) for c in "*?[" if c in pattern)])


def _folder_of(source: str) -> str:
    return source[: source.rfind("/") + 1]


def _walk(folder: str) -> Iterator[Photo]:
    errors: list[OSError] = []
    for parent, folders, names in os.walk(folder, onerror=errors.append):
        folders.sort()
        for name in sorted(names):
            yield _look(join(parent, name), folder)
    for denied in errors:
        yield _unreadable(str(denied.filename), folder, str(denied))


def _look(path: str, base: str) -> Photo:
    try:
        return _photo(local_status(path), base)
    except OSError as error:
        return _unreadable(path, base, str(error))


def _photo(status: Status, base: str) -> Photo:
    try:
        status.uri.encode()
    except UnicodeEncodeError:  # neither Beam nor Parquet can hold it
        return _unreadable(status.uri, base, "its name is not UTF-8")
    return Photo(status.uri, _relative(status.uri, base), status.size, status.fingerprint)


def _unreadable(path: str, base: str, reason: str) -> Photo:
    path = os.fsencode(path).decode(errors="backslashreplace")
    return Photo(path, _relative(path, base), 0, "", reason)


def _relative(path: str, base: str) -> str:
    return path.removeprefix(base).lstrip("/")


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

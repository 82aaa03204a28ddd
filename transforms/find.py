"""Stage 1: lists the input."""

import os
from collections.abc import Iterator
from itertools import chain

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems

from transforms.elements import Photo
from transforms.storage.files import (
    OUTPUT_FOLDERS,
    Status,
    find_status,
    is_glob,
    is_remote,
    is_utf8,
    join,
    list_folder,
    list_glob,
    local_status,
)


def find_files(source: str, suffix: str = "") -> Iterator[Photo]:
    """The files of a folder (all the way down), a glob, a gs:// prefix, or one file.

    What cannot be looked at (a folder without permission, a link to nothing, a name that is not
    UTF-8 or no path) is there too, as `unreadable`. Links to folders are not followed. Listing streams.

    Args:
        source: a path or URI. What is there under this very name comes before what matches it as a glob.
        suffix: only names that end so.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: `source` is neither a local path nor gs://.
    """
    _, found = _find(source)
    return (photo for photo in found if photo.uri.endswith(suffix) or photo.unreadable)


def base_of(source: str) -> str:
    """What comes before `relative` in the `uri` of everything that `find_files` finds; raises as it does."""
    base, _ = _find(source)
    return base


def _find(source: str) -> tuple[str, Iterator[Photo]]:
    return _find_objects(source) if is_remote(source) else _find_local(source)


def _find_objects(source: str) -> tuple[str, Iterator[Photo]]:
    # An object called "photos/" is what stores make for an empty folder: photos are below it.
    if not source.endswith("/") and (status := find_status(source)) is not None:
        base = _folder_of(source)
        return base, iter([_photo(status, base)])
    base, objects = join(source, ""), list_folder(source)
    first = next(objects, None)
    if first is None and is_glob(source):
        base, objects = _fixed_part(source), list_glob(source)
        first = next(objects, None)
    if first is None:
        raise FileNotFoundError(f"{source}: no such object, and none is below it or matches it")
    return base, (_photo(status, base) for status in chain([first], objects))


def _find_local(source: str) -> tuple[str, Iterator[Photo]]:
    if os.path.isdir(source):
        return join(source, ""), _walk(source)
    if os.path.exists(source):
        base = _folder_of(source)
        return base, iter([_look(source, base)])
    if "/" not in source:
        source = f"./{source}"  # else Beam finds no folder to look in
    files = FileSystems.match([source])[0].metadata_list if is_glob(source) else []
    if not files:
        raise FileNotFoundError(f"{source}: no such file or folder, and no file matches it")
    base = _fixed_part(source)
    return base, (_look(file.path, base) for file in files)


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
            yield _look(join(parent, name), join(folder, ""))
    for denied in errors:
        yield _unreadable(str(denied.filename), join(folder, ""), str(denied))


def _look(path: str, base: str) -> Photo:
    try:
        return _photo(local_status(path), base)
    except OSError as error:
        return _unreadable(path, base, str(error))


def _photo(status: Status, base: str) -> Photo:
    if not is_utf8(status.uri):  # neither Beam nor Parquet can hold it
        return _unreadable(status.uri, base, "its name is not UTF-8")
    relative = status.uri.removeprefix(base)
    reason = ""
    if not {"", ".", ".."}.isdisjoint(relative.split("/")):
        # An object may be called so. As a path, a//b is a/b, and ../b lies outside OUTPUT.
        reason = f"{relative}: an empty part, . or .. in a name makes it no path"
    return Photo(status.uri, relative, status.size, status.fingerprint, reason)


def _unreadable(path: str, base: str, reason: str) -> Photo:
    path = os.fsencode(path).decode(errors="backslashreplace")
    return Photo(path, path.removeprefix(base), 0, "", reason)


class FindPhotos(beam.PTransform):
    """One `Photo` for each file below `source`, except what rgc itself has written to `output`.

    Local paths are absolute, else what lies in `output` would not be known by its name.
    """

    def __init__(self, source: str, output: str) -> None:
        super().__init__()
        self._source = source
        self._outputs = tuple(join(output, f"{folder}/") for folder in OUTPUT_FOLDERS)

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection[Photo]:
        outputs = self._outputs
        return (
            pipeline
            | beam.Create([self._source])
            | "List" >> beam.FlatMap(find_files)
            | "NotOutput" >> beam.Filter(lambda photo: not photo.uri.startswith(outputs))
        )

"""Stage 1: lists the input."""

import os
from collections.abc import Iterator
from dataclasses import dataclass

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems

from transforms.elements import Photo
from transforms.storage.files import (
    OUTPUT_FOLDERS,
    find_status,
    is_glob,
    is_remote,
    is_utf8,
    join,
    list_folder,
)
from transforms.storage.gcs import list_glob
from transforms.storage.local import status_of
from transforms.storage.status import Status


@dataclass(frozen=True)
class Source:
    """What INPUT names. It was there when it was looked up.

    Attributes:
        uri: the folder, gs:// prefix, glob or file.
        base: what comes before `relative` in the URI of every file of it.
        kind: "folder", "glob" or "file"; a prefix is a folder.
    """

    uri: str
    base: str
    kind: str


def find_source(uri: str) -> Source:
    """Looks up a path or URI. A file or folder of that very name comes before a glob.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: it is neither a local path nor gs://.
    """
    return _find_objects(uri) if is_remote(uri) else _find_local(uri)


def list_source(source: Source, suffix: str = "") -> Iterator[Photo]:
    """The files of a source, all the way down. Links to folders come last; no folder is listed twice.

    Folders without permission, links to nothing and names that are not UTF-8 or no paths are listed as
    `unreadable`.

    Args:
        suffix: only names that end so.
    """
    found = _list_objects(source) if is_remote(source.uri) else _list_local(source)
    return (photo for photo in found if photo.uri.endswith(suffix) or photo.unreadable)


def find_files(uri: str, suffix: str = "") -> Iterator[Photo]:
    """`list_source` of `find_source`."""
    return list_source(find_source(uri), suffix)


def _find_objects(uri: str) -> Source:
    # Stores make an object called "photos/" for an empty folder. Photos are below it.
    if not uri.endswith("/") and find_status(uri) is not None:
        return Source(uri, _folder_of(uri), "file")
    if next(list_folder(uri), None) is not None:
        return Source(uri, join(uri, ""), "folder")
    if is_glob(uri) and next(list_glob(uri), None) is not None:
        return Source(uri, _fixed_part(uri), "glob")
    raise FileNotFoundError(f"{uri}: no such object, and none is below it or matches it")


def _list_objects(source: Source) -> Iterator[Photo]:
    if source.kind == "file":
        found = find_status(source.uri)
        return iter([] if found is None else [_photo(found, source.base)])
    statuses = list_glob(source.uri) if source.kind == "glob" else list_folder(source.uri)
    return (_photo(status, source.base) for status in statuses)


def _find_local(uri: str) -> Source:
    if os.path.isdir(uri):
        return Source(uri, join(uri, ""), "folder")
    if os.path.exists(uri):
        return Source(uri, _folder_of(uri), "file")
    if "/" not in uri:
        uri = f"./{uri}"  # else Beam finds no folder to look in
    if is_glob(uri) and _match(uri):
        return Source(uri, _fixed_part(uri), "glob")
    raise FileNotFoundError(f"{uri}: no such file or folder, and no file matches it")


def _list_local(source: Source) -> Iterator[Photo]:
    if source.kind == "folder":
        return _walk(source.uri)
    paths = _match(source.uri) if source.kind == "glob" else [source.uri]
    return (_look(path, source.base) for path in paths)


def _match(pattern: str) -> list[str]:
    return [file.path for file in FileSystems.match([pattern])[0].metadata_list]


def _fixed_part(pattern: str) -> str:
    """The folder above everything that matches a pattern."""
    return _folder_of(pattern[: min(pattern.find(c) for c in "*?[" if c in pattern)])


def _folder_of(source: str) -> str:
    return source[: source.rfind("/") + 1]


def _walk(folder: str) -> Iterator[Photo]:
    errors: list[OSError] = []
    seen: set[tuple[int, int]] = set()
    to_walk = [folder]
    while to_walk:
        links: list[str] = []
        for start in to_walk:
            for parent, folders, names in os.walk(start, onerror=errors.append):
                if not _is_new(parent, seen):
                    folders.clear()
                    continue
                folders.sort()
                links += (join(parent, name) for name in folders if os.path.islink(join(parent, name)))
                for name in sorted(names):
                    yield _look(join(parent, name), join(folder, ""))
        to_walk = sorted(links)
    for denied in errors:
        yield _unreadable(str(denied.filename), join(folder, ""), str(denied))


def _is_new(folder: str, seen: set[tuple[int, int]]) -> bool:
    """Whether a folder has not been listed, under any name; remembers it."""
    try:
        status = os.stat(folder)
    except OSError:
        return True
    known = (status.st_dev, status.st_ino)
    if known in seen:
        return False
    seen.add(known)
    return True


def _look(path: str, base: str) -> Photo:
    try:
        return _photo(status_of(path), base)
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
    return Photo(status.uri, relative, status.size, status.fingerprint, reason, status.modified_ns)


def _unreadable(path: str, base: str, reason: str) -> Photo:
    path = os.fsencode(path).decode(errors="backslashreplace")
    return Photo(path, path.removeprefix(base), 0, "", reason)


class FindPhotos(beam.PTransform):
    """One `Photo` for each file of `source`, except what rgc itself has written to `output`.

    Local paths are absolute, so that files in `output` are recognised.
    """

    def __init__(self, source: Source, output: str) -> None:
        super().__init__()
        self._source = source
        self._outputs = tuple(join(output, f"{folder}/") for folder in OUTPUT_FOLDERS)

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection[Photo]:
        outputs = self._outputs
        return (
            pipeline
            | beam.Create([self._source])
            | "List" >> beam.FlatMap(list_source)
            | "NotOutput" >> beam.Filter(lambda photo: not photo.uri.startswith(outputs))
        )

"""Stage 1: lists the input, in parts, ahead of what is done with it."""

import os
import re
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import islice, pairwise
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems

from transforms.counters import count_retries
from transforms.elements import Photo
from transforms.inventory import inventory_files, read_inventory
from transforms.progress import report_found
from transforms.storage import gcs
from transforms.storage.files import find_status, is_glob, is_remote, is_utf8, join
from transforms.storage.local import status_of
from transforms.storage.status import Status
from transforms.threaded_map import windowed

# Photos that are listed at once: the first waits for the last, and the progress bar looks so far ahead.
_LOCAL_CHUNK, _REMOTE_CHUNK = 50_000, 5_000
_PARTS_AHEAD = 15  # each with one chunk in memory
_OF_RGC = re.compile(r"codes/.*\.rgc|codes/(?:.*/)?\.rgc-[^/]*|manifest/run=.*", re.DOTALL)  # below OUTPUT


@dataclass(frozen=True)
class Source:
    """What INPUT names. It was there when it was looked up.

    Attributes:
        uri: the folder, gs:// prefix, glob or file.
        base: what comes before `relative` in the URI of every file of it.
        kind: "folder", "glob" or "file"; a prefix is a folder.
        first, last: of a prefix, only objects with names from `first` on, and up to and without `last`; empty
            for all.
        inventory: files, or one of them, that are read instead of listing a prefix.
    """

    uri: str
    base: str
    kind: str
    first: str = ""
    last: str = ""
    inventory: str = ""


def find_source(uri: str) -> Source:
    """Looks up a path or URI. A file or folder of that very name comes before a glob.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: it is neither a local path nor gs://.
    """
    return _find_objects(uri) if is_remote(uri) else _find_local(uri)


def with_inventory(source: Source, inventory: str) -> Source:
    """A prefix whose objects are read off an inventory, see `read_inventory`.

    Raises:
        ValueError: the source is no gs:// prefix, or the first file is no inventory.
        OSError: there is no inventory, or it cannot be read.
    """
    if source.kind != "folder" or not is_remote(source.uri):
        raise ValueError(f"{source.uri}: an inventory is of a {gcs.SCHEME} prefix; this is no prefix")
    next(read_inventory(inventory_files(inventory)[0], source.uri), None)
    return replace(source, inventory=inventory)


def cut_source(source: Source) -> list[Source]:
    """A source in parts that can be listed at the same time: a prefix by the folders below it."""
    if source.inventory:
        return [replace(source, inventory=file) for file in inventory_files(source.inventory)]
    if source.kind != "folder" or not is_remote(source.uri):
        return [source]
    cuts = ["", *gcs.cut_folder(source.uri), ""]
    return [replace(source, first=first, last=last) for first, last in pairwise(cuts)]


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
    if next(gcs.list_folder(uri), None) is not None:
        return Source(uri, join(uri, ""), "folder")
    if is_glob(uri) and next(gcs.list_glob(uri), None) is not None:
        return Source(uri, _fixed_part(uri), "glob")
    raise FileNotFoundError(f"{uri}: no such object, and none is below it or matches it")


def _list_objects(source: Source) -> Iterator[Photo]:
    if source.inventory:
        objects = read_inventory(source.inventory, source.uri)
        return (_reference(uri, source.base, size, fingerprint) for uri, size, fingerprint in objects)
    if source.kind == "file":
        found = find_status(source.uri)
        return iter([] if found is None else [_photo(found, source.base)])
    if source.kind == "glob":
        statuses = gcs.list_glob(source.uri)
    else:
        statuses = gcs.list_folder(source.uri, source.first, source.last)
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
            for path in _walk_in_order(start, seen, links, errors):
                yield _look(path, join(folder, ""))
        to_walk = sorted(links)
    for denied in errors:
        yield _unreadable(str(denied.filename), join(folder, ""), str(denied))


def _walk_in_order(
    folder: str, seen: set[tuple[int, int]], links: list[str], errors: list[OSError]
) -> Iterator[str]:
    """The files of a folder in the order of their whole paths, as `SkipFinished` wants them.

    Adds links to folders, and folders that cannot be listed, to `links` and `errors`.
    """
    to_do = [iter([join(folder, "")])]
    while to_do:
        path = next(to_do[-1], None)
        if path is None:
            to_do.pop()
        elif not path.endswith("/"):
            yield path
        elif len(to_do) > 1 and os.path.islink(path[:-1]):
            links.append(path[:-1])
        elif _is_new(path, seen):
            try:
                to_do.append(iter(_entries(path[:-1] or "/")))
            except OSError as error:
                errors.append(error)


def _entries(folder: str) -> list[str]:
    """What lies in a folder, in order; paths of folders end with a slash."""
    with os.scandir(folder) as entries:
        names = [entry.name + "/" if _is_folder(entry) else entry.name for entry in entries]
    return [join(folder, name) for name in sorted(names)]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # not even that can be found out
        return False


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
    return _reference(status.uri, base, status.size, status.fingerprint, status.modified_ns)


def _reference(uri: str, base: str, size: int, fingerprint: str, modified_ns: int | None = None) -> Photo:
    if not is_utf8(uri):  # neither Beam nor Parquet can hold it
        return _unreadable(uri, base, "its name is not UTF-8")
    relative = uri.removeprefix(base)
    reason = ""
    if not {"", ".", ".."}.isdisjoint(relative.split("/")):
        # An object may be called so. As a path, a//b is a/b, and ../b lies outside OUTPUT.
        reason = f"{relative}: an empty part, . or .. in a name makes it no path"
    return Photo(uri, relative, size, fingerprint, reason, modified_ns)


def _unreadable(path: str, base: str, reason: str) -> Photo:
    path = os.fsencode(path).decode(errors="backslashreplace")
    return Photo(path, path.removeprefix(base), 0, "", reason)


def is_written_by_rgc(uri: str, output: str) -> bool:
    """Whether a file is one that `rgc compress` writes to `output`, by whatever links the two are reached.

    Others there are the user's, whose folders may be called as rgc's are.
    """
    folder, _, name = uri.rpartition("/")
    inside = join(_without_links(folder), name).removeprefix(join(_without_links(output), ""))
    return _OF_RGC.fullmatch(inside) is not None


@lru_cache(8)  # neighbours lie in one folder
def _without_links(folder: str) -> str:
    return folder if is_remote(folder) else os.path.realpath(folder)


class FindFiles(beam.PTransform):
    """One `Photo` for each file of `source`, except what rgc itself has written to `output`.

    A prefix is listed in parts, each in the order of names. Photos go on as they are found.

    Args:
        suffix: see `list_source`.
        output: may be the source, or lie in it, or the source in it.
        progress_path: see `report`.
    """

    def __init__(
        self, source: Source, suffix: str = "", output: str | None = None, progress_path: str | None = None
    ) -> None:
        super().__init__()
        self._source = source
        self._list = ListParts(suffix, output, progress_path)

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection[Photo]:
        return (
            pipeline
            | beam.Create([self._source])
            | "Cut" >> beam.FlatMap(cut_source)
            | beam.Reshuffle()
            | "List" >> beam.ParDo(self._list).with_output_types(Photo)
        )


class ListParts(beam.DoFn):
    """Lists parts of a source in threads, before their turn. Parts are in the global window.

    Args:
        output: what rgc has written there is left out.
    """

    def __init__(self, suffix: str, output: str | None, progress_path: str | None) -> None:
        self._suffix = suffix
        self._output = output
        self._progress_path = progress_path

    def setup(self) -> None:
        self._threads = ThreadPoolExecutor(_PARTS_AHEAD + 1)

    def start_bundle(self) -> None:
        self._ahead: deque[tuple[Callable[[], Future[list[Photo]]], Future[list[Photo]]]] = deque()

    def process(self, part: Source) -> Iterator[Photo]:
        found = list_source(part, self._suffix)
        if (output := self._output) is not None:
            found = (photo for photo in found if not is_written_by_rgc(photo.uri, output))
        size = _REMOTE_CHUNK if is_remote(part.uri) else _LOCAL_CHUNK
        next_chunk = partial(self._threads.submit, self._chunk, found, size)
        self._ahead.append((next_chunk, next_chunk()))
        if len(self._ahead) > _PARTS_AHEAD:
            yield from self._next_part()

    def finish_bundle(self) -> Iterator[Any]:
        while self._ahead:
            yield from map(windowed, self._next_part())

    def teardown(self) -> None:
        self._threads.shutdown()

    def _next_part(self) -> Iterator[Photo]:
        next_chunk, chunk = self._ahead.popleft()
        while photos := chunk.result():
            chunk = next_chunk()
            count_retries()
            yield from photos

    def _chunk(self, found: Iterator[Photo], size: int) -> list[Photo]:
        photos = list(islice(found, size))
        report_found(photos, self._progress_path)
        return photos

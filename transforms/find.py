"""Stage 1: lists the input."""

import os
from collections.abc import Iterator

import apache_beam as beam
from apache_beam.io.filesystem import FileMetadata
from apache_beam.io.filesystems import FileSystems

from transforms.elements import Photo
from transforms.storage import escape_glob, is_glob, join


def find_files(source: str, suffix: str = "") -> Iterator[Photo]:
    """The files of a folder (all the way down), a glob, an object-store prefix, or one file.

    Args:
        source: a path or URI.
        suffix: only names that end so.

    Raises:
        FileNotFoundError: nothing is there.
    """
    base, metadata = _match(source)
    if not metadata:
        raise FileNotFoundError(f"{source}: no such file or folder, and no file matches it")
    for file in metadata:
        if file.path.endswith(suffix):
            relative = file.path.removeprefix(base).lstrip("/")
            fingerprint = f"{file.size_in_bytes}-{file.last_updated_in_seconds or 0:.6f}"
            yield Photo(file.path, relative, file.size_in_bytes, fingerprint)


def _match(source: str) -> tuple[str, list[FileMetadata]]:
    """What `source` names, and the part of each path that is not the file's own name."""
    if is_glob(source) and not os.path.exists(source):
        fixed = source[: min(source.find(c) for c in "*?[" if c in source)]
        return fixed[: fixed.rfind("/") + 1], _list(source)
    if not os.path.isdir(source) and (file := _list(escape_glob(source))):
        return source[: source.rfind("/") + 1], file
    return join(source, ""), _list(join(escape_glob(source), "**"))


def _list(pattern: str) -> list[FileMetadata]:
    return FileSystems.match([pattern])[0].metadata_list


class FindPhotos(beam.PTransform):
    """One `Photo` for each file below `source`, except those below `output`."""

    def __init__(self, source: str, output: str) -> None:
        super().__init__()
        self._source = source
        self._output = join(output, "")

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection[Photo]:
        output = self._output
        return (
            pipeline
            | beam.Create([self._source])
            | "List" >> beam.FlatMap(find_files)
            | "NotOutput" >> beam.Filter(lambda photo: not photo.uri.startswith(output))
        )

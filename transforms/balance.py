"""Shares out photos among worker processes, by bytes and not by count."""

import math
import zlib
from collections.abc import Iterable, Iterator
from operator import itemgetter

import apache_beam as beam
from apache_beam.pvalue import AsDict

from transforms.elements import Photo

_CLASSES_PER_DOUBLING = 2
_PHOTOS_PER_SHARD = 1_000  # about: a worker holds the references under one key in memory

Counts = dict[int, int]  # photos in each size class


class Balance(beam.PTransform):
    """Photos in another order, so that each of `workers` gets about the same number of bytes.

    A local runner gives each worker process a fixed share of the keys. So each key is a shard with as many
    bytes as any other: photos are grouped by size, and each group is spread over all shards. Bytes stand for
    pixels, which are only known once a photo is read.
    With None the runner shares work out as it goes, as Dataflow does; then each photo is an element. For one
    worker there is nothing to share out: it begins with the first photo while others are still to be found.
    """

    def __init__(self, workers: int | None) -> None:
        super().__init__()
        self._workers = workers

    def expand(self, photos: beam.PCollection[Photo]) -> beam.PCollection[Photo]:
        if self._workers is None:
            return photos | beam.Reshuffle()
        if self._workers == 1:
            return photos
        counts = photos | "Sizes" >> beam.Map(size_class) | beam.combiners.Count.PerElement()
        return (
            photos
            | "BySize" >> beam.Map(with_group, AsDict(counts))
            | "Groups" >> beam.GroupByKey()
            | "Assign" >> beam.FlatMap(assign_shards, self._workers, AsDict(counts))
            | "Shards" >> beam.GroupByKey()
            | "Photos" >> beam.FlatMap(itemgetter(1))
        )


def size_class(photo: Photo) -> int:
    return int(_CLASSES_PER_DOUBLING * math.log2(photo.size + 1))


def with_group(photo: Photo, counts: Counts) -> tuple[tuple[int, int], Photo]:
    """A photo under its group: its size class, or a part of a class that has very many photos."""
    size = size_class(photo)
    return (size, zlib.crc32(photo.uri.encode()) % -(-counts[size] // _PHOTOS_PER_SHARD)), photo


def assign_shards(
    group: tuple[tuple[int, int], Iterable[Photo]], workers: int, counts: Counts
) -> Iterator[tuple[int, Photo]]:
    """(shard, photo) pairs of one group: the same number for each shard, within one."""
    (size, part), photos = group
    shards = workers * -(-sum(counts.values()) // (_PHOTOS_PER_SHARD * workers))
    for number, photo in enumerate(photos, start=size + part):  # else one shard would get every remainder
        yield number % shards, photo

"""Shares out photos among worker processes, by bytes and not by count."""

import math
import zlib
from collections.abc import Iterable, Iterator
from operator import itemgetter

import apache_beam as beam
from apache_beam.pvalue import AsDict

from transforms.elements import Photo

_CLASSES_IN_DOUBLE = 2  # size classes for each doubling of the bytes
_TOGETHER = 1_000  # photos, about: a worker holds the references under one key in memory

Counts = dict[int, int]  # photos in each size class


class Balance(beam.PTransform):
    """Photos in another order, so that each of `workers` gets about as many bytes to do.

    Bytes stand for pixels, which are not known before a photo is read. A local runner gives each worker
    process a fixed share of the keys, whichever. So photos are grouped by size, and each group is dealt out
    like cards: every hand is a key, of as many bytes as any other, and there are as many for each worker.
    With None, the runner shares work out as it goes (Dataflow does), and each photo stays an element of
    its own.
    """

    def __init__(self, workers: int | None) -> None:
        super().__init__()
        self._workers = workers

    def expand(self, photos: beam.PCollection[Photo]) -> beam.PCollection[Photo]:
        if self._workers is None:
            return photos | beam.Reshuffle()
        counts = photos | "Sizes" >> beam.Map(size_class) | beam.combiners.Count.PerElement()
        return (
            photos
            | "BySize" >> beam.Map(with_group, AsDict(counts))
            | "Groups" >> beam.GroupByKey()
            | "Deal" >> beam.FlatMap(deal, self._workers, AsDict(counts))
            | "Hands" >> beam.GroupByKey()
            | "Photos" >> beam.FlatMap(itemgetter(1))
        )


def size_class(photo: Photo) -> int:
    return int(_CLASSES_IN_DOUBLE * math.log2(photo.size + 1))


def with_group(photo: Photo, counts: Counts) -> tuple[tuple[int, int], Photo]:
    """A photo under its group: its size class, or a part of that if it has very many."""
    size = size_class(photo)
    return (size, zlib.crc32(photo.uri.encode()) % -(-counts[size] // _TOGETHER)), photo


def deal(
    group: tuple[tuple[int, int], Iterable[Photo]], workers: int, counts: Counts
) -> Iterator[tuple[int, Photo]]:
    """(hand, photo) pairs of one group: as many to each hand, within one."""
    (size, part), photos = group
    hands = workers * -(-sum(counts.values()) // (_TOGETHER * workers))
    for number, photo in enumerate(photos, start=size + part):  # so that not one hand gets all the odd ones
        yield number % hands, photo

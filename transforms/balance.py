"""Shares out photos among worker processes, by bytes and not by count."""

import math
from collections.abc import Iterable, Iterator
from operator import itemgetter

import apache_beam as beam

from transforms.elements import Photo

_CLASSES_IN_DOUBLE = 2  # size classes for each doubling of the bytes


class Balance(beam.PTransform):
    """Photos in another order, so that each of `workers` gets about as many bytes to do.

    Bytes stand for pixels, which are not known before a photo is read. A local runner gives each
    worker process a fixed share of the keys. So photos are grouped by size, each group is dealt out
    like cards, and what a worker was dealt is one key's. With None, the runner shares work out as it
    goes (Dataflow does), and each photo stays an element of its own.
    """

    def __init__(self, workers: int | None) -> None:
        super().__init__()
        self._workers = workers

    def expand(self, photos: beam.PCollection[Photo]) -> beam.PCollection[Photo]:
        if self._workers is None:
            return photos | beam.Reshuffle()
        return (
            photos
            | "BySize" >> beam.Map(lambda photo: (size_class(photo), photo))
            | "Sizes" >> beam.GroupByKey()
            | "Deal" >> beam.FlatMap(deal, self._workers)
            | "Hands" >> beam.GroupByKey()
            | "Photos" >> beam.FlatMap(itemgetter(1))
        )


def size_class(photo: Photo) -> int:
    return int(_CLASSES_IN_DOUBLE * math.log2(photo.size + 1))


def deal(group: tuple[int, Iterable[Photo]], workers: int) -> Iterator[tuple[int, Photo]]:
    """(worker, photo) pairs of one size class's group: as many to each worker, within one."""
    size, photos = group
    for number, photo in enumerate(photos, start=size):  # so that not one worker gets all the odd ones
        yield number % workers, photo

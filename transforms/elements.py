"""What flows between the stages: one frozen dataclass each, all carrying the photo's identity."""

import hashlib
from dataclasses import dataclass, fields
from operator import attrgetter

import apache_beam as beam

from model.files import EncodedPhoto
from model.format.source import SourceRecord
from model.photos.reading import DecodedPhoto
from model.settings import Settings


@dataclass(frozen=True, slots=True)  # slots: pickled without the fields' names
class Photo:
    """A reference to an input file. Nothing else crosses a shuffle.

    Attributes:
        uri: path or URI of the file.
        relative: its path below INPUT, with forward slashes; names the output.
        size: bytes.
        fingerprint: changes when the file does.
        unreadable: why it cannot be read, if listing found that out, else empty.
        modified_ns: when it was last changed, nanoseconds since 1970.
        image_sha256: of a .rgc file: the image that an earlier run has made of it; empty if none is known.
    """

    uri: str
    relative: str
    size: int
    fingerprint: str
    unreadable: str = ""
    modified_ns: int | None = None
    image_sha256: str = ""

    def uri_sha256(self) -> str:
        """See `SourceRecord`."""
        return hashlib.sha256(self.uri.encode()).hexdigest()


class PhotoCoder(beam.coders.Coder):
    """Takes about half of what pickling does; a local runner holds several copies of each in memory.

    Beam's RowCoder will not do: worker processes would decode to a generated class.
    """

    _values_of = attrgetter(*(field.name for field in fields(Photo)))
    _values = beam.coders.FastPrimitivesCoder()

    def encode(self, photo: Photo) -> bytes:
        return self._values.encode(self._values_of(photo))

    def decode(self, encoded: bytes) -> Photo:
        return Photo(*self._values.decode(encoded))

    def is_deterministic(self) -> bool:
        return True


beam.coders.registry.register_coder(Photo, PhotoCoder)


@dataclass(frozen=True)
class LoadedPhoto:
    """A photo's pixels and metadata, and the SHA-256 of the file that they came from."""

    photo: Photo
    sha256: str
    decoded: DecodedPhoto

    @property
    def width(self) -> int:
        return self.decoded.pixels.shape[1]

    @property
    def height(self) -> int:
        return self.decoded.pixels.shape[0]

    def source_record(self, settings: Settings) -> SourceRecord:
        return SourceRecord(
            bytes=self.photo.size,
            fingerprint=self.photo.fingerprint,
            format=self.decoded.format,
            notes=self.decoded.notes,
            settings=settings.to_json(),
            sha256=self.sha256,
            modified_ns=self.photo.modified_ns,
            uri_sha256=self.photo.uri_sha256(),
        )


@dataclass(frozen=True)
class Encoded:
    """A loaded photo's .rgc file, or why there is none.

    Attributes:
        result: None if encoding failed.
        error: why it failed, else empty.
        seconds: this photo's share of its batch's time, without coding its last iteration.
    """

    photo: Photo
    sha256: str
    format: str
    width: int
    height: int
    result: EncodedPhoto | None
    error: str
    seconds: float

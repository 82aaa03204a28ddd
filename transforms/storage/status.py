"""What is known of a file without reading it."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)  # slots: pickled without the fields' names
class Status:
    """A file's URI, size in bytes, when it was last changed, and what changes when its content does.

    Attributes:
        modified_ns: of a local file, when it was last changed in nanoseconds since 1970, exactly.
    """

    uri: str
    size: int
    modified: datetime
    fingerprint: str
    modified_ns: int | None = None


class ConflictError(OSError):
    """A file is not, or no longer, the one that was meant."""

"""What a .rgc file says of its source: the `SRCE` chunk of FORMAT.md."""

import json
from dataclasses import asdict, dataclass, fields
from typing import Any

_Json = str | bytes
_LARGEST = (1 << 63) - 1  # of a manifest's int64
_LATEST_NS = _LARGEST * 10**9  # a file's time has 64 bits of seconds


@dataclass(frozen=True)
class SourceRecord:
    """Everything that a manifest row says of a source file, so that a row can be rebuilt from the .rgc file.

    Attributes:
        bytes: size of the source file.
        fingerprint: changes when the file does.
        format: Pillow's name of it.
        notes: what the source holds and the .rgc file does not, in words.
        settings: canonical JSON, see `Settings.to_json`.
        sha256: of the source file, in hexadecimal digits.
        modified_ns: when the source file was last changed, nanoseconds since 1970; None if it is not known.
        uri_sha256: of its path or URI: enough to know it again without naming its folders.
    """

    bytes: int
    fingerprint: str
    format: str
    notes: tuple[str, ...]
    settings: str
    sha256: str
    uri_sha256: str
    modified_ns: int | None = None

    def to_json(self) -> str:
        known = {name: value for name, value in asdict(self).items() if value is not None}
        return json.dumps(known, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: _Json) -> "SourceRecord":
        """Reads what `to_json` wrote. Keys that a newer rgc may have added are passed over.

        Raises:
            ValueError: no JSON object, a key is missing, or a value is not what it should be.
        """
        try:
            record = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"it is not JSON: {error}") from error
        if not isinstance(record, dict):
            raise ValueError(f"it holds a {type(record).__name__}, not an object")
        values: dict[str, Any] = {field.name: record.get(field.name) for field in fields(cls)}
        size, notes = values.pop("bytes"), values.pop("notes")
        if type(size) is not int or not 0 <= size <= _LARGEST:
            raise ValueError(f"bytes is {size!r:.80}, not a size")
        if not isinstance(notes, list) or not all(map(_is_text, notes)):
            raise ValueError(f"notes is {notes!r:.80}, not a list of texts")
        modified = values.pop("modified_ns")
        if modified is not None and (type(modified) is not int or abs(modified) > _LATEST_NS):
            raise ValueError(f"modified_ns is {modified!r:.80}, not a time")
        for name, value in values.items():
            if not _is_text(value):
                raise ValueError(f"{name} is {value!r:.80}, not a text")
        return cls(bytes=size, notes=tuple(notes), modified_ns=modified, **values)


def _is_text(value: object) -> bool:
    """False for what no UTF-8 can hold, too: JSON can spell half a surrogate pair."""
    return isinstance(value, str) and value.encode(errors="ignore").decode() == value

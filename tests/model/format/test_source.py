import json
from dataclasses import asdict, replace

import pytest

from model.format.container import RgcError, RgcFile, read_rgc
from model.format.source import SourceRecord

RECORD = SourceRecord(5, "f", "JPEG", ("Größe",), "{}", "0" * 64, "1" * 64)


def with_value(key: str, value: object) -> str:
    return json.dumps({**asdict(RECORD), key: value})


def test_comes_back_as_it_was_and_new_keys_are_passed_over() -> None:
    assert SourceRecord.from_json(RECORD.to_json()) == RECORD
    assert SourceRecord.from_json(with_value("camera", "x")) == RECORD
    for seconds in (-(10**11), 10**11, (1 << 63) - 1):  # years -1199, 5138 and after all others
        record = replace(RECORD, modified_ns=seconds * 10**9)
        assert SourceRecord.from_json(record.to_json()) == record


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "not JSON: maximum recursion"),
        ("{", "not JSON: Expecting"),
        ("[]", "a list, not an object"),
        ("{}", "bytes is None"),
        *[(with_value("bytes", wrong), "bytes is") for wrong in ("5", True, -1, 1 << 63, 5.0)],
        *[(with_value("notes", wrong), "notes is") for wrong in ("a", None, [1])],
        *[(with_value("modified_ns", wrong), "modified_ns is") for wrong in ("5", 1e18, 1 << 93, -(1 << 93))],
        *[(with_value("sha256", wrong), "sha256 is") for wrong in (0, None, "\ud800")],
    ],
)
def test_an_odd_record_makes_the_file_unreadable_and_nothing_worse(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SourceRecord.from_json(text)

    class Odd(SourceRecord):
        def to_json(self) -> str:
            return text

    file = RgcFile(16, 16, False, "rgc-0123456789ab", (0,), (1.0,), (b"",), source=Odd(**vars(RECORD)))
    with pytest.raises(RgcError, match=f"a.rgc: its SRCE chunk cannot be read: .*{message}"):
        read_rgc(file.to_bytes(), "a.rgc")
    assert read_rgc(replace(file, source=RECORD).to_bytes()).source == RECORD

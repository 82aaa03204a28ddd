"""The child process: decodes what comes in on its standard input, photo after photo, within limits."""

import contextlib
import os
import resource
import sys
import tempfile
import threading
import time
from typing import IO

from model.children import BrokenMessageError, receive
from model.photos.errors import UnreadablePhotoError
from model.photos.isolation.messages import send_error, send_photo
from model.photos.reading import read_photo

_PAGE = resource.getpagesize()
_MOST_COMPLAINT = 200  # characters


def main() -> None:
    """Arguments: where to answer (see `Child`), bytes of memory beyond what starting takes, and seconds of a
    processor for one photo.
    """
    to, memory, seconds = map(int, sys.argv[1:])
    requests, answers = sys.stdin.buffer, os.fdopen(to, "wb")
    complaints = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
    for number in (1, 2):  # of C libraries, which write to both
        os.dup2(complaints.fileno(), number)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_AS, _used_addresses() + memory)
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    while True:
        try:
            data = bytes(receive(requests, most=sys.maxsize))  # which the parent has in memory, too
        except (BrokenMessageError, MemoryError):  # the parent has closed it, is gone, or sent too much
            return
        _limit(resource.RLIMIT_CPU, int(time.process_time()) + seconds + 1)
        _answer(answers, data, complaints)


def _answer(answers: IO[bytes], data: bytes, complaints: IO[bytes]) -> None:
    os.ftruncate(complaints.fileno(), 0)
    os.lseek(complaints.fileno(), 0, os.SEEK_SET)
    try:
        photo = read_photo(data)
    except UnreadablePhotoError as error:
        out_of_memory = isinstance(error.__cause__, MemoryError)
        send_error(answers, "decoding it takes more memory than it may" if out_of_memory else str(error))
        return
    send_photo(answers, photo, _said(complaints))


def _said(complaints: IO[bytes]) -> str:
    """What decoders wrote to the terminal, in a line."""
    sys.stderr.flush()
    lines = os.pread(complaints.fileno(), 1 << 20, 0).decode(errors="replace").splitlines()
    lines = [line.strip() for line in lines if line.strip()]
    if not lines:
        return ""
    more = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
    return f"its decoder complained: {lines[0][:_MOST_COMPLAINT]}{more}"


def _limit(kind: int, value: int) -> None:
    """What the system does not limit (macOS no addresses) stays without a limit."""
    with contextlib.suppress(ValueError, OSError):
        _, most = resource.getrlimit(kind)
        hard = most if kind == resource.RLIMIT_CPU else value
        resource.setrlimit(kind, (value, hard))


def _used_addresses() -> int:
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[0]) * _PAGE
    except OSError:
        return 1 << 30


def _end_with_parent(parent: int) -> None:
    """Ends this process, too, where its parent is killed while a photo is being decoded."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


if __name__ == "__main__":
    main()

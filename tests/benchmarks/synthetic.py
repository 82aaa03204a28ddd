"""A storage server on loopback, of an archive that nobody has stored: its listings are computed.

Bucket "archive" holds as many photos as are wanted below photos/, a thousand a folder, each with the same
bytes, and if they are `finished`, their .rgc files below out/codes/. What is uploaded is kept in memory.
"""

import base64
import json
import re
import socket
import time
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import Process, Queue
from operator import itemgetter
from typing import Any, overload
from urllib.parse import parse_qs, quote, unquote, urlsplit

import google_crc32c

BUCKET = "gs://archive/"
PHOTOS, OUTPUT = f"{BUCKET}photos", f"{BUCKET}out"
PHOTO_BYTES, CODE_BYTES = 4_500_000, 700_000
UPDATED = "2026-11-01T22:00:00.123Z"
_CHECKSUM = "AAAAAA=="
_PAGE = 1000
_NO_HEADERS: Mapping[str, str] = {}


class Names(Sequence[str]):
    """Names of so many objects in order, made as they are asked for."""

    def __init__(self, count: int, start: str, end: str) -> None:
        self._count, self._start, self._end = count, start, end

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(self._count))]
        if index >= self._count:
            raise IndexError
        return self._start + _name(index) + self._end


def _name(number: int) -> str:
    return f"trip {number // 1000:05}/IMG_{number:08}.jpg"


def photo_name(number: int) -> str:
    return f"photos/{_name(number)}"


def fingerprint(number: int) -> str:
    return f"{1_700_000_000_000_000 + number}-{PHOTO_BYTES}-{_CHECKSUM}"


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, count: int, finished: bool, photo: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.photo = photo
        self.uploaded: dict[str, bytes] = {}
        self.virtual = [Names(count, "photos/", "")]
        if finished:
            self.virtual.insert(0, Names(count, "out/codes/", ".rgc"))

    def item(self, name: str) -> dict[str, str]:
        if name in self.uploaded:
            data = self.uploaded[name]
            size, updated = len(data), time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            checksum = base64.b64encode(google_crc32c.Checksum(data).digest()).decode()
        else:
            size, updated = (CODE_BYTES if name.endswith(".rgc") else PHOTO_BYTES), UPDATED
            checksum = _CHECKSUM
        number = re.search(r"IMG_(\d+)", name)
        generation = str(1_700_000_000_000_000 + (int(number[1]) if number else 0))
        known = {"size": str(size), "generation": generation, "crc32c": checksum, "updated": updated}
        return {"name": name, "bucket": "archive", **known}

    def list(self, query: dict[str, str]) -> dict[str, Any]:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter")
        after = max(query.get("pageToken", ""), query.get("startOffset", ""), prefix)
        page: dict[str, Any] = {"items": [], "prefixes": []}
        groups = [names for names in (*self.virtual, sorted(self.uploaded)) if names]
        for names in sorted(groups, key=itemgetter(0)):
            at = bisect_left(names, after)
            while at < len(names) and names[at].startswith(prefix):
                name = names[at]
                if name >= query.get("endOffset", "\U0010ffff"):
                    break
                if len(page["items"]) + len(page["prefixes"]) == _PAGE:
                    return {**page, "nextPageToken": name}
                rest = name[len(prefix) :]
                if delimiter and delimiter in rest:
                    folder = prefix + rest[: rest.index(delimiter) + 1]
                    page["prefixes"].append(folder)
                    at = bisect_left(names, folder + "\U0010ffff", at)
                    continue
                page["items"].append(self.item(name))
                at += 1
        return page


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        name = unquote(url.path.partition("/o/")[2])
        if not name:
            self._answer(200, json.dumps(self.server.list(query)).encode())
        elif name not in self.server.uploaded and not name.startswith("photos/trip "):
            self._answer(404, b"{}")
        elif query.get("alt") == "media":
            self._answer(200, self.server.uploaded.get(name, self.server.photo))
        else:
            self._answer(200, json.dumps(self.server.item(name)).encode())

    def do_POST(self) -> None:
        """An upload: of metadata and content between lines of a boundary, or the start of a longer one."""
        body = self.rfile.read(int(self.headers["content-length"]))
        if "uploadType=resumable" in self.path:
            name = json.loads(body)["name"]
            place = "http://{}:{}/o/{}".format(*self.server.server_address, quote(name, safe=""))
            self._answer(200, b"{}", {"Location": place})
            return
        boundary = self.headers["content-type"].partition("boundary=")[2].strip("'\"").encode()
        metadata, content = (part.partition(b"\r\n\r\n")[2] for part in body.split(b"--" + boundary)[1:3])
        name = json.loads(metadata)["name"]
        self.server.uploaded[name] = content.removesuffix(b"\r\n")
        self._answer(200, json.dumps(self.server.item(name)).encode())

    def do_PUT(self) -> None:
        name = unquote(urlsplit(self.path).path.partition("/o/")[2])
        self.server.uploaded[name] = self.rfile.read(int(self.headers["content-length"]))
        self._answer(200, json.dumps(self.server.item(name)).encode())

    def do_DELETE(self) -> None:
        self.server.uploaded.pop(unquote(urlsplit(self.path).path.partition("/o/")[2]), None)
        self._answer(204, b"")

    def _answer(self, status: int, content: bytes, headers: Mapping[str, str] = _NO_HEADERS) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


def _serve(count: int, finished: bool, photo: bytes, address: "Queue[tuple[str, int]]") -> None:
    server = _Server(count, finished, photo)
    address.put(server.server_address[:2])
    server.serve_forever()


@contextmanager
def synthetic_store(count: int, finished: bool, photo: bytes = b"") -> Iterator[dict[str, str]]:
    """A server in a process of its own; gives the environment that leads a process to it."""
    address: Queue[tuple[str, int]] = Queue()
    process = Process(target=_serve, args=(count, finished, photo, address), daemon=True)
    process.start()
    try:
        host, port = address.get()
        socket.create_connection((host, port)).close()
        yield {"STORAGE_EMULATOR_HOST": f"http://{host}:{port}", "NO_GCE_CHECK": "true"}
    finally:
        process.terminate()
        process.join()

"""A storage server on loopback, behind a proxy that can make requests fail."""

import http.client
import json
import random
import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import gcp_storage_emulator.server as emulator

BUCKET = "archive"
FAULTS = ("503", "429", "reset", "truncated", "stall")
_HEADERS_OF_A_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "server", "date"}


@dataclass
class Storage:
    """A running server.

    Attributes:
        fault_rate: the share of requests that go wrong.
        latency: seconds that each request takes longer.
        page_size: objects in a page of a listing; Google's are of 1,000.
        most_at_once: requests that have waited out their latency at the same time.
        retries: requests that repeat an earlier one, but for the parts of an upload.
    """

    url: str
    backend: tuple[str, int]
    fault_rate: float = 0.0
    stall_seconds: float = 10.0
    latency: float = 0.0
    page_size: int = 1000
    requests: int = 0
    under_way: int = 0
    most_at_once: int = 0
    retries: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    calls: set[str] = field(default_factory=set)
    generator: random.Random = field(default_factory=lambda: random.Random(0))
    uploading: threading.Lock = field(default_factory=threading.Lock)

    def count(self, path: str, headers: Message) -> None:
        """Counts a request; the client gives all that it makes for one call the same id."""
        self.requests += 1
        call = re.search(r"gccl-invocation-id/(\S+)", headers.get("x-goog-api-client", ""))
        if call and "upload_id=" not in path:
            self.retries += call[1] in self.calls
            self.calls.add(call[1])

    def next_fault(self) -> str | None:
        if self.generator.random() >= self.fault_rate:
            return None
        fault = FAULTS[self.faults.total() % len(FAULTS)]
        self.faults[fault] += 1
        return fault

    @property
    def environment(self) -> dict[str, str]:
        """What leads a process here, and keeps it from looking for Google's own servers."""
        return {"STORAGE_EMULATOR_HOST": self.url, "NO_GCE_CHECK": "true"}


@contextmanager
def storage_server() -> Iterator[Storage]:
    """An empty bucket, `BUCKET`, in memory."""
    # Port 0 takes a free one, which the emulator does not tell but in its thread.
    server = emulator.create_server("127.0.0.1", 0, in_memory=True, default_bucket=BUCKET)
    server.start()
    while (backend := server._api._httpd) is None:
        time.sleep(0.01)
    storage = Storage("", backend.server_address[:2])
    proxy = _Server(("127.0.0.1", 0), partial(_Proxy, storage))
    storage.url = "http://{}:{}".format(*proxy.server_address)
    thread = threading.Thread(target=proxy.serve_forever, daemon=True)
    thread.start()
    try:
        yield storage
    finally:
        proxy.shutdown()
        proxy.server_close()
        server.stop()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that hung up, as clients do."""


class _Proxy(BaseHTTPRequestHandler):
    """Passes requests on, but for faults.

    It refuses those for another generation than is there, and lists in pages, from one name to another: the
    emulator itself looks at no generations, and lists everything at once.
    """

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else answers to requests on one connection wait for each other

    def __init__(self, storage: Storage, *arguments: object) -> None:
        self.storage = storage
        super().__init__(*arguments)  # type: ignore[arg-type]

    def handle_one(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.storage.count(self.path, self.headers)
        self.storage.under_way += 1
        self.storage.most_at_once = max(self.storage.most_at_once, self.storage.under_way)
        time.sleep(self.storage.latency)
        self.storage.under_way -= 1
        fault = self.storage.next_fault()
        if fault == "stall":
            time.sleep(self.storage.stall_seconds)
        if fault in ("503", "429"):
            self._answer(int(fault), {"Retry-After": "1"}, b"{}")
            return
        with self.storage.uploading:
            if self._precondition_fails(body):
                self._answer(412, {}, b'{"error": {"message": "generation"}}')
                return
            status, headers, content = self._forward(body)
            if status == 200 and self.command == "GET" and urlsplit(self.path).path.endswith("/o"):
                content = self._page(content)
        if fault in ("reset", "truncated"):
            self._answer(status, headers, content, len(content) // 2)
            if fault == "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
            return
        self._answer(status, headers, content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_one

    def _forward(self, body: bytes, path: str | None = None) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(*self.storage.backend)
        if path is None:
            connection.request(self.command, self.path, body, dict(self.headers))
        else:
            connection.request("GET", path)
        response = connection.getresponse()
        headers = {k: v for k, v in response.getheaders() if k.lower() not in _HEADERS_OF_A_HOP}
        content = response.read()
        connection.close()
        return response.status, headers, content

    def _precondition_fails(self, body: bytes) -> bool:
        url = urlsplit(self.path)
        query = parse_qs(url.query)
        wanted = query.get("ifGenerationMatch")
        if wanted is None or "upload_id" in query:  # of an upload in parts: the first request has settled it
            return False
        path = url.path.removeprefix("/upload").removeprefix("/download")
        if self.command == "POST":  # an upload, whose body begins with metadata
            metadata = body[body.index(b"{") :].decode("latin-1")
            path += "/" + quote(json.JSONDecoder().raw_decode(metadata)[0]["name"], safe="")
        status, _, content = self._forward(b"", path)
        there = json.loads(content)["generation"] if status == 200 else "0"
        return str(there) != wanted[0]

    def _page(self, content: bytes) -> bytes:
        listing = json.loads(content)
        query = {key: values[0] for key, values in parse_qs(urlsplit(self.path).query).items()}
        start, end = query.get("startOffset", ""), query.get("endOffset", "\U0010ffff")
        listing["items"] = [item for item in listing["items"] if start <= item["name"] < end]
        first = int(query.get("pageToken", "0"))
        after = first + self.storage.page_size
        if after < len(listing["items"]):
            listing["nextPageToken"] = str(after)
        return json.dumps({**listing, "items": listing["items"][first:after]}).encode()

    def _answer(self, status: int, headers: dict[str, str], content: bytes, sent: int | None = None) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[:sent])
        self.wfile.flush()

    def log_message(self, *_: object) -> None:
        pass


def upload_folder(folder: Path, prefix: str) -> None:
    """Copies a local folder below a gs:// prefix."""
    from transforms.storage.files import join, write_bytes  # noqa: PLC0415 - only once the environment is set

    for path in sorted(folder.rglob("*")):
        if path.is_file():
            write_bytes(join(prefix, path.relative_to(folder).as_posix()), path.read_bytes())

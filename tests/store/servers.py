"""Real servers on the loopback interface: plain HTTP, S3 (moto), and as much of the hub as its own client needs.

A test module imports the fixtures that it uses: `from tests.store.servers import s3_server, web_server  # noqa: F401`.
"""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

import pytest

BUCKET = "features"


@dataclass
class Misbehaviour:
    """How a server answers, and what it was asked.

    Attributes:
        requests: method, path and Range header of every request, oldest first.
        fail: number of next requests to answer with `status` instead.
        status: 503 unless a test wants another; 0 hangs up without an answer.
        cut: number of next bodies to cut in half, although the header promises all.
        lie: shorten bodies by this many bytes, and say so in the header.
        flip: whether to flip one bit in the middle of every body.
        ranges: whether the Range header is understood.
        delay: seconds before an answer.
    """

    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    fail: int = 0
    status: int = 503
    cut: int = 0
    lie: int = 0
    flip: bool = False
    ranges: bool = True
    delay: float = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, name: str) -> bool:
        """Count one of `fail` or `cut` down."""
        with self.lock:
            left = getattr(self, name)
            if left:
                setattr(self, name, left - 1)
            return bool(left)

    def count(self, part: str = "") -> int:
        """How many requests had `part` in their path."""
        return sum(part in path for _, path, _ in self.requests)


class Handler(BaseHTTPRequestHandler):
    """Answers with a body, as the server's misbehaviour has it."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or every answer waits 40 ms for an acknowledgement
    timeout = 5
    behaviour: ClassVar[Misbehaviour]

    def log_message(self, format: str, *args: object) -> None:
        pass

    def misbehave(self) -> bool:
        """Record the request. Whether it was answered with a failure."""
        behaviour = self.behaviour
        with behaviour.lock:
            behaviour.requests.append((self.command, unquote(urlsplit(self.path).path), self.headers.get("Range")))
        threading.Event().wait(behaviour.delay)
        if not behaviour.take("fail"):
            return False
        if behaviour.status:
            self.answer(behaviour.status)
        else:
            self.close_connection = True
        return True

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def send(self, content: bytes) -> None:
        """A file, or the part of it that was asked for."""
        behaviour = self.behaviour
        if behaviour.flip:
            middle = len(content) // 2
            content = content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :]
        content = content[: len(content) - behaviour.lie]
        status, extra = 200, {}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range") or "")
        if wanted and behaviour.ranges:
            start, last = int(wanted[1]), min(int(wanted[2]), len(content) - 1)
            if start >= len(content):
                return self.answer(416)
            status, extra = 206, {"Content_Range": f"bytes {start}-{last}/{len(content)}"}
            content = content[start : last + 1]
        if not behaviour.take("cut"):
            return self.answer(status, content, **extra)
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2])
        self.close_connection = True
        return None


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up because it has read enough is none of the server's business."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def serving(handler: type[Handler], **attributes: Any) -> Iterator[tuple[str, Misbehaviour]]:
    """Run a server with a handler of its own. Yields its address and its behaviour."""
    behaviour = Misbehaviour()
    own = type(handler.__name__, (handler,), {**attributes, "behaviour": behaviour})
    server = _Server(("127.0.0.1", 0), own)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", behaviour
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class Served:
    """A server with the files of a directory.

    Attributes:
        url: address of the folder to read stores from.
        path: the directory; what a test writes there is served.
        behaviour: how it answers.
    """

    url: str
    path: Path
    behaviour: Misbehaviour


class _Files(Handler):
    root: ClassVar[Path]

    def do_GET(self) -> None:
        if self.misbehave():
            return None
        path = self.root / unquote(urlsplit(self.path).path).lstrip("/")
        return self.send(path.read_bytes()) if path.is_file() else self.answer(404, b"no such file")


@pytest.fixture(name="web")
def web_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """A web server that reads files and cannot list them."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    root = tmp_path / "served"
    root.mkdir()
    with serving(_Files, root=root) as (url, behaviour):
        yield Served(url, root, behaviour)


@dataclass
class Bucket:
    """An S3 server with one empty bucket.

    Attributes:
        url: `s3://<bucket>`.
        calls: names of the operations of the API that s3fs asked for.
    """

    url: str
    calls: list[str]


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(name="s3")
def s3_server(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """S3 as the environment of every AWS tool describes it."""
    from urllib.request import Request, urlopen

    import s3fs

    for key, value in {
        "AWS_ENDPOINT_URL": s3_endpoint,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "NO_PROXY": "127.0.0.1",
    }.items():
        monkeypatch.setenv(key, value)
    urlopen(Request(f"{s3_endpoint}/moto-api/reset", method="POST")).close()
    s3fs.S3FileSystem().mkdir(BUCKET)
    calls: list[str] = []
    call = s3fs.S3FileSystem._call_s3

    async def counted(self: Any, method: str, *args: Any, **kwargs: Any) -> Any:
        calls.append(method)
        return await call(self, method, *args, **kwargs)

    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", counted)
    return Bucket(f"s3://{BUCKET}", calls)

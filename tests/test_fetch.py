"""Finding, verifying and downloading the four files, against a local server with every fault that servers have."""

import contextlib
import errno
import gzip
import hashlib
import http.server
import itertools
import re
import threading
import time
import tracemalloc
import types
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest

from stages import fetch
from stages.common.errors import InputError
from stages.common.parameters import Fetch
from stages.data import publisher

CONTENTS = {name: name.encode() * 5000 for name in publisher.PUBLISHED}


@pytest.fixture(autouse=True)
def small_files(monkeypatch):
    """Small stand-ins for the publisher's files, pinned by their own digests, and no waiting between attempts."""
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in CONTENTS.items()}
    for module in (publisher, fetch):
        monkeypatch.setattr(module, "PUBLISHED", digests)
    monkeypatch.setattr(fetch, "time", types.SimpleNamespace(sleep=lambda seconds: None))


OK = b"HTTP/1.1 200 OK\r\n"
BLOCK = bytes(2**16)
BOMB = gzip.compress(bytes(2**24))
PAUSE = 0.02  # seconds


def forever(*parts: bytes | float) -> Iterator[bytes | float]:
    """Bytes to send and seconds to wait, without end: 20 seconds, so that a test that fails ends."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        yield from parts


def redirect(to: str) -> bytes:
    return b"HTTP/1.1 302 Found\r\nLocation: " + to.encode() + b"\r\n"


# What servers answer that mean harm, by folder.
HOSTILE = {
    "floods": lambda _: itertools.chain([OK + b"\r\n"], forever(BLOCK)),
    "floods in chunks": lambda _: itertools.chain(
        [OK + b"Transfer-Encoding: chunked\r\n\r\n"], forever(b"10000\r\n" + BLOCK + b"\r\n")
    ),
    "promises less": lambda name: [OK + b"Content-Length: 5\r\n\r\n" + CONTENTS[name]],
    "promises two sizes": lambda name: [OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n"],
    "promises no number": lambda name: [OK + b"Content-Length: -\xb2\r\n\r\nx"],
    "bomb": lambda name: [OK + b"Content-Encoding: gzip\r\n\r\n" + BOMB],
    "drips": lambda _: itertools.chain([OK + b"\r\n"], forever(b"x", PAUSE)),
    "drips headers": lambda _: itertools.chain([OK + b"Name: "], forever(b"x", PAUSE)),
    "drips chunks": lambda _: itertools.chain([OK + b"Transfer-Encoding: chunked\r\n\r\n1;"], forever(b"x", PAUSE)),
    "has endless headers": lambda _: itertools.chain([OK], forever(b"Name: value\r\n")),
    "has an endless header": lambda _: itertools.chain([OK + b"Name: "], forever(BLOCK)),
    "says continue": lambda _: forever(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000, PAUSE),
    "redirects in circles": lambda name: [redirect(f"/redirects%20in%20circles/{name}") + b"\r\n"],
    "redirects to a file": lambda _: [redirect("file:///etc/passwd") + b"\r\n"],
    "redirects to nothing": lambda _: [redirect("http://[") + b"\r\n"],
    "floods and redirects": lambda name: itertools.chain([redirect(f"/missing/{name}") + b"\r\n"], forever(BLOCK)),
    "moves the cursor": lambda _: [b"HTTP/1.1 404 \x1b[2J\r\n\r\n"],
}


class Server(http.server.ThreadingHTTPServer):
    """Serves CONTENTS below /good; other folders have a fault each. Counts the requests per path."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: dict[str, int] = {}
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def address(self, folder: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{folder}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests[self.path] = count = self.server.requests.get(self.path, 0) + 1
        _, folder, name = urllib.parse.unquote(self.path).split("/")
        content = CONTENTS[name]
        if folder == "redirect":
            self.send_response(302)
            self.send_header("Location", f"/good/{name}")
            self.end_headers()
        elif folder == "missing":
            self.send_error(404)
        elif folder == "down" or (folder == "recovers" and count < 3):
            self.send_error(500)
        elif folder == "wrong":
            self.reply(b"something else", 14)
        elif folder == "truncated":
            self.reply(content[:1000], len(content))
        elif folder == "stalls":
            self.reply(content[:1000], len(content))
            self.wfile.flush()
            threading.Event().wait(3)
        elif folder in HOSTILE:
            with contextlib.suppress(OSError):  # when the client has gone
                for part in HOSTILE[folder](name):
                    if isinstance(part, bytes):
                        self.wfile.write(part)
                    else:
                        time.sleep(part)
        else:
            self.reply(content, len(content))

    def reply(self, content: bytes, promised: int) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(promised))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    server = Server()
    yield server
    server.shutdown()
    server.server_close()


def parameters(*mirrors: str, folders: tuple[str, ...] = (), attempts: int = 3) -> Fetch:
    return Fetch(folders=list(folders), mirrors=list(mirrors), timeout_seconds=0.3, attempts=attempts)


def assert_complete(raw: Path) -> None:
    assert {path.name: path.read_bytes() for path in raw.iterdir()} == CONTENTS


def fill(folder: Path, **changed: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in (CONTENTS | changed).items():
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize("fault", ["good", "redirect", "recovers"])
def test_a_download_that_works_in_the_end(server, tmp_path, fault):
    fetch.fetch(parameters(server.address(fault)), tmp_path / "raw", None)
    assert_complete(tmp_path / "raw")


@pytest.mark.parametrize(
    ("fault", "sentence", "attempts"),
    [
        ("missing", "the server answered 404", 1),
        ("down", "the server answered 500", 3),
        ("wrong", "its SHA-256 is [0-9a-f]{64}, but must be [0-9a-f]{64}", 1),
        ("truncated", "the connection broke before the file was complete", 3),
        ("stalls", "the server sent 1,000 bytes in 0.3 seconds, but must send 5,000 a second", 3),
    ],
)
def test_a_download_that_fails_leaves_nothing_and_says_why(server, tmp_path, fault, sentence, attempts):
    with pytest.raises(InputError, match=sentence) as error:
        fetch.fetch(parameters(server.address(fault)), tmp_path / "raw", None)
    assert not list((tmp_path / "raw").iterdir())
    assert list(server.requests.values()) == [attempts]
    for hint in (server.address(fault), "FASHION_MNIST_DIR=", "make demo"):
        assert hint in str(error.value)


@pytest.mark.fault(
    "A mirror sends gigabytes, or a byte now and then, or redirects and headers without end.",
    "The bytes, and the seconds without enough of them, are limited; then the next mirror is asked.",
)
@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("floods", "sent more than 26,421,880 bytes"),
        ("floods in chunks", "sent more than 26,421,880 bytes"),
        ("promises less", "its SHA-256 is"),
        ("promises two sizes", "no connection is possible"),
        ("promises no number", "its SHA-256 is"),
        ("bomb", "its SHA-256 is"),
        ("drips", "sent [0-9]+ bytes in 0.3 seconds, but must send 5,000 a second"),
        ("drips headers", "was silent for 0.3 seconds"),
        ("drips chunks", "was silent for 0.3 seconds"),
        ("has endless headers", "no connection"),
        ("has an endless header", "no connection"),
        ("says continue", "was silent for 0.3 seconds"),
        ("redirects in circles", "Exceeded 30 redirects|was silent"),
        ("redirects to a file", "no connection is possible .*file:///etc/passwd"),
        ("redirects to nothing", "no connection is possible"),
        ("floods and redirects", "answered 404"),
        ("moves the cursor", r"answered 404 \\x1b\[2J"),
    ],
)
def test_a_hostile_mirror_takes_little_time_and_memory(server, tmp_path, capsys, fault, sentence):
    mirrors = [server.address(urllib.parse.quote(fault)), server.address("good")]
    started = time.monotonic()
    tracemalloc.start()
    try:
        fetch.fetch(parameters(*mirrors, attempts=2), tmp_path / "raw", None)
        assert tracemalloc.get_traced_memory()[1] < 10e6
    finally:
        tracemalloc.stop()
    assert time.monotonic() - started < 15
    assert_complete(tmp_path / "raw")
    refused = [line for line in capsys.readouterr().out.splitlines() if line.startswith("refused: ")]
    assert len(refused) == 4
    assert all(re.search(sentence, line) for line in refused), refused


def test_a_slow_connection_is_waited_for(server, tmp_path, monkeypatch):
    """It may take many times the timeout, as long as enough bytes arrive in each."""

    def slow(name: str) -> Iterator[bytes | float]:
        yield OK + b"\r\n"
        for start in range(0, len(CONTENTS[name]), 25_000):
            yield from (CONTENTS[name][start : start + 25_000], 0.1)

    monkeypatch.setitem(HOSTILE, "is slow", slow)
    fetch.fetch(parameters(server.address("is%20slow")), tmp_path / "raw", None)
    assert_complete(tmp_path / "raw")


def test_the_next_mirror_is_asked_when_one_fails(server, tmp_path):
    mirrors = [server.address(fault) for fault in ("missing", "wrong", "truncated", "good")]
    fetch.fetch(parameters(*mirrors), tmp_path / "raw", None)
    assert_complete(tmp_path / "raw")


def test_nobody_listens(tmp_path):
    with pytest.raises(InputError, match=r"http://127.0.0.1:9/.*: no connection"):
        fetch.fetch(parameters("http://127.0.0.1:9"), tmp_path / "raw", None)


def test_the_first_folder_with_a_right_copy_is_taken(server, tmp_path):
    name = "t10k-labels-idx1-ubyte.gz"
    wrong = fill(tmp_path / "wrong", **{name: b"bad"})
    right = fill(tmp_path / "right")
    absent = tmp_path / "absent"
    with_folders = parameters(server.address("down"), folders=(str(absent), str(wrong), str(right)))
    fetch.fetch(with_folders, tmp_path / "raw", None)
    assert_complete(tmp_path / "raw")
    assert not server.requests


def test_the_environment_names_a_folder(tmp_path):
    fetch.fetch(parameters(), tmp_path / "raw", str(fill(tmp_path / "mine")))
    assert_complete(tmp_path / "raw")


def test_a_wrong_copy_is_named_with_both_digests_and_refused(tmp_path, capsys):
    name = "train-images-idx3-ubyte.gz"
    folder = fill(tmp_path / "mine", **{name: CONTENTS["t10k-images-idx3-ubyte.gz"]})
    with pytest.raises(InputError, match=r"It is t10k-images-idx3-ubyte\.gz under another name") as error:
        fetch.fetch(parameters(folders=(str(folder),)), tmp_path / "raw", None)
    assert publisher.PUBLISHED[name] in str(error.value)
    assert publisher.PUBLISHED["t10k-images-idx3-ubyte.gz"] in str(error.value)
    assert not (tmp_path / "raw" / name).exists()


def test_what_is_there_and_right_is_kept_and_what_is_wrong_replaced(server, tmp_path):
    raw = fill(tmp_path / "raw", **{"train-labels-idx1-ubyte.gz": b"bad"})
    kept = (raw / "train-images-idx3-ubyte.gz").stat().st_mtime_ns
    fetch.fetch(parameters(server.address("good")), raw, None)
    assert_complete(raw)
    assert list(server.requests) == ["/good/train-labels-idx1-ubyte.gz"]
    assert (raw / "train-images-idx3-ubyte.gz").stat().st_mtime_ns == kept


def test_drawn_images_never_replace_results_on_fashion_mnist(tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "REPORTS", tmp_path)
    fetch.refuse_to_mix("drawn")  # no results yet
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics" / "some-0.json").write_text('{"dataset": "fashion-mnist"}')
    fetch.refuse_to_mix("fashion-mnist")
    with pytest.raises(InputError, match="reports/ holds results on Fashion-MNIST"):
        fetch.refuse_to_mix("drawn")


@pytest.mark.fault(
    "A proxy cannot be reached, and the server is blamed.",
    "The proxy and its variable are named.",
)
@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy"])
def test_a_proxy_that_cannot_be_reached_is_named_with_the_variable_that_names_it(server, tmp_path, monkeypatch, name):
    for other in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, "http://127.0.0.1:9")
    with pytest.raises(InputError, match=f"through the proxy http://127.0.0.1:9; {name} is .*unset {name}"):
        fetch.fetch(parameters(server.address("good")), tmp_path / "raw", None)


@pytest.mark.fault(
    "`REQUESTS_CA_BUNDLE` names no file, and the disk is blamed.",
    "The variable is named.",
)
def test_a_certificate_bundle_that_is_not_there_is_named_with_its_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nonexistent/bundle.pem")
    with pytest.raises(InputError, match=r"REQUESTS_CA_BUNDLE is /nonexistent/bundle.pem"):
        fetch.fetch(parameters("https://127.0.0.1:9"), tmp_path / "raw", None)


@pytest.mark.fault(
    "`REQUESTS_CA_BUNDLE` names a wrong file.",
    "The variable is named.",
)
def test_a_certificate_bundle_that_is_none_is_named_with_its_variable(server, tmp_path, monkeypatch):
    (tmp_path / "bundle.pem").write_text("no certificate")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "bundle.pem"))
    with pytest.raises(InputError, match=r"REQUESTS_CA_BUNDLE is .*bundle.pem"):
        fetch.fetch(parameters(server.address("good").replace("http:", "https:")), tmp_path / "raw", None)


def test_a_full_disk_is_not_taken_for_a_bad_connection(server, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device", "data/raw/x")

    monkeypatch.setattr(fetch, "download", full)
    with pytest.raises(OSError, match="No space left"):
        fetch.fetch(parameters(server.address("good")), tmp_path / "raw", None)


@pytest.mark.fault(
    "The data files were unpacked.",
    "The sentence says so.",
)
def test_unpacked_files_are_named(tmp_path):
    folder = fill(tmp_path / "mine")
    for path in folder.iterdir():
        path.rename(path.with_suffix(""))
    with pytest.raises(InputError, match=r"mine/train-images-idx3-ubyte: is unpacked, but"):
        fetch.fetch(parameters(folders=(str(folder),)), tmp_path / "raw", None)

"""Only pages of the server itself may drive it; nothing leaves this machine; ended sessions give
back what they held."""

import asyncio
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lcmae.app.dashboard.server import launch
from lcmae.app.dashboard.server.fence import Fence, is_own
from tests.app.served import wait_for

WATCHED = """
import ipaddress, json, runpy, sys
log = open(sys.argv.pop(1), "a", buffering=1)
def is_here(address):
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address in ("localhost", None)
def hook(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = arguments[1]
        if isinstance(address, tuple) and not is_here(address[0]):
            log.write(json.dumps([event, str(address)]) + chr(10))
    elif event in ("socket.getaddrinfo", "socket.gethostbyname") and not is_here(arguments[0]):
        log.write(json.dumps([event, str(arguments[0])]) + chr(10))
sys.addaudithook(hook)
runpy.run_module("lcmae.app.dashboard.server.process", run_name="__main__", alter_sys=True)
"""
"""The dashboard's process, which writes down every address outside this machine that it names."""


def headers(**values: str) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in values.items()]


@pytest.mark.parametrize(
    ("given", "own"),
    [
        ({"host": "127.0.0.1:8501"}, True),
        ({"host": "127.0.0.1:8501", "origin": "http://127.0.0.1:8501"}, True),
        ({"host": "localhost:8501", "origin": "http://LOCALHOST:8501"}, True),
        ({"host": "lcmae.example.org", "origin": "https://lcmae.example.org"}, True),
        ({"host": "127.0.0.1:8501", "origin": "http://127.0.0.1:8000"}, False),
        ({"host": "127.0.0.1:8501", "origin": "http://127.0.0.1"}, False),
        ({"host": "127.0.0.1:8501", "origin": "http://localhost:8501"}, False),
        ({"host": "127.0.0.1:8501", "origin": "http://evil.example"}, False),
        ({"host": "127.0.0.1:8501", "origin": "http://evil@127.0.0.1:8501"}, False),
        ({"host": "127.0.0.1:8501", "origin": "null"}, False),
        ({"host": "127.0.0.1:8501", "origin": "file://127.0.0.1:8501"}, False),
        ({"host": "127.0.0.1:8501", "origin": "http://[::1"}, False),
        ({"host": "127.0.0.1:8501", "origin": "http://127.0.0.1:8501\xff"}, False),
        ({"origin": "http://127.0.0.1:8501"}, False),
    ],
)
def test_an_origin_is_the_host_that_was_asked(given: dict[str, str], own: bool):
    assert is_own(headers(**given)) == own


def test_two_origins_are_none():
    assert not is_own([*headers(host="a:1", origin="http://a:1"), *headers(origin="http://a:1")])


class Served:
    """An application that holds its websockets open until it is told to end."""

    def __init__(self) -> None:
        self.asked = 0
        self.end = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked += 1
        await self.end.wait()


def test_sessions_are_counted_and_bounded():
    async def walk() -> tuple[int, list[Any], int]:
        application = Served()
        fence = Fence(application, max_sessions=2)
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "websocket.connect"}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "websocket", "headers": headers(host="a:1", origin="http://a:1")}
        tasks = [asyncio.create_task(fence(scope, receive, send)) for _ in range(3)]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        asked = application.asked
        application.end.set()
        await asyncio.gather(*tasks)
        await fence(scope, receive, send)  # there is room again
        return asked, sent, application.asked - asked

    assert asyncio.run(walk()) == (2, [{"type": "websocket.close", "code": 1008}], 1)


# --- the server itself ---


def ask(port: int, path: str, **more: str) -> int:
    """Status of one request."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path, headers=more)
    status = connection.getresponse().status
    connection.close()
    return status


def websocket(port: int, origin: str | None, host: str = "") -> int:
    """Status of an attempt to open the page's websocket."""
    fields = {"Host": host or f"127.0.0.1:{port}", "Connection": "Upgrade", "Upgrade": "websocket"}
    fields |= {"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "MDEyMzQ1Njc4OTAxMjM0NQ=="}
    return ask(port, "/_stcore/stream", **fields, **({} if origin is None else {"Origin": origin}))


def hold(port: int) -> socket.socket:
    """An open websocket."""
    opened = socket.create_connection(("127.0.0.1", port), timeout=30)
    lines = (
        "GET /_stcore/stream HTTP/1.1", f"Host: 127.0.0.1:{port}", f"Origin: http://127.0.0.1:{port}",
        "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: MDEyMzQ1Njc4OTAxMjM0NQ==", "", "",
    )  # fmt: skip
    opened.sendall("\r\n".join(lines).encode())
    assert opened.recv(1024).startswith(b"HTTP/1.1 101")
    return opened


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[subprocess.Popen[bytes], int, Path]]:
    """Process and port of a server over an empty folder, and the file of addresses it named."""
    folder = tmp_path_factory.mktemp("watched")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = launch.command(folder, port)
    words = words[words.index("run") :]
    log = folder / "log"
    process = subprocess.Popen([sys.executable, "-P", "-c", WATCHED, str(log), *words], stdout=subprocess.DEVNULL)
    try:
        wait_for(f"http://127.0.0.1:{port}", process)
        yield process, port, log
    finally:
        process.kill()
        process.wait(20)


def test_foreign_pages_are_refused_without_a_word_to_anybody(watched: tuple[subprocess.Popen[bytes], int, Path]):
    _, port, log = watched
    assert websocket(port, f"http://127.0.0.1:{port}") == 101
    assert websocket(port, f"http://localhost:{port}", f"localhost:{port}") == 101
    assert websocket(port, None) == 101, "a program, not a page"
    foreign = ("http://evil.example", f"http://127.0.0.1:{port + 1}", "http://8.8.8.8", "null", "http://10.0.0.3")
    for origin in (*foreign, f"http://localhost.evil.example:{port}"):
        assert websocket(port, origin) == 403, origin
        assert ask(port, "/", Origin=origin) == 403, origin
        assert ask(port, "/_stcore/health", Origin=origin) == 403, origin
    assert websocket(port, f"http://evil.example:{port}", f"evil.example:{port}") == 403, "a name that was rebound"
    assert ask(port, "/") == 200
    assert [json.loads(line) for line in log.read_text().splitlines()] == []


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts descriptors in /proc")
def test_ended_sessions_give_their_descriptors_back(watched: tuple[subprocess.Popen[bytes], int, Path]):
    process, port, _ = watched
    before = descriptors(process.pid)
    pages = [hold(port) for _ in range(20)]
    during = descriptors(process.pid)
    for page in pages:
        page.close()
    end = time.monotonic() + 30
    while descriptors(process.pid) > before + 8 and time.monotonic() < end:
        ask(port, "/_stcore/health")
    assert during - before <= 5 * len(pages)
    assert descriptors(process.pid) <= before + 8, f"{before} before, {during} during 20 sessions"


def test_the_server_ends_in_order(watched: tuple[subprocess.Popen[bytes], int, Path]):
    process, port, _ = watched
    page = hold(port)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    page.close()


def test_the_limit_of_descriptors_is_raised_as_far_as_it_may():
    code = """
import resource
from lcmae.app.dashboard.server import tuning
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
assert tuning.raise_descriptor_limit(150) == 150 == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
assert tuning.raise_descriptor_limit(120) == 150, "never lowered"
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0

"""Who may talk to the dashboard's server: pages that it has served itself, and programs. An ASGI
middleware of `streamlit.App`, before all of Streamlit's own.

A browser says with `Origin` which page asks. Streamlit holds an Origin that is not its own against
this machine's addresses, for which it asks a host on the internet, twice a second long, in the
server's event loop; and it lets in every port of 127.0.0.1, behind which any program may serve a
page. Here an Origin is the Host that was asked, with its port, or it is refused.
"""

import asyncio
import gc
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

MAX_SESSIONS = 200
"""Open websockets, one for each tab; each takes four descriptors and a thread."""

REST = 2.0
"""Seconds after the last end of a session, before what it held is collected."""


class Fence:
    """Refuses requests of foreign pages (403) and more sessions than `MAX_SESSIONS` (503), and
    frees what an ended session held."""

    def __init__(self, app: Application, max_sessions: int = MAX_SESSIONS) -> None:
        self.app = app
        self.max_sessions = max_sessions
        self.num_sessions = 0
        self._collection: asyncio.TimerHandle | None = None

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """One request, as ASGI has it."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
        elif not is_own(scope["headers"]):
            await refuse(scope, receive, send, 403, b"expected a page of this server to ask, got another one\n")
        elif scope["type"] == "http":
            await self.app(scope, receive, send)
        elif self.num_sessions >= self.max_sessions:
            await refuse(scope, receive, send, 503, b"expected fewer open pages; close some\n")
        else:
            self.num_sessions += 1
            try:
                await self.app(scope, receive, send)
            finally:
                self.num_sessions -= 1
                self._collect_soon()

    def _collect_soon(self) -> None:
        # a session is a web of references, and its descriptors are closed when it is collected;
        # Streamlit's own collection after every answer is off (lcmae.app.dashboard.server.launch)
        if self._collection is not None:
            self._collection.cancel()
        self._collection = asyncio.get_running_loop().call_later(REST, gc.collect)


def is_own(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a request comes from a page of this server, or from no page at all."""
    known: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        known.setdefault(name.lower(), []).append(value)
    origins, hosts = known.get(b"origin", []), known.get(b"host", [])
    if not origins:
        return True
    if len(origins) > 1 or len(hosts) != 1:
        return False
    try:
        origin = urlsplit(origins[0].decode("ascii"))
        host = hosts[0].decode("ascii").lower()
    except ValueError:  # no ASCII, or no address
        return False
    return origin.scheme in ("http", "https") and origin.netloc.lower() == host


async def refuse(scope: Message, receive: Receive, send: Send, status: int, why: bytes) -> None:
    """The answer to what may not be asked; a websocket is refused before it is one."""
    if scope["type"] == "websocket" and "websocket.http.response" not in scope.get("extensions", {}):
        await receive()
        await send({"type": "websocket.close", "code": 1008})
        return
    kind = "websocket.http.response" if scope["type"] == "websocket" else "http.response"
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(why)).encode())]
    await send({"type": f"{kind}.start", "status": status, "headers": headers})
    await send({"type": f"{kind}.body", "body": why})

"""Who may ask a local page, and how much may be sent: an ASGI layer around the pages.

A page on loopback can be reached by every program of the machine and, through a browser, by every
site that the user has open. Each request therefore needs the token of the address that was printed
(then kept as a cookie), a Host that is this machine's, and an Origin that is the page's own.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Awaitable, Callable, Collection, Iterable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
BODY_BYTES = 64 * 1024
"""What a request may send where its path says nothing else."""
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
    " img-src 'self' data: blob:; media-src 'self' blob:; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'"
)
_HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(self), microphone=()"),
)


class _TooLargeError(Exception):
    """A body has grown beyond its limit."""


def new_token() -> str:
    """A token that cannot be guessed, fit for an address."""
    return secrets.token_urlsafe(24)


class Guard:
    """Refuses requests before they reach an application.

    Args:
        app: The application.
        token: What the address holds.
        cookie: Name of the cookie that keeps it; cookies of one host are shared by all its ports.
        hosts: Names that the machine may be called by; None = any, where it is asked from outside.
        limits: Largest body in bytes by the beginning of a path; the longest that fits counts.
        open_paths: Paths that need no token, for monitors.
    """

    def __init__(
        self,
        app: App,
        *,
        token: str,
        cookie: str = "mafsar",
        hosts: Collection[str] | None = LOOPBACK,
        limits: Iterable[tuple[str, int]] = (),
        open_paths: Collection[str] = (),
    ) -> None:
        self._app, self._token, self._cookie = app, token.encode(), cookie
        self._hosts, self._open_paths = hosts, frozenset(open_paths)
        self._limits = sorted(limits, key=lambda item: -len(item[0]))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or answers it with the reason why not."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = _headers(scope)
        send = _with_headers(send)
        refused = self._refusal(scope, headers)
        if refused is not None:
            await _answer(send, *refused)
            return
        query = parse_qs(scope.get("query_string", b"").decode("ascii", "replace"))
        if "token" in query and scope["method"] == "GET" and scope["path"] == "/":
            await self._remember(send)
            return
        limit = self._limit_of(scope["path"])
        if int(headers.get("content-length") or 0) > limit:
            await _answer(send, 413, _too_large(limit))
            return
        await self._pass_on(scope, receive, send, limit)

    def _refusal(self, scope: Scope, headers: dict[str, str]) -> tuple[int, str] | None:
        """Status and reason, or None."""
        if not (headers.get("content-length") or "0").isdecimal():
            return 400, "Content-Length is not a number"
        host = headers.get("host", "")
        if self._hosts is not None and _name_of(host) not in self._hosts:
            return 421, f"Host {host!r} is not this machine; use the address that was printed"
        path, method = scope["path"], scope["method"]
        opens_page = path == "/" and method == "GET" and headers.get("sec-fetch-mode") == "navigate"
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return 403, f"Origin {origin!r} may not ask this page"
        if headers.get("sec-fetch-site", "none") not in ("same-origin", "none") and not opens_page:
            return 403, "another site may not ask this page"
        if path in self._open_paths:
            return None
        if not any(hmac.compare_digest(self._token, held) for held in self._held(scope, headers)):
            return 403, (
                "the token is missing or of an earlier run; open the whole address that mafsar"
                " printed when it started"
            )
        return None

    def _held(self, scope: Scope, headers: dict[str, str]) -> list[bytes]:
        """The tokens that a request brings."""
        query = parse_qs(scope.get("query_string", b"").decode("ascii", "replace"))
        held = query.get("token", [])
        scheme, _, value = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            held = [*held, value.strip()]
        try:
            cookies = SimpleCookie(headers.get("cookie", ""))
        except CookieError:
            cookies = SimpleCookie()
        if self._cookie in cookies:
            held = [*held, cookies[self._cookie].value]
        return [value.encode("utf-8", "replace") for value in held]

    async def _remember(self, send: Send) -> None:
        """Sets the cookie and leads to the page without the token in its address."""
        cookie = f"{self._cookie}={self._token.decode()}; Path=/; HttpOnly; SameSite=Strict"
        await send(
            {
                "type": "http.response.start",
                "status": 303,
                "headers": [
                    (b"location", b"/"),
                    (b"set-cookie", cookie.encode()),
                    (b"cache-control", b"no-store"),
                    (b"content-length", b"0"),
                ],
            }
        )
        await send({"type": "http.response.body", "body": b""})

    def _limit_of(self, path: str) -> int:
        return next((most for start, most in self._limits if path.startswith(start)), BODY_BYTES)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send, limit: int) -> None:
        """Runs the application on a body that is counted as it comes."""
        came, started = 0, False

        async def counted() -> MutableMapping[str, Any]:
            nonlocal came
            message = await receive()
            came += len(message.get("body", b""))
            if came > limit:
                raise _TooLargeError
            return message

        async def noted(message: MutableMapping[str, Any]) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, counted, noted)
        except _TooLargeError:
            if not started:
                await _answer(send, 413, _too_large(limit))


def _too_large(limit: int) -> str:
    return f"the request is larger than {limit / 1e6:.1f} MB"


def _headers(scope: Scope) -> dict[str, str]:
    """Headers by lower-case name; of several of one name the last."""
    return {
        name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]
    }


def _name_of(host: str) -> str:
    """`localhost` of `localhost:8765`, `::1` of `[::1]:8765`; empty where it is neither."""
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port
    except ValueError:
        return ""
    return "" if parts.username or parts.path or parts.query else (parts.hostname or "")


def _with_headers(send: Send) -> Send:
    """Adds what browsers must know to every answer."""

    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *_HEADERS]
        await send(message)

    return sending


async def _answer(send: Send, status: int, reason: str) -> None:
    """A short plain answer; the connection ends, since the rest of a body may still come."""
    body = f"{reason}\n".encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})

"""Serves an ASGI application on a port of this machine, in a thread of its own."""

from __future__ import annotations

import ipaddress
import os
import socket
import threading
import time
from typing import TYPE_CHECKING

from mafsar.errors import InputError, UnavailableError, option
from mafsar.extras import require
from mafsar.runtime.studio.guard import LOOPBACK, App, new_token

if TYPE_CHECKING:
    import uvicorn

TOKEN_VARIABLE = "MAFSAR_TOKEN"
"""Environment variable with a token of the user's own, for addresses that stay the same."""
_LEAST_TOKEN = 16
_BACKLOG = 64
_MOST_AT_ONCE = 64  # connections; a page needs two or three
_START_SECONDS = 10.0


def require_packages(what: object) -> None:
    """Raises an error where the packages of the extra `studio` are missing.

    Args:
        what: The feature, as part of a message.
    """
    require(what, "starlette", "uvicorn", "prometheus_client", extra="studio")


def parse_address(value: str, flag: str = "serve") -> tuple[str, int]:
    """Host and port of `[HOST:]PORT`; without a host, loopback.

    Raises:
        InputError: Not an address, or not a port from 0 to 65535 (0: any that is free).
    """
    host, colon, port = value.strip().rpartition(":")
    host = host.strip("[]") if colon else "127.0.0.1"
    if not (port.isdecimal() and int(port) < 65536 and host):
        raise InputError(option(**{flag: value}), ": give [HOST:]PORT, as 8080 or 127.0.0.1:8080")
    return host, int(port)


def own_token() -> str:
    """The token of `MAFSAR_TOKEN`, else a new one.

    Raises:
        InputError: The variable's token is short enough to be guessed, or unfit for an address.
    """
    given = os.environ.get(TOKEN_VARIABLE)
    if not given:
        return new_token()
    if len(given) < _LEAST_TOKEN or not all(
        c.isascii() and (c.isalnum() or c in "-_") for c in given
    ):
        raise InputError(
            f"{TOKEN_VARIABLE}: a token has at least {_LEAST_TOKEN} letters, digits, - and _"
        )
    return given


def is_loopback(host: str) -> bool:
    """Whether a host is this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in LOOPBACK


def bind(host: str, port: int, flag: str) -> socket.socket:
    """A listening socket.

    Raises:
        UnavailableError: The port is taken, or the host is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((host, port))
        made.listen(_BACKLOG)
    except OSError as error:
        made.close()
        raise UnavailableError(
            option(**{flag: f"{host}:{port}" if flag == "serve" else port}),
            f": cannot listen there ({error.strerror or error}); choose another port",
        ) from None
    return made


class Server:
    """Serves until `close`.

    Args:
        app: The application.
        listening: A socket that listens.
    """

    def __init__(self, app: App, listening: socket.socket) -> None:
        import uvicorn

        config = uvicorn.Config(
            app,
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            server_header=False,
            limit_concurrency=_MOST_AT_ONCE,
            timeout_graceful_shutdown=1,
        )
        self._server: uvicorn.Server = uvicorn.Server(config)
        self._socket = listening
        self._thread = threading.Thread(
            target=self._server.run, args=([listening],), name="mafsar-serve", daemon=True
        )
        self._thread.start()
        until = time.monotonic() + _START_SECONDS
        while not self._server.started and self._thread.is_alive() and time.monotonic() < until:
            time.sleep(0.01)

    @property
    def port(self) -> int:
        """The port, also where 0 was asked for."""
        return int(self._socket.getsockname()[1])

    @property
    def is_alive(self) -> bool:
        """Whether it still serves."""
        return self._thread.is_alive()

    def close(self, seconds: float = 5.0) -> None:
        """Ends it; answers that are being written have a second."""
        self._server.should_exit = True
        self._thread.join(seconds)
        self._socket.close()

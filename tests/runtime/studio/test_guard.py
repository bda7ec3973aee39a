"""Who may ask a page: token, Host, Origin, sizes; and garbage on a real socket."""

from __future__ import annotations

import socket
import threading
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from mafsar.errors import InputError, UnavailableError
from mafsar.runtime.studio import serving
from mafsar.runtime.studio.guard import Guard
from mafsar.runtime.studio.studio_app import Studio

TOKEN = "a-token-for-the-tests"


@pytest.fixture
def stranger(studio: Studio) -> TestClient:
    """A client without the token."""
    return TestClient(studio.app(TOKEN), base_url="http://127.0.0.1:8765")


def test_the_token_of_the_address_becomes_a_cookie(stranger: TestClient) -> None:
    assert stranger.get("/").status_code == 403
    assert stranger.get("/?token=wrong").status_code == 403
    assert stranger.get("/?token=").status_code == 403
    opened = stranger.get(f"/?token={TOKEN}", follow_redirects=False)
    assert opened.status_code == 303
    assert opened.headers["location"] == "/"
    cookie = opened.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert stranger.get("/").text.startswith("<!doctype html>")
    assert stranger.get("/api/state").json()["classes"] == []


def test_programs_send_the_token_as_a_header(stranger: TestClient) -> None:
    def asked(word: str | bytes) -> int:
        return stranger.get("/api/state", headers={"authorization": word}).status_code

    assert asked(f"Bearer {TOKEN}") == 200
    assert asked(f"Bearer {TOKEN}x") == 403
    assert asked("Bearer ключ".encode()) == 403
    assert asked(f"Basic {TOKEN}") == 403


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 421),
        ({"host": "127.0.0.1.evil.example:8765"}, 421),
        ({"host": "a@127.0.0.1"}, 421),
        ({"host": "127.0.0.1:99999"}, 421),
        ({"host": ""}, 421),
        ({"host": "[::1]:8765"}, 200),
        ({"host": "localhost:9000"}, 200),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://127.0.0.1:1"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://127.0.0.1:8765"}, 200),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site", "sec-fetch-mode": "navigate"}, 403),
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"cookie": "mafsar=other; a=b; ]["}, 403),
    ],
)
def test_host_and_origin_are_checked(
    client: TestClient, headers: dict[str, str], status: int
) -> None:
    assert client.get("/api/state", headers=headers).status_code == status


def test_a_link_from_another_site_opens_the_page_only(client: TestClient) -> None:
    come = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert client.get("/", headers=come).status_code == 200
    assert client.get("/api/bank", headers=come).status_code == 403


def test_answers_forbid_what_a_page_does_not_need(client: TestClient) -> None:
    for path in ("/", "/static/studio.js", "/api/state", "/nothing"):
        headers = client.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
    assert client.get("/static/style.css").headers["content-type"].startswith("text/css")
    for path in ("/static/../studio_app.py", "/static/%2e%2e%2fguard.py", "/static/a/b"):
        assert client.get(path).status_code == 404


def test_large_bodies_are_refused_before_and_while_they_come() -> None:
    seen: list[int] = []

    async def reads(_scope: Any, receive: Any, send: Any) -> None:
        more = True
        while more:
            message = await receive()
            seen.append(len(message.get("body", b"")))
            more = message.get("more_body", False)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    app = Guard(reads, token=TOKEN, limits=[("/large", 1000), ("/", 10)])
    client = TestClient(
        app, base_url="http://localhost", headers={"authorization": f"Bearer {TOKEN}"}
    )
    assert client.post("/large", content=b"x" * 1000).status_code == 200
    assert client.post("/large", content=b"x" * 1001).status_code == 413
    assert client.post("/small", content=b"x" * 11).status_code == 413
    seen.clear()
    assert client.post("/large", content=iter([b"x" * 600] * 3)).status_code == 413
    assert sum(seen) <= 1000
    assert client.post("/large", content=b"", headers={"content-length": "-1"}).status_code == 400


def test_addresses_and_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    assert serving.parse_address("8080") == ("127.0.0.1", 8080)
    assert serving.parse_address("0.0.0.0:80") == ("0.0.0.0", 80)
    assert serving.parse_address("[::1]:80") == ("::1", 80)
    for wrong in ("", "x", ":80", "1:70000", "localhost:", "80:a"):
        with pytest.raises(InputError, match="8080"):
            serving.parse_address(wrong)
    assert [serving.is_loopback(host) for host in ("127.0.0.9", "::1", "localhost", "0.0.0.0", "x")] == [
        True, True, True, False, False,
    ]  # fmt: skip
    assert serving.own_token() != serving.own_token()
    monkeypatch.setenv("MAFSAR_TOKEN", "0123456789-abcdef")
    assert serving.own_token() == "0123456789-abcdef"
    for wrong in ("short", "with a space in it", "0123456789&token=a"):
        monkeypatch.setenv("MAFSAR_TOKEN", wrong)
        with pytest.raises(InputError, match="MAFSAR_TOKEN"):
            serving.own_token()
    with serving.bind("127.0.0.1", 0, "port") as taken:
        number = taken.getsockname()[1]
        with pytest.raises(UnavailableError, match=f"port={number}: cannot listen"):
            serving.bind("127.0.0.1", number, "port")


@pytest.fixture
def served(studio: Studio) -> Iterator[serving.Server]:
    server = serving.Server(studio.app(TOKEN), serving.bind("127.0.0.1", 0, "port"))
    yield server
    server.close()
    assert not server.is_alive


def test_garbage_on_the_socket_is_survived(served: serving.Server) -> None:
    def send(data: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", served.port), 5) as link:
            link.settimeout(5)
            got = b""
            try:
                link.sendall(data)
                link.shutdown(socket.SHUT_WR)
                while chunk := link.recv(4096):
                    got += chunk
            except OSError:
                pass  # it may close before all is sent
            return got

    host = f"Host: 127.0.0.1:{served.port}\r\n".encode()
    allowed = host + f"Authorization: Bearer {TOKEN}\r\n".encode()
    for garbage in (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)) * 8,
        b"\x00" * 100_000,
        b"GET / HTTP/1.1\r\n" + b"A: " + b"x" * 200_000 + b"\r\n\r\n",
        b"GET /" + b"%ff" * 2000 + b" HTTP/1.1\r\n" + allowed + b"\r\n",
        b"POST /api/clips?label=a HTTP/1.1\r\n" + allowed + b"Content-Length: 99\r\n\r\nshort",
        b"POST /api/clips?label=a HTTP/1.1\r\n" + allowed + b"Content-Length: 9999999999\r\n\r\n",
        b"POST /api/match HTTP/1.1\r\n" + allowed + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /?token=%00%ff HTTP/1.1\r\n" + host + b"\r\n",
        b"BREW /api/state HTTP/1.1\r\n" + allowed + b"\r\n",
    ):
        assert b" 200 " not in send(garbage)[:20]
    idle = [socket.create_connection(("127.0.0.1", served.port), 5) for _ in range(20)]
    request = urllib.request.Request(
        f"http://127.0.0.1:{served.port}/api/state", headers={"Authorization": f"Bearer {TOKEN}"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 200
    for link in idle:
        link.close()
    assert threading.active_count() < 40

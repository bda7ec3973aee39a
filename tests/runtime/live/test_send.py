"""Webhook and its queue against a server on loopback; messages to systemd."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from mafsar.errors import InputError
from mafsar.runtime.live import send
from mafsar.runtime.live.send import Mqtt, Webhook
from mafsar.runtime.live.systemd import Notifier


class _Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        receiver: Any = self.server
        body = self.rfile.read(int(self.headers["Content-Length"]))
        receiver.tries += 1
        good = receiver.tries > receiver.failures
        if good:
            receiver.got.append(json.loads(body))
        self.send_response(200 if good else 503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Any]:
    server: Any = HTTPServer(("127.0.0.1", 0), _Receiver)
    server.got, server.tries, server.failures = [], 0, 0
    server.url = f"http://127.0.0.1:{server.server_address[1]}/events"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_messages_arrive_in_order_and_failures_are_tried_again(
    receiver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(send, "_FIRST_WAIT", 0.02)
    receiver.failures = 2
    webhook = Webhook(receiver.url)
    for number in range(5):
        webhook.put({"number": number, "label": "Grüße"})
    webhook.close()
    assert [each["number"] for each in receiver.got] == [0, 1, 2, 3, 4]
    assert receiver.got[0]["label"] == "Grüße"
    assert (webhook.sent, webhook.dropped, receiver.tries) == (5, 0, 7)


def test_a_receiver_that_is_gone_neither_blocks_nor_fills_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(send, "KEPT", 50)
    with socket.create_server(("127.0.0.1", 0)) as held:  # accepts, and never answers
        webhook = Webhook(f"http://127.0.0.1:{held.getsockname()[1]}/")
        monkeypatch.setattr(send, "_TIMEOUT_SECONDS", 0.2)
        began = time.perf_counter()
        for number in range(500):
            webhook.put({"number": number})
        assert time.perf_counter() - began < 20  # one that waited: 500 timeouts of 0.2 s
        webhook.close(0.3)
    assert webhook.sent == 0
    assert webhook.dropped >= 499
    assert webhook.problem is not None


class _Broker(threading.Thread):
    """A broker of a few lines: takes what one client publishes, and confirms some of it.

    Args:
        confirms: Whether it confirms the message with this number, from 0.
    """

    def __init__(self, confirms: Callable[[int], bool], *, late: float = 0.0) -> None:
        super().__init__(daemon=True)
        self.got: list[str] = []
        self._confirms, self._late = confirms, late
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"mqtt://127.0.0.1:{self._listening.getsockname()[1]}/a/b"
        self.start()

    def run(self) -> None:
        with self._listening, self._listening.accept()[0] as client, client.makefile("rb") as read:
            while head := read.read(1):
                length = shift = 0
                while True:
                    (byte,) = read.read(1)
                    length |= (byte & 127) << shift
                    shift += 7
                    if byte < 128:
                        break
                body = read.read(length)
                if head[0] >> 4 == 1:  # CONNECT
                    client.sendall(b"\x20\x02\x00\x00")
                elif head[0] >> 4 == 3:  # PUBLISH: topic, number of the packet, message
                    topic = 2 + int.from_bytes(body[:2], "big")
                    self.got.append(body[topic + 2 :].decode())
                    if self._confirms(len(self.got) - 1):
                        time.sleep(self._late)
                        client.sendall(b"\x40\x02" + body[topic : topic + 2])


def test_messages_that_the_broker_does_not_confirm_are_not_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(send, "_FIRST_WAIT", 0.01)
    monkeypatch.setattr(send, "_TIMEOUT_SECONDS", 0.3)
    monkeypatch.setattr(send, "TRIES", 2)
    broker = _Broker(lambda number: number != 1)
    mqtt = Mqtt(broker.url)
    for number in range(3):
        mqtt.put({"number": number})
    until = time.monotonic() + 10
    while mqtt.sent + mqtt.dropped < 3 and time.monotonic() < until:
        time.sleep(0.02)
    mqtt.close()
    assert (mqtt.sent, mqtt.dropped) == (2, 1)
    assert broker.got == [f'{{"number": {number}}}' for number in range(3)]


def test_a_message_that_is_confirmed_late_is_published_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(send, "_FIRST_WAIT", 0.01)
    monkeypatch.setattr(send, "_TIMEOUT_SECONDS", 0.3)
    broker = _Broker(lambda _: True, late=0.8)
    mqtt = Mqtt(broker.url)
    mqtt.put({"number": 0})
    mqtt.close(10.0)
    assert (mqtt.sent, mqtt.dropped, len(broker.got)) == (1, 0, 1)


@pytest.mark.parametrize("url", ["ftp://host/x", "host:8080", "http://", "file:///etc/passwd"])
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(InputError, match="webhook="):
        Webhook(url)
    with pytest.raises(InputError, match="mqtt="):
        Mqtt(url)


def test_systemd_hears_of_start_life_and_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
        link.bind(str(path))
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        monkeypatch.setenv("WATCHDOG_USEC", "200000")
        notifier = Notifier()
        notifier.ready()
        for _ in range(25):
            notifier.alive()
            time.sleep(0.01)
        notifier.stopping()
        link.setblocking(False)
        said = []
        while True:
            try:
                said.append(link.recv(100).decode())
            except BlockingIOError:
                break
    assert said[0] == "READY=1"
    assert said[-1] == "STOPPING=1"
    assert 2 <= said.count("WATCHDOG=1") <= 4
    monkeypatch.delenv("NOTIFY_SOCKET")
    Notifier().ready()  # nobody listens, and nothing happens

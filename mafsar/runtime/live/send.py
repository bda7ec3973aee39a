"""Sends events to a webhook or an MQTT broker from a thread of its own; watching never waits for it."""

from __future__ import annotations

import json
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from typing import Any
from urllib.parse import unquote, urlsplit

from mafsar.errors import InputError, option
from mafsar.extras import require

KEPT = 1000
"""Messages that may wait; then the oldest is dropped and counted."""
TRIES = 5
"""How often a message is sent before it is dropped."""
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 30.0
_TIMEOUT_SECONDS = 5.0
_TOPIC = "mafsar/events"


class Sender(ABC):
    """A bounded queue of messages and the thread that sends them, in order.

    Attributes:
        sent: Messages that were delivered.
        dropped: Messages that were given up, or for which there was no room.
        problem: Why the last attempt failed, or None.
    """

    def __init__(self) -> None:
        self.sent = self.dropped = 0
        self.problem: str | None = None
        self._queue: deque[str] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._until = float("inf")
        self._thread = threading.Thread(target=self._run, name="mafsar-send", daemon=True)
        self._thread.start()

    def put(self, message: dict[str, Any]) -> None:
        """Queues a message; returns at once."""
        text = json.dumps(message, ensure_ascii=False, allow_nan=False)
        with self._changed:
            if len(self._queue) >= KEPT:
                self._queue.popleft()
                self.dropped += 1
            self._queue.append(text)
            self._changed.notify()

    def close(self, seconds: float = 3.0) -> None:
        """Sends what waits, for so long at most; the rest is dropped and counted."""
        with self._changed:
            self._closing = True
            self._until = time.monotonic() + seconds
            self._changed.notify()
        self._thread.join(seconds + _TIMEOUT_SECONDS)
        self.dropped += len(self._queue)
        self._queue.clear()

    @abstractmethod
    def _deliver(self, text: str) -> None:
        """Sends one message; raises where it was not taken."""

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._queue and not self._closing:
                    self._changed.wait()
                if not self._queue or time.monotonic() > self._until:
                    return
                text = self._queue.popleft()
            if self._try(text):
                self.sent += 1
            else:
                self.dropped += 1

    def _try(self, text: str) -> bool:
        wait = _FIRST_WAIT
        for attempt in range(TRIES):
            try:
                self._deliver(text)
            except Exception as error:  # noqa: BLE001 - no failure of a receiver may end this thread
                self.problem = " ".join(f"{type(error).__name__}: {error}".split())
            else:
                self.problem = None
                return True
            if attempt + 1 < TRIES:
                with self._changed:
                    self._changed.wait_for(lambda: self._closing, min(wait, _LONGEST_WAIT))
                    if time.monotonic() > self._until:
                        return False
                if self._closing:
                    time.sleep(0.1)
            wait *= 2
        return False


class Webhook(Sender):
    """Posts each message as JSON.

    Args:
        url: `http://…` or `https://…`.

    Raises:
        InputError: Another kind of address.
    """

    def __init__(self, url: str) -> None:
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise InputError(option(webhook=url), ": give an address http://… or https://…")
        self._url = url
        super().__init__()

    def _deliver(self, text: str) -> None:
        from urllib.request import Request, urlopen

        request = Request(
            self._url, text.encode(), {"Content-Type": "application/json"}, method="POST"
        )
        with urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:
            answer.read(1 << 16)


class Mqtt(Sender):
    """Publishes each message with quality of service 1: the broker confirms it.

    Args:
        url: `mqtt://[USER:PASSWORD@]HOST[:PORT][/TOPIC]`, or `mqtts://…` for TLS. Default ports: 1883
            and 8883; default topic: mafsar/events.

    Raises:
        InputError: Another kind of address.
        UnavailableError: paho-mqtt is not installed.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        expected = ": give mqtt://[USER:PASSWORD@]HOST[:PORT][/TOPIC]"
        try:
            port = parts.port
        except ValueError:
            raise InputError(option(mqtt=url), expected) from None
        if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname:
            raise InputError(option(mqtt=url), expected)
        require(option("mqtt"), "paho", extra="mqtt")
        from paho.mqtt.client import Client, MQTTMessageInfo
        from paho.mqtt.enums import CallbackAPIVersion

        self.topic = unquote(parts.path.strip("/")) or _TOPIC
        self._client = Client(CallbackAPIVersion.VERSION2)
        self._on_its_way: tuple[str, MQTTMessageInfo | None] = "", None
        self._client.max_queued_messages_set(KEPT)
        if parts.username:
            password = None if parts.password is None else unquote(parts.password)
            self._client.username_pw_set(unquote(parts.username), password)
        if parts.scheme == "mqtts":
            self._client.tls_set()
        self._client.reconnect_delay_set(1, int(_LONGEST_WAIT))
        self._client.connect_async(
            parts.hostname, port or (8883 if parts.scheme == "mqtts" else 1883)
        )
        self._client.loop_start()
        super().__init__()

    def _deliver(self, text: str) -> None:
        until = time.monotonic() + _TIMEOUT_SECONDS
        while not self._client.is_connected():
            if time.monotonic() > until:
                raise ConnectionError("no connection to the broker")
            time.sleep(0.05)
        # A message that was not confirmed in time is still on its way; publishing it again would
        # only double it.
        before, sent = self._on_its_way
        if sent is None or before is not text or sent.rc:
            sent = self._client.publish(self.topic, text, qos=1)
            self._on_its_way = text, sent
        sent.wait_for_publish(_TIMEOUT_SECONDS)
        if not sent.is_published():
            raise TimeoutError("the broker has not confirmed the message")

    def close(self, seconds: float = 3.0) -> None:
        """Sends what waits, for so long at most, and disconnects."""
        super().close(seconds)
        self._client.disconnect()
        self._client.loop_stop()

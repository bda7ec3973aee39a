"""Watching an RTSP server and publishing to an MQTT broker, both real; `make test-live` runs these.

They fail, and are not skipped, where the servers cannot be started.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mafsar
from mafsar.runtime.live import intake
from mafsar.runtime.live.send import Mqtt
from mafsar.synthetic import render_video
from mafsar.video import load_raw_clip, write_video

pytestmark = pytest.mark.live
CLASSES = ("bend_forward", "wave_hand", "put_in_box")
SERVER = Path(__file__).with_name("rtsp_server.py")


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


def wait_for_port(port: int, child: subprocess.Popen[Any], seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        assert child.poll() is None, f"the server has ended with {child.returncode}"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    pytest.fail(f"nothing listens on port {port}")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`support/` and `film.mp4`, which shows the three actions in turn for 12 s."""
    folder = tmp_path_factory.mktemp("live")
    for label in CLASSES:
        for seed in (1, 2):
            path = folder / "support" / label / f"{seed}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            render_video(label, path, seed=seed, size=112)
    frames = [
        frame
        for label in (*CLASSES, *CLASSES)
        for frame in load_raw_clip(folder / "support" / label / "1.mp4", frames=24).frames
    ]
    write_video(folder / "film.mp4", frames, 12)
    return folder


@pytest.fixture
def camera(place: Path) -> Iterator[Any]:
    """Starts and stops an RTSP server of `film.mp4`."""
    port = free_port()
    running: list[subprocess.Popen[Any]] = []

    class Camera:
        url = f"rtsp://127.0.0.1:{port}/camera"

        def start(self) -> None:
            child = subprocess.Popen(
                ["/usr/bin/python3", str(SERVER), str(place / "film.mp4"), str(port)]
            )
            running.append(child)
            wait_for_port(port, child)

        def stop(self) -> None:
            running[-1].kill()
            running[-1].wait()

    made = Camera()
    made.start()
    yield made
    made.stop()


def test_an_rtsp_camera_gives_the_events_of_its_film_and_comes_back(
    place: Path, camera: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "FIRST_WAIT", 0.5)
    bank = mafsar.enroll(place / "support", text="off")
    from_file = [
        event.label for event in mafsar.watch(bank, place / "film.mp4") if event.event == "start"
    ]
    states: list[mafsar.Status] = []

    def status(each: mafsar.Status) -> None:
        states.append(each)
        names = [state.state for state in states]
        if names.count("lost") == 1 and each.state == "lost":
            camera.stop()
            threading.Timer(1.0, camera.start).start()
        if each.state == "back":
            watched.stop()

    watched = mafsar.watch(bank, f"door={camera.url}", status=status)
    events = list(watched)
    said = [each.state for each in states]
    assert said[0] == "open"
    assert "lost" in said
    assert said[-1] == "back"
    assert {event.source for event in events} == {"door"}
    found = [event.label for event in events if event.event == "start"]
    shared = sum(label in found for label in set(from_file))
    assert shared == len(set(from_file)), (found, from_file)
    assert all(event.t_start < 14 for event in events)


def test_events_reach_a_broker(tmp_path: Path) -> None:
    from paho.mqtt.client import Client
    from paho.mqtt.enums import CallbackAPIVersion

    program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
    port = free_port()
    config = tmp_path / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
    sender = Mqtt(f"mqtt://127.0.0.1:{port}/home/actions")
    sender.put({"number": 0})  # before there is a broker: it waits, and nothing blocks
    broker = subprocess.Popen([program, "-c", str(config)])
    got: list[Any] = []
    try:
        wait_for_port(port, broker)
        reader = Client(CallbackAPIVersion.VERSION2)
        reader.on_message = lambda _client, _data, message: got.append(
            (message.topic, json.loads(message.payload))
        )
        ready = threading.Event()
        reader.on_subscribe = lambda *_: ready.set()
        reader.connect("127.0.0.1", port)
        reader.subscribe("home/#", qos=1)
        reader.loop_start()
        assert ready.wait(10)
        for number in range(1, 20):
            sender.put({"number": number, "label": "сидеть"})
        until = time.monotonic() + 30
        while len(got) < 19 and time.monotonic() < until:
            time.sleep(0.05)
        sender.close()
        reader.loop_stop()
        reader.disconnect()
    finally:
        broker.terminate()
        broker.wait()
    numbers = [message["number"] for _, message in got]
    assert numbers[-19:] == list(range(1, 20))
    assert {topic for topic, _ in got} == {"home/actions"}
    assert got[-1][1]["label"] == "сидеть"
    assert sender.dropped == 0


def test_the_command_publishes_while_it_watches(place: Path, tmp_path: Path) -> None:
    program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
    listener = shutil.which("mosquitto_sub")
    assert listener, "mosquitto-clients is missing"
    port = free_port()
    config = tmp_path / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
    broker = subprocess.Popen([program, "-c", str(config)])
    try:
        wait_for_port(port, broker)
        heard = subprocess.Popen(
            [listener, "-p", str(port), "-t", "mafsar/events"], stdout=subprocess.PIPE, text=True
        )
        time.sleep(1.0)
        done = subprocess.run(
            [sys.executable, "-c", "from mafsar.cli.app import main; main()", "watch",
             str(place / "support"), str(place / "film.mp4"), "--text", "off", "--json",
             "--mqtt", f"mqtt://127.0.0.1:{port}"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        time.sleep(1.0)
        heard.terminate()
        lines, _ = heard.communicate(timeout=10)
    finally:
        broker.terminate()
        broker.wait()
    assert done.returncode == 0, done.stderr
    assert lines.splitlines()
    assert [json.loads(line) for line in lines.splitlines()] == [
        json.loads(line) for line in done.stdout.splitlines()
    ]

"""``mafsar studio`` and ``watch --serve`` as programs: their addresses, their end, missing packages."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mafsar.cli.app import build_app
from mafsar.synthetic import render_video

MAFSAR = (sys.executable, "-c", "from mafsar.cli.app import main; main()")


@pytest.fixture(scope="module")
def support(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("studio") / "support"
    for label in ("bend_forward", "wave_hand"):
        path = folder / label / "1.mp4"
        path.parent.mkdir(parents=True)
        render_video(label, path, seed=1, size=112)
    return folder


def ask(address: str, path: str) -> Any:
    """Asks with the token of an address, as its page does."""
    base, _, token = address.partition("/?token=")
    request = urllib.request.Request(base + path, headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.loads(answer.read())


def test_the_studio_serves_until_it_is_ended(support: Path) -> None:
    child = subprocess.Popen(
        [*MAFSAR, "studio", str(support), "--port", "0"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert child.stdout is not None
        address = child.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:")
        state = ask(address, "/api/state")
        assert [item["label"] for item in state["classes"]] == ["bend_forward", "wave_hand"]
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=30)
    finally:
        child.kill()
        child.communicate()
    assert child.returncode == 0, err
    assert "open the address above" in err


def test_a_page_is_served_while_a_pipe_is_watched(support: Path, tmp_path: Path) -> None:
    feed, sink = os.pipe()
    log = tmp_path / "said"
    token = "a-token-of-my-own"
    with log.open("w") as err:
        child = subprocess.Popen(
            [*MAFSAR, "watch", str(support), "door=-", "--serve", "0", "--json"],
            stdin=feed, stdout=subprocess.DEVNULL, stderr=err, env={**os.environ, "MAFSAR_TOKEN": token},
        )  # fmt: skip
    os.close(feed)
    frame = b"FRAME\n" + b"\x60" * 4096 + b"\x80" * 2048
    try:
        os.write(sink, b"YUV4MPEG2 W64 H64 F20:1 Ip A1:1 C420jpeg\n" + frame * 9)
        until = time.monotonic() + 60
        while "page: " not in log.read_text() and time.monotonic() < until:
            time.sleep(0.05)
        (address,) = (
            line.removeprefix("page: ")
            for line in log.read_text().splitlines()
            if line.startswith("page: ")
        )
        assert address.endswith(f"/?token={token}")
        assert [source["name"] for source in ask(address, "/api/state")["sources"]] == ["door"]
        assert ask(address, "/healthz")["status"] in ("ok", "degraded")
        child.send_signal(signal.SIGTERM)
        os.close(sink)
        child.wait(30)
    finally:
        child.kill()
    assert child.returncode == 0, log.read_text()


def test_a_port_that_is_taken_is_an_error(support: Path) -> None:
    import socket

    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        port = held.getsockname()[1]
        for words in (
            f"studio {support} --port {port}",
            f"watch {support} {support} --serve {port}",
        ):
            done = CliRunner().invoke(build_app(), words.split())
            assert done.exit_code == 1
            assert "cannot listen there" in done.stderr
            assert "choose another port" in done.stderr


def test_missing_packages_name_the_extra(support: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    plain = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "starlette" else plain(name, *rest),
    )
    for words in (f"studio {support}", f"watch {support} {support} --serve 0"):
        done = CliRunner().invoke(build_app(), words.split())
        assert done.exit_code == 1
        assert "needs starlette, not installed; pip install 'mafsar[studio]'" in done.stderr

"""The studio through its addresses: teaching, trying, exporting, and a restart."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

import mafsar
from mafsar.runtime.studio.studio_app import Studio
from mafsar.runtime.studio.workshop import Workshop
from mafsar.video import write_video

Bytes = Callable[..., bytes]


def add(client: TestClient, label: str, data: bytes, name: str = "", **query: str) -> Any:
    asked = {"label": label, "name": name, "ending": "mp4"} | query
    return client.post("/api/clips", params=asked, content=data)


def counts(state: dict[str, Any]) -> dict[str, int]:
    return {item["label"]: len(item["clips"]) for item in state["classes"]}


@pytest.fixture
def taught(client: TestClient, clip_bytes: Bytes) -> TestClient:
    """Classes `a` and `b` of two clips each, and `مرحبا` of one."""
    for label, kind in (("a", 0), ("b", 1)):
        for variant in (0, 1):
            assert add(client, label, clip_bytes(kind, variant)).status_code == 200
    assert add(client, "مرحبا", clip_bytes(2), "clip.mp4").status_code == 200
    return client


def test_clips_are_taught_and_judged(taught: TestClient, tmp_path: Path) -> None:
    state = taught.get("/api/state").json()
    assert counts(state) == {"a": 2, "b": 2, "مرحبا": 1}
    assert state["verdict"].startswith("right on 4 of 4 left-out clips")
    clips = {item["label"]: item["clips"] for item in state["classes"]}
    assert [clip["name"] for clip in clips["a"]] == ["001.mp4", "002.mp4"]
    assert all(clip["right"] is True and not clip["hurts"] for clip in clips["a"])
    assert clips["مرحبا"][0]["right"] is None
    assert clips["a"][0]["seconds"] == pytest.approx(2.0)
    assert sorted(path.name for path in (tmp_path / "support").iterdir()) == [
        ".studio", "a", "b", "مرحبا",
    ]  # fmt: skip
    assert list((tmp_path / "support" / ".studio").iterdir()) == []


def test_pictures_and_files_of_clips(taught: TestClient, clip_bytes: Bytes) -> None:
    clip = taught.get("/api/state").json()["classes"][0]["clips"][0]
    strip = taught.get(f"/api/clips/{clip['id']}/strip")
    assert Image.open(io.BytesIO(strip.content)).size == (128, 128)  # four frames in two rows
    file = taught.get(f"/api/clips/{clip['id']}/file", headers={"range": "bytes=0-9"})
    assert file.status_code == 206
    assert file.content == clip_bytes(0)[:10]
    assert taught.get("/api/clips/0123456789abcdef/file").status_code == 404


def test_a_restart_finds_the_same(taught: TestClient, tmp_path: Path, encoder: Any) -> None:
    before = taught.get("/api/state").json()
    again = Workshop(tmp_path / "support", encoder, text="off", cache=False).state()
    assert {**again, "version": 0} == {**before, "version": 0}


def test_a_folder_of_several_kinds_of_frames_is_taught_by_a_pattern(
    taught: TestClient, tmp_path: Path, encoder: Any, clip_of: Callable[..., np.ndarray]
) -> None:
    both = tmp_path / "support" / "a" / "both"
    both.mkdir()
    for k, frame in enumerate(clip_of(0)):
        Image.fromarray(frame).save(both / f"left_{k:05d}.png")
        Image.fromarray(255 - frame).save(both / f"right_{k:05d}.png")

    def shown(pattern: str | None) -> tuple[Workshop, dict[str, Any]]:
        made = Workshop(
            tmp_path / "support", encoder, text="off", cache=False, frames_pattern=pattern
        )
        (clip,) = [each for each in made.state()["classes"][0]["clips"] if each["name"] == "both"]
        return made, clip

    assert "frames_pattern" in shown(None)[1]["left_out"]
    made, clip = shown("left_{:05d}.png")
    assert clip["right"] is True
    assert made.strip(clip["id"]) is not None
    assert taught.get("/api/state").status_code == 200


def test_clips_are_moved_removed_and_brought_back(taught: TestClient) -> None:
    state = taught.get("/api/state").json()
    first = state["classes"][0]["clips"][0]["id"]
    state = taught.post(f"/api/clips/{first}/move", params={"label": "c"}).json()
    assert counts(state) == {"a": 1, "b": 2, "c": 1, "مرحبا": 1}
    last = state["classes"][2]["clips"][0]["id"]
    state = taught.delete(f"/api/clips/{last}").json()
    assert counts(state) == {"a": 1, "b": 2, "مرحبا": 1}
    state = taught.post(f"/api/removed/{state['removed']}/restore").json()
    assert counts(state) == {"a": 1, "b": 2, "c": 1, "مرحبا": 1}
    assert taught.post("/api/removed/0123456789abcdef/restore").status_code == 404
    assert taught.post("/api/removed/..%2f..%2fa/restore").status_code == 404
    assert taught.delete(f"/api/clips/{last}x").status_code == 404


@pytest.mark.parametrize(
    "label", ["", "  ", "a/b", "..", ".hidden", "_x", "a\\b", "a\nb", "a\0b", "x" * 121, "ж" * 61]
)
def test_labels_that_are_no_folder_are_refused(
    client: TestClient, clip_bytes: Bytes, label: str, tmp_path: Path
) -> None:
    answer = add(client, label, clip_bytes(0))
    assert answer.status_code == 422
    assert answer.json()["error"]
    assert [path.name for path in (tmp_path / "support").glob("[!.]*")] == []


@pytest.mark.parametrize(
    "label", ["手を振る", "नमस्ते", "لوّح بيدك", "שלום עולם", "café", "👋🏽", "a b"]
)
def test_labels_in_any_script(client: TestClient, clip_bytes: Bytes, label: str) -> None:
    state = add(client, label, clip_bytes(0)).json()
    assert list(counts(state)) == [label]
    # The other form of the same letters is the same class.
    import unicodedata

    state = add(client, unicodedata.normalize("NFD", label), clip_bytes(0, 3)).json()
    assert counts(state) == {label: 2}


def test_files_that_are_no_clip_are_refused(
    client: TestClient, clip_bytes: Bytes, tmp_path: Path
) -> None:
    dark = write_video(tmp_path / "dark.mp4", np.zeros((20, 32, 32, 3), np.uint8), 10).read_bytes()
    still = np.full((20, 64, 64, 3), 120, np.uint8)
    still_clip = write_video(tmp_path / "still.mp4", still, 10).read_bytes()
    picture = io.BytesIO()
    Image.fromarray(still[0]).save(picture, "PNG")
    for data, name, why in (
        (b"", "a.mp4", "the file is empty"),
        (b"garbage" * 100, "a.mp4", "a.mp4: "),
        (b"garbage" * 100, "a.txt", "a.txt: is not a video"),
        (picture.getvalue(), "a.png", "a.png: is not a video"),
        (clip_bytes(0)[:400], "cut.mp4", "cut.mp4: "),
        (dark, "dark.mp4", "dark.mp4: is dark"),
        (still_clip, "still.mp4", "still.mp4: nothing moves in it"),
    ):
        answer = add(client, "a", data, name)
        assert answer.status_code == 422, name
        assert answer.json()["error"].startswith(why)
        assert str(tmp_path) not in answer.json()["error"]
    assert add(client, "_none", still_clip, "still.mp4").status_code == 200
    assert client.get("/api/state").json()["classes"] == []
    assert add(client, "a", clip_bytes(0), "one.mp4").status_code == 200
    twice = add(client, "a", clip_bytes(0), "two.mp4")
    assert twice.json()["error"] == "a has this clip already, as one.mp4"


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("../../evil.mp4", "evil.mp4"),
        ("C:\\clips\\wave.MP4", "wave.mp4"),
        (".hidden.mp4", "hidden.mp4"),
        ("a/b/.mp4", "mp4"),
        ("x" * 300 + ".mp4", "x" * 120 + ".mp4"),
        ("ملف.mp4", "ملف.mp4"),
    ],
)
def test_names_of_files_stay_names(
    client: TestClient, clip_bytes: Bytes, tmp_path: Path, name: str, kept: str
) -> None:
    state = add(client, "a", clip_bytes(0), name).json()
    assert [clip["name"] for clip in state["classes"][0]["clips"]] == [kept]
    assert {path.name for path in tmp_path.iterdir()} == {"support"}


def test_files_that_come_together_are_enrolled_once(
    client: TestClient, clip_bytes: Bytes, encoder: Any
) -> None:
    for variant in range(3):
        more = "1" if variant < 2 else "0"
        state = add(client, "a", clip_bytes(0, variant), f"{variant}.mp4", more=more).json()
    assert counts(state) == {"a": 3}
    assert state["version"] == 2  # empty, then with all three
    assert encoder.calls["query"] <= 2 * 3 + 2


def test_a_clip_is_named_and_the_alignment_shown(taught: TestClient, clip_bytes: Bytes) -> None:
    answer = taught.post("/api/match", params={"name": "q.mp4"}, content=clip_bytes(1, 2)).json()
    assert answer["label"] == "b"
    assert answer["query"] == "q.mp4"
    assert sum(row["score"] for row in answer["topk"]) == pytest.approx(1.0)
    shown = answer["shown"]
    weights = np.array(shown["weights"])
    assert weights.shape == (4, 4)
    assert weights.max() == 1.0
    assert shown["support_label"] == "b"
    assert shown["query"].startswith("data:image/jpeg;base64,")
    bad = taught.post("/api/match", params={"name": "q.mp4"}, content=b"garbage")
    assert bad.status_code == 422
    assert bad.json()["error"].startswith("q.mp4: ")
    own = taught.post("/api/match", params={"name": "q.mp4"}, content=clip_bytes(1, 0)).json()
    assert "has the same content and was left out" in own["warning"]
    assert taught.post("/api/match", params={"threshold": "2"}, content=b"x").status_code == 422


def test_nothing_is_named_before_there_is_a_class(client: TestClient, clip_bytes: Bytes) -> None:
    answer = client.post("/api/match", params={"name": "q.mp4"}, content=clip_bytes(0))
    assert answer.status_code == 409
    assert answer.json()["error"] == "there is no class yet; add clips first"
    assert client.get("/api/bank").status_code == 409
    assert client.post("/api/live").status_code == 409


def test_the_bank_is_exported(taught: TestClient, tmp_path: Path, encoder: Any) -> None:
    answer = taught.get("/api/bank")
    assert 'filename="support.safetensors"' in answer.headers["content-disposition"]
    (tmp_path / "got.safetensors").write_bytes(answer.content)
    bank = mafsar.read_bank(tmp_path / "got.safetensors")
    made = mafsar.enroll(tmp_path / "support", encoder, text="off", cache=False)
    assert bank.labels == made.labels == ("a", "b", "مرحبا")
    np.testing.assert_array_equal(bank.query, made.query)


def test_what_lies_in_the_folder_already_is_shown(
    tmp_path: Path, encoder: Any, clip_bytes: Bytes
) -> None:
    root = tmp_path / "mine"
    for label in ("a", "b", "empty"):
        (root / label).mkdir(parents=True)
    (root / "a" / "good.mp4").write_bytes(clip_bytes(0))
    (root / "a" / "bad.mp4").write_bytes(b"garbage" * 99)
    (root / "b" / "good.mp4").write_bytes(clip_bytes(1))
    workshop = Workshop(root, encoder, text="off", cache=False)
    state = workshop.state()
    assert counts(state) == {"a": 2, "b": 1, "empty": 0}
    bad, good = state["classes"][0]["clips"]
    assert bad["left_out"]
    assert "left_out" not in good
    (root / "labels.csv").write_text("nowhere,words\n")
    workshop.refresh()
    assert "labels.csv" in workshop.state()["problem"]
    (root / "labels.csv").unlink()
    workshop.refresh()
    assert workshop.state()["problem"] is None


def test_a_support_that_is_a_file_is_refused(tmp_path: Path, encoder: Any) -> None:
    (tmp_path / "bank.safetensors").write_bytes(b"x")
    with pytest.raises(mafsar.InputError, match="name a folder of class folders"):
        Studio(Workshop(tmp_path / "bank.safetensors", encoder))

"""Damaged clips and clocks in the verbs that read many clips: one row or one line each, never the end."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import av
import pytest
from typer.testing import CliRunner

import mafsar
from mafsar.cli.app import build_app
from mafsar.data.frames import DecodedFrames, frames_of
from mafsar.data.labelled import LabelledClip
from mafsar.data.loader import EpisodeDataset, EpisodeLoader
from mafsar.data.open_data import open_data
from mafsar.errors import InputError
from mafsar.video import load_raw_clip, video_info

runner = CliRunner()
app = build_app()
pytestmark = pytest.mark.usefixtures("pixels")
JUMP = "the clock jumps once"


def run(*words: object, code: int = 0) -> tuple[str, str]:
    result = runner.invoke(app, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result.stdout, result.stderr


@pytest.fixture
def damaged(scene: Path, tmp_path: Path) -> Path:
    """The rendered support; the last frame of one clip is shown ten minutes later."""
    folder = tmp_path / "support"
    shutil.copytree(scene / "support", folder)
    source = next((folder / "goes_up").glob("*.mp4"))
    out = source.with_name("far.mkv")
    with av.open(str(source)) as read, av.open(str(out), "w") as write:
        stream = write.add_stream_from_template(read.streams.video[0])
        packets = [packet for packet in read.demux(video=0) if packet.size]
        far = max(packets, key=lambda packet: packet.pts)
        for packet in packets:
            if packet is far:
                packet.pts = packet.dts = packet.pts + int(600 / packet.time_base)
            packet.stream = stream
            write.mux(packet)
    source.unlink()
    return folder


def lines_with(text: str, said: str) -> list[str]:
    return [line for line in text.splitlines() if said in line]


def test_eval_lists_bad_clips_or_goes_on_without_them(scene: Path, tmp_path: Path) -> None:
    folder = tmp_path / "support"
    shutil.copytree(scene / "support", folder)
    bad = [folder / "goes_down" / "bad.mp4", folder / "goes_up" / "worse.avi"]
    for path in bad:
        path.write_bytes(path.name.encode())
    words = ["eval", "--data", folder, "--way", 3, "--episodes", 20]
    _, stderr = run(*words, code=1)
    (line,) = lines_with(stderr, "error: ")
    assert all(str(path) in line for path in bad)
    assert line.endswith("fix or remove them, or skip them with --skip-bad")
    frozen = tmp_path / "episodes.json"
    stdout, stderr = run(*words, "--skip-bad", "--json", "--episodes-file", frozen)
    assert json.loads(stdout)["clips_encoded"] in (0, 12)
    assert all(len(lines_with(stderr, f"{path}: ")) == 1 for path in bad)
    assert all("left out" in line for line in lines_with(stderr, "note: ") if "bad" in line)
    again, _ = run(*words, "--skip-bad", "--json", "--episodes-file", frozen)
    assert json.loads(again)["accuracy"] == json.loads(stdout)["accuracy"]


def test_repairs_are_said_once_by_every_verb(damaged: Path, tmp_path: Path) -> None:
    far = damaged / "goes_up" / "far.mkv"
    _, stderr = run("eval", "--data", damaged, "--way", 3, "--episodes", 20)
    assert len(lines_with(stderr, JUMP)) == 1
    table = tmp_path / "all.csv"
    _, stderr = run("data", "check", "--data", damaged, "-o", table)
    assert len(lines_with(stderr, JUMP)) == 1
    with table.open() as file:
        said = {row["clip"]: row["repairs"] for row in csv.DictReader(file)}
    assert JUMP in said["goes_up/far.mkv"]
    assert sum(bool(text) for text in said.values()) == 1
    store = tmp_path / "s.sqlite"
    stdout, stderr = run("data", "pack", "--data", damaged, "-o", store, "--json")
    (row,) = json.loads(stdout)["repairs"]
    assert (row["clip"], len(lines_with(stderr, JUMP))) == ("goes_up/far.mkv", 1)
    assert JUMP in row["repairs"][0]
    assert JUMP in run("info", far, "--json")[0]
    _, stderr = run("enroll", damaged, "-o", tmp_path / "b.safetensors")
    assert len(lines_with(stderr, JUMP)) == 1
    stdout, stderr = run("match", tmp_path / "b.safetensors", far, "--keep-query", "--json")
    assert JUMP in json.loads(stdout)["clip"]["repairs"][0]
    assert len(lines_with(stderr, JUMP)) == 1


def test_a_packed_set_keeps_the_clock_it_was_packed_with(damaged: Path, tmp_path: Path) -> None:
    store = tmp_path / "s.sqlite"
    words = ["data", "pack", "--data", damaged, "-o", store, "--frames", 8]
    _, stderr = run(*words, "--ignore-clock", 12)
    assert "its timestamps are ignored, as asked: 12 fps" in stderr
    _, stderr = run(*words, code=1)
    assert "--ignore-clock 12, not --frames 8" in stderr
    assert "use the same settings" in stderr
    run(*words, "--ignore-clock", 12)
    clip = next(clip for clip in open_data(data=store).clips if clip.name == "goes_up/far.mkv")
    seconds, rate = open_store(store).duration(clip)
    assert rate == 12
    assert seconds == pytest.approx(load_raw_clip(
        damaged / "goes_up" / "far.mkv", frames=1, ignore_clock=12).duration_seconds)  # fmt: skip
    for verb in (["eval"], ["data", "check"]):
        _, stderr = run(*verb, "--data", store, "--ignore-clock", 12, code=1)
        assert f"--ignore-clock 12: {store} is packed" in stderr
    with pytest.raises(InputError, match="is packed"):
        frames_of(open_data(data=store), 12.0)


def open_store(path: Path) -> object:
    from mafsar.data.store import Store

    return Store(path)


def test_a_bank_keeps_the_clock_of_its_clips(damaged: Path, tmp_path: Path) -> None:
    far = damaged / "goes_up" / "far.mkv"
    bank = mafsar.enroll(damaged, ignore_clock=10)
    bank.save(tmp_path / "b.safetensors")
    held = mafsar.read_bank(tmp_path / "b.safetensors")
    assert {clip.ignore_clock for clip in held.clips} == {10}
    answer = held.match(far, keep_query=True, ignore_clock=10)
    assert answer.clip.fps == 10
    assert "ignored" in answer.clip.repairs[0]
    assert {clip.ignore_clock for clip in mafsar.enroll(damaged).clips} == {None}


def test_a_saved_video_has_the_clock_of_its_answer(damaged: Path, tmp_path: Path) -> None:
    far = damaged / "goes_up" / "far.mkv"
    run("enroll", damaged, "-o", tmp_path / "b.safetensors")
    videos = tmp_path / "videos"
    run("match", tmp_path / "b.safetensors", far, "--ignore-clock", 5, "--save-video", videos)
    info = video_info(videos / "far.mp4")
    assert info["fps"] == 5
    assert info["duration_seconds"] == pytest.approx(
        video_info(far, 5)["duration_seconds"], abs=0.3
    )


def test_training_ignores_a_clock_and_says_repairs_once(damaged: Path) -> None:
    """Workers say each clip once, and the loader of their process keeps it."""
    clip = LabelledClip(damaged / "goes_up" / "far.mkv", "goes_up", name="far")
    source = DecodedFrames()
    source.testing(clip, frames=4, size=32)
    assert JUMP in source.repairs["far"][0]
    steady = DecodedFrames(10.0)
    steady.testing(clip, frames=4, size=32)
    assert "ignored" in steady.repairs["far"][0]


@pytest.mark.parametrize("workers", [0, 2])
def test_episodes_bring_the_repairs_of_their_clips(damaged: Path, workers: int) -> None:
    torch = pytest.importorskip("torch")
    from mafsar.data.episodes import draw_episodes

    torch.set_num_threads(1)
    data = open_data(data=damaged).select("test")
    episodes = draw_episodes(data.class_index, data.labels, way=4, shot=2, episodes=6, seed=0)
    dataset = EpisodeDataset(data, episodes, DecodedFrames(), frames=4, size=32, train=True)
    loader = EpisodeLoader(dataset, workers=workers)
    assert sum(1 for _ in loader) == 6
    assert [name for name in loader.repairs if "far" in name] == list(loader.repairs)
    assert all(JUMP in said[0] for said in loader.repairs.values())

"""``mafsar watch``: its outputs, signals and errors, in a process of its own where signals count."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from mafsar.cli.app import build_app
from mafsar.synthetic import render_video
from mafsar.video import load_raw_clip, video_info, write_video

runner = CliRunner()
app = build_app()
CLASSES = ("bend_forward", "wave_hand", "put_in_box")
MAFSAR = (sys.executable, "-c", "from mafsar.cli.app import main; main()")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`support/`, `bank.safetensors` and `long.mp4`, which shows the three actions in turn."""
    folder = tmp_path_factory.mktemp("watch")
    for label in CLASSES:
        for seed in (1, 2):
            path = folder / "support" / label / f"{seed}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            render_video(label, path, seed=seed, size=112)
    frames = [
        frame
        for label in CLASSES
        for frame in load_raw_clip(folder / "support" / label / "1.mp4", frames=24).frames
    ]
    write_video(folder / "long.mp4", frames, 12)
    made = runner.invoke(
        app, f"enroll {folder}/support -o {folder}/bank.safetensors --text off".split()
    )
    assert made.exit_code == 0, made.output
    return folder


def run(*words: object, code: int = 0) -> tuple[str, str]:
    result = runner.invoke(app, ["watch", *map(str, words)])
    assert result.exit_code == code, result.output
    return result.stdout, result.stderr


def test_all_files_hold_the_same_events(place: Path, tmp_path: Path) -> None:
    out, err = run(
        place / "bank.safetensors", f"film={place / 'long.mp4'}", "--json",
        "--jsonl", tmp_path / "e.jsonl", "--csv", tmp_path / "e.csv",
        "--save-video", tmp_path / "e.mp4",
    )  # fmt: skip
    lines = [json.loads(line) for line in out.splitlines()]
    assert lines == [json.loads(line) for line in (tmp_path / "e.jsonl").read_text().splitlines()]
    ends = [line for line in lines if line["event"] == "end"]
    assert {line["label"] for line in ends} <= set(CLASSES)
    assert ends
    with (tmp_path / "e.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [line["id"] for line in ends]
    assert [float(row["t_end"]) for row in rows] == [line["t_end"] for line in ends]
    assert {line["source"] for line in lines} == {"film"}
    assert list(lines[-1]) == [
        "schema", "event", "source", "state", "fps", "dropped", "delay_seconds", "message", "time",
    ]  # fmt: skip
    info = video_info(tmp_path / "e.mp4")
    assert info["frames"] == 72
    assert info["height"] > 112
    assert "windows: " in err
    assert re.search(r"watched 5\.\d s of 1 source in .* times real time, .* windows a second", err)
    assert f"wrote {tmp_path / 'e.mp4'}" in err


def test_a_table_is_printed_without_json(place: Path) -> None:
    out, _ = run(place / "support", place / "long.mp4", "--text", "off")
    assert any(" start " in line and " s " in line for line in out.splitlines())


def test_two_people_in_two_regions_are_two_right_events(place: Path, tmp_path: Path) -> None:
    left = load_raw_clip(place / "support" / CLASSES[0] / "1.mp4", frames=24).frames
    right = load_raw_clip(place / "support" / CLASSES[1] / "2.mp4", frames=24).frames
    both = [np.concatenate(pair, axis=1) for pair in zip(left, right, strict=True)]
    write_video(tmp_path / "both.mp4", both, 12)
    out, _ = run(
        place / "bank.safetensors", tmp_path / "both.mp4", "--json",
        "--roi", "left=0,0,0.5,1", "--roi", "right=112,0,112,112",
    )  # fmt: skip
    ends = [line for line in map(json.loads, out.splitlines()) if line["event"] == "end"]
    assert {(line["region"], line["label"]) for line in ends} == {
        ("left", CLASSES[0]), ("right", CLASSES[1]),
    }  # fmt: skip


def test_existing_files_are_refused_and_json_lines_grow(place: Path, tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_text("mine\n")
    _, err = run(
        place / "bank.safetensors", place / "long.mp4", "--csv", tmp_path / "e.csv", code=1
    )
    assert "exists already" in err
    for _ in range(2):
        run(place / "bank.safetensors", place / "long.mp4", "--jsonl", tmp_path / "e.jsonl")
    states = [
        json.loads(line).get("state") for line in (tmp_path / "e.jsonl").read_text().splitlines()
    ]
    assert states.count("ended") == 2


def test_a_log_that_ends_within_a_line_goes_on_with_a_whole_one(tmp_path: Path) -> None:
    """A kill leaves half an event, which is cut; what another program wrote stays."""
    from mafsar.cli.watch_outputs import GrowingFile

    whole, new = '{"schema": 1, "event": "end"}', '{"schema": 1}\n'
    for before, after in (
        (f'{whole}\n{{"schema": 1, "eve', f"{whole}\n{new}"),
        ('{"schema": 1, "eve', new),
        (whole, f"{whole}\n{new}"),
        ("mine", f"mine\n{new}"),
        ("", new),
    ):
        path = tmp_path / "e.jsonl"
        path.write_text(before)
        log = GrowingFile("--jsonl", path)
        log.write(new)
        log.close()
        assert path.read_text() == after


def test_events_are_not_appended_to_an_input(place: Path, tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    film.write_bytes((place / "long.mp4").read_bytes())
    before = film.read_bytes()
    link = tmp_path / "link.jsonl"
    link.symlink_to(film)
    for target in (film, link):
        _, said = run(place / "bank.safetensors", film, "--jsonl", target, code=1)
        assert "would replace the source" in said
    _, said = run(place / "bank.safetensors", place / "long.mp4", "--jsonl", film, code=1)
    assert "is not a text file" in said
    both = tmp_path / "both"
    _, said = run(
        place / "bank.safetensors", place / "long.mp4", "--jsonl", both, "--csv", both, code=1
    )
    assert "the same file" in said
    assert film.read_bytes() == before


def test_the_videos_of_several_sources_replace_none_of_them(place: Path, tmp_path: Path) -> None:
    """`--save-video cam.mp4` of two sources writes cam-1.mp4 and cam-2.mp4, as the cameras are called."""
    film = (place / "long.mp4").read_bytes()
    cams = [tmp_path / "cam-1.mp4", tmp_path / "cam-2.mp4"]
    for cam in cams:
        cam.write_bytes(film)
    words = ("--save-video", tmp_path / "cam.mp4", "-y")
    _, said = run(place / "bank.safetensors", *cams, *words, code=1)
    assert f"--save-video {cams[0]}: would replace the source; name another place" in said
    assert [cam.read_bytes() for cam in cams] == [film, film]
    other = tmp_path / "other-2.mp4"
    other.write_bytes(film)
    words = ("--save-video", tmp_path / "other.mp4")
    assert (
        "other-2.mp4: exists already" in run(place / "bank.safetensors", *cams, *words, code=1)[1]
    )
    _, said = run(place / "bank.safetensors", *cams, *words, "-y")
    assert video_info(tmp_path / "other-1.mp4")["frames"] == 72
    assert f"wrote {other}" in said


def test_a_bank_that_is_not_there_costs_no_events_of_before(place: Path, tmp_path: Path) -> None:
    """What is written is opened once nothing that can be mistyped is left to open."""
    before = {"--csv": "e.csv", "--jsonl": "e.jsonl", "--out": "e.txt"}
    for name in before.values():
        (tmp_path / name).write_text("mine\n")
    words = [word for flag, name in before.items() for word in (flag, tmp_path / name)]
    for bank in (tmp_path / "none.safetensors", tmp_path / "e.txt"):
        run(bank, place / "long.mp4", *words, "-y", code=1)
    run(place / "bank.safetensors", place / "long.mp4", *words, "-y", "--model", "vit-x", code=1)
    assert {(tmp_path / name).read_text() for name in before.values()} == {"mine\n"}


def test_results_go_to_the_file_of_out(place: Path, tmp_path: Path) -> None:
    for words in ((), ("--json",)):
        said, _ = run(place / "bank.safetensors", place / "long.mp4", *words)
        out, err = run(
            place / "bank.safetensors", place / "long.mp4", *words, "-o", tmp_path / "e", "-y"
        )
        assert out == ""
        assert f"wrote {tmp_path / 'e'}" in err
        varying = re.compile(r'"(id|time|delay_seconds)": [^,}]*')
        written = (tmp_path / "e").read_text()
        assert varying.sub("", written) == varying.sub("", said)
        assert " start " in written or '"start"' in written
    _, err = run(place / "bank.safetensors", place / "long.mp4", "-o", tmp_path / "e", code=1)
    assert "exists already" in err


def test_a_support_with_bad_clips_or_several_kinds_of_frames_is_watched_for(
    place: Path, tmp_path: Path
) -> None:
    support = tmp_path / "support"
    shutil.copytree(place / "support", support)
    bad = [support / CLASSES[0] / "bad.mp4", support / CLASSES[1] / "worse.mp4"]
    for path in bad:
        path.write_bytes(path.name.encode())
    words = (support, place / "long.mp4", "--text", "off")
    assert "skip them with --skip-bad" in run(*words, code=1)[1]
    _, err = run(*words, "--skip-bad")
    assert all(f"{path}: " in err for path in bad)
    for path in bad:
        path.unlink()
    frames = load_raw_clip(support / CLASSES[2] / "1.mp4", frames=8).frames
    (support / CLASSES[2] / "both").mkdir()
    for k, frame in enumerate(frames):
        for kind, shown in (("left", frame), ("right", 255 - frame)):
            path = support / CLASSES[2] / "both" / f"{kind}_{k:05d}.png"
            Image.fromarray(shown.astype(np.uint8)).save(path)
    assert "--frames-pattern" in run(*words, code=1)[1]
    run(*words, "--frames-pattern", "left_{:05d}.png")


def test_two_sources_of_one_name_are_refused(place: Path) -> None:
    film = place / "long.mp4"
    _, err = run(place / "bank.safetensors", f"cam={film}", f"cam={film}", code=1)
    assert "error: SOURCE cam: named twice; name each one once, or as NAME=SOURCE" in err


def test_clips_are_recorded_with_the_results_where_they_are_wanted(
    place: Path, tmp_path: Path
) -> None:
    words = ["record", str(place / "long.mp4"), str(tmp_path / "s" / "wave")]
    words += ["--count", "2", "--seconds", "1", "--delay", "0", "--json"]
    done = runner.invoke(app, words)
    assert done.exit_code == 0, done.output
    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert [list(each) for each in said] == [["schema", "path", "seconds", "moving"]] * 2
    assert [Path(each["path"]).name for each in said] == ["001.mp4", "002.mp4"]
    assert said[0]["seconds"] == pytest.approx(1.0, abs=0.1)
    done = runner.invoke(app, [*words[:-1], "-o", str(tmp_path / "list.txt")])
    assert done.exit_code == 0, done.output
    assert done.stdout == ""
    assert [line.split()[0] for line in (tmp_path / "list.txt").read_text().splitlines()] == [
        str(tmp_path / "s" / "wave" / f"00{number}.mp4") for number in (3, 4)
    ]
    done = runner.invoke(app, [*words, "-o", words[1], "-y"])
    assert done.exit_code == 1
    assert "would replace the source" in done.stderr


def test_the_video_of_a_live_source_is_said_to_be_written_only_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer dies of what no one foresaw, or is too slow."""
    from mafsar.runtime.live import display
    from mafsar.video.geometry import Geometry
    from mafsar.video.picture import Picture

    def written(write: Callable[..., Any], name: str) -> str | None:
        monkeypatch.setattr(display, "write_video", write)
        overlay = display.LiveOverlay(0, list, Geometry())
        writer = display.VideoWriter(overlay, tmp_path / name)
        overlay.see(0, 0.0, lambda: Picture.of(np.zeros((64, 64, 3), np.uint8)))
        writer.finish()
        return None if writer.error is None else str(writer.error)

    def dying(*_: Any) -> None:
        raise ValueError("no such\nfont")

    release = threading.Event()
    assert written(display.write_video, "a.mp4") is None
    assert (
        written(dying, "b.mp4")
        == f"{tmp_path / 'b.mp4'}: was not written (ValueError: no such font)"
    )
    monkeypatch.setattr(display, "_LAST_SECONDS", 0.1)
    said = written(lambda *_: release.wait(20), "c.mp4")
    release.set()
    assert said is not None
    assert "its last frames took longer than 0.1 s" in said


def test_wrong_words_are_refused(place: Path, tmp_path: Path) -> None:
    bank, film = place / "bank.safetensors", place / "long.mp4"
    assert "--window 'a' is not auto" in run(bank, film, "--window", "a", code=2)[1]
    assert "no such file" in run(bank, tmp_path / "none.mp4", code=1)[1]
    assert "give an address" in run(bank, film, "--webhook", "ftp://x", code=1)[1]
    assert "no such camera (/dev/video97)" in run(bank, "97", code=1)[1]
    assert "two regions" in run(bank, film, "--roi", "a=0,0,1,1", "--roi", "a=0,0,1,1", code=2)[1]


def test_show_needs_a_display(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    _, err = run(place / "bank.safetensors", place / "long.mp4", "--show", code=1)
    assert "there is no display here" in err


def test_a_video_on_stdin_is_watched(place: Path) -> None:
    with (place / "long.mp4").open("rb") as film:
        done = subprocess.run(
            [*MAFSAR, "watch", str(place / "bank.safetensors"), "-", "--json"],
            stdin=film, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines[-1]["state"] == "ended"
    assert lines[-1]["source"] == "stdin"


def test_signals_reload_reopen_and_finish(place: Path, tmp_path: Path) -> None:
    """A camera that never ends (a pipe that is fed slowly) is watched through every signal."""
    feed, sink = os.pipe()
    jsonl, table, bank = tmp_path / "e.jsonl", tmp_path / "e.csv", tmp_path / "bank.safetensors"
    good = (place / "bank.safetensors").read_bytes()
    bank.write_bytes(good)
    child = subprocess.Popen(
        [*MAFSAR, "watch", str(bank), "-", "--jsonl", str(jsonl), "--csv", str(table)],
        stdin=feed, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    os.close(feed)
    # y4m: pictures without a container's index, which a pipe could not give.
    head = b"YUV4MPEG2 W64 H64 F20:1 Ip A1:1 C420jpeg\n"
    frame = b"FRAME\n" + b"\x60" * 4096 + b"\x80" * 2048
    os.write(sink, head + frame * 200)

    def wait_for(word: str) -> None:
        until = time.monotonic() + 30
        while time.monotonic() < until:
            os.write(sink, frame)
            if any(path.exists() and word in path.read_text() for path in tmp_path.glob("e*")):
                return
            time.sleep(0.02)
        pytest.fail(f"{word} was not said: {[p.read_text() for p in tmp_path.glob('e*')]}")

    wait_for('"open"')
    bank.write_bytes(b"damaged")
    child.send_signal(signal.SIGHUP)
    wait_for('"refused"')
    bank.write_bytes(good)
    child.send_signal(signal.SIGHUP)
    wait_for('"reloaded"')
    jsonl.rename(tmp_path / "e.old")
    child.send_signal(signal.SIGUSR1)
    child.send_signal(signal.SIGHUP)
    until = time.monotonic() + 30
    while not jsonl.exists() and time.monotonic() < until:
        os.write(sink, frame)
        time.sleep(0.02)
    assert jsonl.exists()
    child.send_signal(signal.SIGTERM)
    os.write(sink, frame * 50)
    out, err = child.communicate(timeout=30)
    os.close(sink)
    assert child.returncode == 0, err
    assert table.read_text().startswith("id,source,region,label,")
    starts, ends = out.count("  start"), out.count("  end")
    assert starts == ends

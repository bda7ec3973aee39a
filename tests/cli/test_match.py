"""`mafsar match` on a small rendered support, with a stand-in for the model."""

from __future__ import annotations

import csv
import json
import math
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from mafsar.cli.app import build_app
from mafsar.video import load_raw_clip

runner = CliRunner()
app = build_app()
CLASSES = ["goes_down", "goes_left", "goes_right", "goes_up"]

pytestmark = pytest.mark.usefixtures("pixels")


def run(*words: object, code: int = 0, stdin: str | None = None) -> tuple[str, str]:
    result = runner.invoke(app, [str(word) for word in words], input=stdin)
    assert result.exit_code == code, result.output
    return result.stdout, result.stderr


def answers(stdout: str) -> list[dict]:
    def refuse(token: str) -> None:
        raise AssertionError(f"{token} in JSON")

    return [json.loads(line, parse_constant=refuse) for line in stdout.splitlines()]


def test_json_has_exactly_the_documented_fields(scene: Path) -> None:
    query = scene / "queries" / "goes_up.mp4"
    stdout, stderr = run("match", scene / "support", query, "--json")
    (answer,) = answers(stdout)
    assert list(answer) == [
        "schema", "query", "label", "score", "p_none", "none", "topk", "seconds", "clip", "model",
        "adapters", "engine", "precision", "device", "views", "warning",
    ]  # fmt: skip
    assert answer["schema"] == 1
    assert answer["query"] == str(query)
    assert answer["label"] == "goes_up"
    assert answer["p_none"] is None
    assert answer["none"] is False
    assert answer["warning"] is None
    assert [set(row) for row in answer["topk"]] == [
        {"label", "score", "distance", "text_score"}
    ] * 4
    assert math.isclose(sum(row["score"] for row in answer["topk"]), 1.0, abs_tol=1e-6)
    assert answer["score"] == answer["topk"][0]["score"]
    assert list(answer["seconds"]) == ["decode", "preprocess", "encode", "match", "total"]
    parts = [answer["seconds"][name] for name in ("decode", "preprocess", "encode", "match")]
    assert math.isclose(sum(parts), answer["seconds"]["total"])
    assert list(answer["clip"]) == ["duration_seconds", "frames_seconds", "fps", "repairs"]
    assert math.isclose(answer["clip"]["duration_seconds"], 1.0, abs_tol=0.1)
    assert len(answer["clip"]["frames_seconds"]) == 8
    assert (answer["model"], answer["adapters"]) == ("tiny", "trained")
    assert (answer["engine"], answer["device"], answer["precision"]) == ("onnx", "cpu", "fp32")
    for said in ("tiny is a stand-in", "engine: onnx on cpu", "text: "):
        assert stderr.count(said) == 1


def test_every_query_is_named_rightly_in_a_readable_table(scene: Path) -> None:
    stdout, _ = run("match", scene / "support", scene / "queries")
    rows = [line for line in stdout.splitlines() if ".mp4" in line]
    assert len(rows) == 4
    for label, row in zip(CLASSES, rows, strict=True):
        assert str(scene / "queries" / f"{label}.mp4") in row
        assert row.split()[1] == label
    assert "4 queries · 4 classes, 12 support clips" in stdout.splitlines()[-1]


def test_quiet_leaves_only_results(scene: Path) -> None:
    _, stderr = run("match", scene / "support", scene / "queries", "-q")
    assert stderr == ""
    _, stderr = run("-q", "match", scene / "support", scene / "queries", "--json")
    assert stderr == ""


def test_sources(scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    for k in range(8):
        Image.new("RGB", (40, 40), (30 * k, 0, 0)).save(frames / f"{k}.png")
    monkeypatch.chdir(scene / "queries")
    stdout, _ = run("match", scene / "support", "goes_u*.mp4", "it=goes_left.mp4", frames, "--json")
    assert [answer["query"] for answer in answers(stdout)] == ["goes_up.mp4", "it", str(frames)]
    assert answers(stdout)[2]["clip"]["fps"] is None
    stdout, _ = run(
        "match", scene / "support", "-", "--json", stdin="goes_up.mp4\n\nx=goes_down.mp4\n"
    )
    assert [answer["query"] for answer in answers(stdout)] == ["goes_up.mp4", "x"]


@pytest.mark.parametrize("live", ["0", "/dev/video0", "rtsp://camera/1", "csi://0", "http://x/y"])
def test_live_sources_are_sent_to_watch(scene: Path, live: str) -> None:
    _, stderr = run("match", scene / "support", live, code=1)
    assert stderr == (
        f"error: QUERY {live}: a live source; match takes clips, use mafsar watch SUPPORT {live}\n"
    )


@pytest.mark.parametrize("file", ["https://x.org/a.mp4", "http://x/y/b.MOV?download=1"])
def test_files_on_the_web_are_to_be_downloaded(scene: Path, file: str) -> None:
    _, stderr = run("match", scene / "support", file, code=1)
    said = "a file on the web; download it first, then give the file"
    assert stderr == f"error: QUERY {file}: {said}\n"


def test_a_broken_query_leaves_the_others_answered(scene: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video at all")
    good = scene / "queries" / "goes_up.mp4"
    words = ["match", scene / "support", broken, good, tmp_path / "gone.mp4", good]
    table_csv = tmp_path / "out.csv"
    stdout, stderr = run(*words, "--json", "--csv", table_csv, code=1)
    first, second, third, fourth = answers(stdout)
    assert set(first) == {"schema", "query", "error"}
    assert str(broken) in first["error"]
    assert str(tmp_path / "gone.mp4") in third["error"]
    assert second["label"] == fourth["label"] == "goes_up"
    assert stderr.splitlines()[-1].startswith("error: 2 of 4 queries failed; the first: ")
    with table_csv.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == ["", "goes_up", "", "goes_up"]
    assert rows[0]["error"] == first["error"]
    assert float(rows[1]["topk.1.score"]) == second["score"]
    assert float(rows[1]["seconds.total"]) == second["seconds"]["total"]
    stdout, stderr = run(*words, code=1)
    assert stdout.count("failed") == 3  # two rows and the summary
    assert sum(line.startswith("error: ") for line in stderr.splitlines()) == 1


def test_topk_metric_alpha_and_text(scene: Path) -> None:
    words = ["match", scene / "support", scene / "queries" / "goes_up.mp4", "--json"]
    (plain,) = answers(run(*words)[0])
    assert plain["topk"][0]["text_score"] is None  # the stand-in does not know "down"
    (two,) = answers(run(*words, "--topk", 2)[0])
    assert two["topk"] == plain["topk"][:2] or len(two["topk"]) == 2
    (mean,) = answers(run(*words, "--metric", "mean")[0])
    assert mean["topk"][0]["distance"] != plain["topk"][0]["distance"]
    (worded,) = answers(run(*words, "--text", "on", "--alpha", 1)[0])
    best = worded["topk"][0]
    assert math.isclose(best["score"], best["text_score"], abs_tol=1e-9)
    _, stderr = run(*words, "--alpha", "0.5", code=1)
    assert "text is off; use --text on" in stderr


def test_a_threshold_needs_calibration(scene: Path) -> None:
    words = ["match", scene / "support", scene / "queries" / "goes_up.mp4", "--json"]
    for choice in ("auto", "off"):
        (answer,) = answers(run(*words, "--threshold", choice)[0])
        assert answer["p_none"] is None
        assert answer["none"] is False
    _, stderr = run(*words, "--threshold", "0.4", code=1)
    assert "error: --threshold 0.4: p_none is not calibrated" in stderr


def test_the_query_itself_is_left_out_of_the_support(scene: Path, tmp_path: Path) -> None:
    support = tmp_path / "support"
    shutil.copytree(scene / "support", support)
    query = tmp_path / "renamed.mp4"
    shutil.copy(support / "goes_up" / "1.mp4", query)
    (left_out,) = answers(run("match", support, query, "--json")[0])
    assert "left out" in left_out["warning"]
    (kept,) = answers(run("match", support, query, "--json", "--keep-query")[0])
    assert kept["warning"] is None
    assert kept["topk"][0]["distance"] < left_out["topk"][0]["distance"]


def test_plot_report_and_overlay(scene: Path, tmp_path: Path) -> None:
    plots, videos, report = tmp_path / "plots", tmp_path / "videos", tmp_path / "report.html"
    words = [
        "match", scene / "support", scene / "queries", "--plot", plots, "--save-video", videos,
        "--report", report,
    ]  # fmt: skip
    run(*words)
    assert sorted(path.name for path in plots.iterdir()) == [f"{name}.png" for name in CLASSES]
    for name in CLASSES:
        with Image.open(plots / f"{name}.png") as image:
            assert image.width > 1000
        shown = load_raw_clip(videos / f"{name}.mp4", frames=1)
        asked = load_raw_clip(scene / "queries" / f"{name}.mp4", frames=1)
        assert math.isclose(shown.duration_seconds, asked.duration_seconds, abs_tol=0.1)
        height = asked.frames.shape[1]
        assert shown.frames.shape[1] > height  # the caption is under the picture
        assert shown.frames.shape[2] == asked.frames.shape[2]
        difference = shown.frames[0, :height].astype(int) - asked.frames[0]
        assert abs(difference).mean() < 3
    page = report.read_text(encoding="utf-8")
    assert page.count("<section") == 4
    assert page.count("data:image/jpeg;base64,") == 4
    for outside in ("<script", "http://", "https://", "<link", 'src="/'):
        assert outside not in page
    _, stderr = run(*words, code=1)
    (line,) = stderr.splitlines()
    assert line.endswith("exist already; add --overwrite (-y) to replace them")
    for path in (report, plots / "goes_up.png", videos / "goes_left.mp4"):
        assert str(path) in line
    _, stderr = run(*words, "--overwrite")
    for said in (
        f"wrote {report}",
        f"wrote 4 pictures into {plots}",
        f"wrote 4 videos into {videos}",
    ):
        assert said in stderr.splitlines()


@pytest.mark.parametrize("flag", ["--csv", "--report", "--out"])
def test_existing_outputs_are_refused_before_any_work(
    scene: Path, tmp_path: Path, flag: str
) -> None:
    there = tmp_path / "there.html"
    there.write_text("<!doctype html>mine")
    words = ["match", scene / "support", scene / "queries" / "goes_up.mp4", flag, there]
    stdout, stderr = run(*words, code=1)
    assert stdout == ""
    assert stderr == f"error: {flag} {there}: exists already; add --overwrite (-y) to replace it\n"
    assert there.read_text() == "<!doctype html>mine"
    run(*words, "-y")
    assert there.read_text() != "<!doctype html>mine"


def test_overlay_never_replaces_a_query(scene: Path, tmp_path: Path) -> None:
    query = tmp_path / "clip.mp4"
    shutil.copy(scene / "queries" / "goes_up.mp4", query)
    before = query.read_bytes()
    _, stderr = run("match", scene / "support", query, "--save-video", tmp_path, "-y", code=1)
    assert "would replace the query" in stderr
    assert query.read_bytes() == before


def test_results_go_to_out(scene: Path, tmp_path: Path) -> None:
    out = tmp_path / "answers.jsonl"
    words = ["match", scene / "support", scene / "queries", "--json", "--out", out]
    stdout, _ = run(*words)
    assert stdout == ""
    assert [answer["label"] for answer in answers(out.read_text())] == CLASSES


def test_an_unknown_header_is_echoed_whole(tmp_path: Path) -> None:
    table_csv = tmp_path / "support.csv"
    for header in ("film,deed", "film,class,from,to", "film,deed,from,to,who", "film;deed"):
        table_csv.write_text(f"{header}\nclip.mp4,wave\n")
        for words in (("match", table_csv, "q.mp4"), ("eval", "--data", table_csv)):
            _, stderr = run(*words, code=1)
            assert header in stderr.splitlines()[-1]


def test_what_is_said_of_the_starter_is_said_once(scene: Path, tmp_path: Path) -> None:
    """By the shipped model itself, in a process of its own."""
    bank = tmp_path / "b.safetensors"
    query = scene / "queries" / "goes_up.mp4"
    for words in (("enroll", scene / "support", "-o", bank), ("match", bank, query, query)):
        done = subprocess.run(
            [sys.executable, "-m", "mafsar", *map(str, words)],
            capture_output=True, text=True, check=True, cwd=tmp_path,
        )  # fmt: skip
        (said,) = (line for line in done.stderr.splitlines() if "starter model" in line)
        assert "pip install 'mafsar[train]'" in said
        assert "downloaded" in said


def test_missing_support_is_one_line(tmp_path: Path) -> None:
    _, stderr = run("match", tmp_path / "nothing", "q.mp4", code=1)
    assert stderr.count("\n") == 1
    assert stderr.startswith(f"error: SUPPORT {tmp_path / 'nothing'}: no such file or folder; ")


def test_unexpected_errors_are_one_line_without_debug(
    scene: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(*_: object, **__: object) -> None:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr("mafsar.runtime.engines.loading.open_model", explode)
    words = ["match", scene / "support", scene / "queries" / "goes_up.mp4"]
    _, stderr = run(*words, code=1)
    assert stderr == ("error: RuntimeError: two lines; set MAFSAR_DEBUG=1 for the traceback\n")
    monkeypatch.setenv("MAFSAR_DEBUG", "1")
    _, stderr = run(*words, code=1)
    assert "Traceback" in stderr


def test_interrupt_is_130(scene: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mafsar.runtime.engines.loading.open_model", interrupt)
    _, stderr = run("match", scene / "support", scene / "queries", code=130)
    assert stderr == "error: interrupted\n"


def start(*words: object) -> subprocess.Popen[str]:
    """`mafsar …` with the stand-in, in a process of its own."""
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import conftest, mafsar.runtime.engines.loading as loading\n"
        "loading.open_model = lambda *_, **__: conftest.PixelEncoder()\n"
        "from mafsar.cli.app import main\n"
        "sys.argv[1:] = sys.argv[2:]\n"
        "main()\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", script, str(Path(__file__).parent), *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def test_a_reader_that_goes_away_is_no_error(scene: Path) -> None:
    """`mafsar match … --json | head -1` says nothing on stderr."""
    queries = [scene / "queries" / f"{name}.mp4" for name in CLASSES] * 20
    with start("match", scene / "support", *queries, "--json", "-q") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["schema"] == 1
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1


def test_control_c_ends_with_130_and_keeps_what_is_known(scene: Path, tmp_path: Path) -> None:
    queries = [scene / "queries" / f"{name}.mp4" for name in CLASSES] * 100
    table_csv = tmp_path / "out.csv"
    words = ["match", scene / "support", *queries, "--json", "-q", "--csv", table_csv]
    with start(*words) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for _ in range(3):
            process.stdout.readline()
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr == "error: interrupted\n"
    answers(stdout)
    with table_csv.open(newline="") as file:
        assert 1 <= len(list(csv.DictReader(file))) < len(queries)

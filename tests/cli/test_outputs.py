"""No output destroys an input, another output, or a file of another kind."""

from __future__ import annotations

import os
import resource
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mafsar.cli.app import build_app
from mafsar.cli.outputs import OutputFile, results_to
from mafsar.cli.targets import check_outputs
from mafsar.errors import InputError
from mafsar.runtime.bank.bank import read_bank

pytestmark = pytest.mark.usefixtures("pixels")


def refused(*words: object) -> str:
    result = CliRunner().invoke(build_app(), [str(word) for word in words])
    assert result.exit_code == 1, result.output
    (line,) = result.stderr.splitlines()
    return line


@pytest.fixture
def here(scene: Path, tmp_path: Path) -> Path:
    """A copy of the scene that a test may harm, with a bank and a CSV support."""
    root = tmp_path / "scene"
    shutil.copytree(scene, root)
    (root / "support.csv").write_text("path,label\nsupport/goes_up/0.mp4,up\n")
    words = ["enroll", str(root / "support"), "-o", str(root / "bank.safetensors")]
    assert CliRunner().invoke(build_app(), words).exit_code == 0
    return root


def contents(root: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("match bank.safetensors queries/goes_up.mp4 -o bank.safetensors", "replace the support"),
        ("match support queries/goes_up.mp4 --csv queries/goes_up.mp4", "replace the query"),
        ("match support queries/goes_up.mp4 --report queries/../queries/goes_up.mp4", "the query"),
        ("match support queries/goes_up.mp4 --csv link.csv", "replace the query"),
        ("match support queries/goes_up.mp4 --csv x --out x --report x", "the same file"),
        ("match support queries/goes_up.mp4 --csv new --out link.new", "the same file"),
        ("match support queries/goes_up.mp4 --csv support/goes_up/0.mp4", "not a text file"),
        ("match support frames --plot frames", "among the frames of the query"),
        ("match support.csv queries/goes_up.mp4 -o support.csv", "replace the support"),
        ("match support queries/goes_up.mp4 -o support/labels.csv", "replace the support"),
        ("match support other/0.mp4 --save-video support/goes_up", "replace a file of the support"),
        ("match support.csv other/0.mp4 --save-video support/goes_up", "replace the support"),
        ("match support queries/goes_up.mp4 --csv support/metadata.csv", "replace the support"),
        ("enroll support.csv -o text.safetensors", "not a bank"),
        ("enroll support -o new.safetensors --report support/goes_up/0.mp4", "not a page of HTML"),
        ("match support queries/goes_up.mp4 --report notes.txt", "not a page of HTML"),
        ("data check --data support -o h.mafsar/bundle.json", "belongs to a bundle or a run"),
        ("match support queries/goes_up.mp4 --csv run/config.toml", "belongs to a bundle or a run"),
        ("bank remove bank.safetensors --class goes_up -o text.safetensors", "not a bank"),
        ("bank list bank.safetensors -o bank.safetensors", "replace the bank"),
        ("data pack --data support -o queries/goes_up.mp4", "not a packed data set"),
        ("data pack --data support -o foreign.sqlite", "no packed data set"),
        ("data check --data support.csv -o support.csv", "replace the data"),
    ],
)
def test_nothing_is_destroyed(
    here: Path, monkeypatch: pytest.MonkeyPatch, words: str, said: str
) -> None:
    (here / "link.csv").symlink_to(here / "queries" / "goes_up.mp4")
    (here / "link.new").symlink_to(here / "new")
    (here / "text.safetensors").write_text("my notes")
    (here / "support" / "labels.csv").write_text("goes_up,it goes up\n")
    (here / "notes.txt").write_text("my notes")
    for name in ("h.mafsar/bundle.json", "run/config.toml"):
        (here / name).parent.mkdir()
        (here / name).write_text("{}")
    (here / "other").mkdir()
    shutil.copy(here / "queries" / "goes_up.mp4", here / "other" / "0.mp4")
    (here / "frames").mkdir()
    shutil.copy(_picture(here), here / "frames" / "0.png")
    shutil.copy(_picture(here), here / "frames" / "frames.png")
    with sqlite3.connect(here / "foreign.sqlite") as connection:
        connection.execute("CREATE TABLE photos(id)")
    connection.close()
    before = contents(here)
    monkeypatch.chdir(here)
    assert said in refused(*words.split(), "-y")
    assert contents(here) == before


def _picture(root: Path) -> Path:
    from PIL import Image

    path = root / "picture.png"
    Image.new("RGB", (64, 64), (9, 90, 200)).save(path)
    return path


@pytest.mark.parametrize(
    ("kind", "content", "fits"),
    [
        ("text", b"a,b\n1,2\n", True),
        ("text", b"", True),
        ("text", "é\x1b[0m\n".encode(), True),
        ("text", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", False),
        ("text", b"FLV\x01\x05\x00\x00\x00\x09", False),
        ("page", b"\n<!DOCTYPE html>\n<html>", True),
        ("page", b"<svg>", False),
        ("picture", b"\x89PNG\r\n\x1a\n", True),
        ("picture", b"\xff\xd8\xff\xe0", False),
        ("video", b"\x00\x00\x00\x20ftypisom", True),
        ("video", b"\x1aE\xdf\xa3", False),
        ("bank", b'\x10\x00\x00\x00\x00\x00\x00\x00{"__metadata__":{"mafsar":"', True),
        ("bank", b'\x10\x00\x00\x00\x00\x00\x00\x00{"weight":{"dtype":"F32"', False),
        ("store", b"SQLite format 3\0", True),
        ("store", b"PK\x03\x04", False),
    ],
)
def test_only_the_same_kind_is_replaced(
    tmp_path: Path, kind: str, content: bytes, fits: bool
) -> None:
    path = tmp_path / "there"
    path.write_bytes(content)
    kinds = {"--out": kind}
    if fits:
        check_outputs({"--out": path}, True, kinds=kinds)  # type: ignore[arg-type]
    else:
        with pytest.raises(InputError, match="exists and is not"):
            check_outputs({"--out": path}, True, kinds=kinds)  # type: ignore[arg-type]


def test_python_replaces_only_its_own_kinds(here: Path) -> None:
    bank = read_bank(here / "bank.safetensors")
    before = contents(here)
    with pytest.raises(InputError, match="exists and is not a page of HTML"):
        bank.report(here / "queries" / "goes_up.mp4")
    with pytest.raises(InputError, match="exists and is not a bank"):
        bank.save(_picture(here).rename(here / "x.safetensors"), overwrite=True)
    answer = bank.match(here / "queries" / "goes_up.mp4")
    with pytest.raises(InputError, match="exists and is not a PNG picture"):
        answer.plot(here / "queries" / "goes_up.mp4")
    (here / "x.safetensors").unlink()
    assert contents(here) == before


def test_hard_links_are_the_same_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    os.link(tmp_path / "a", tmp_path / "b")
    with pytest.raises(InputError, match="would replace the query"):
        check_outputs({"--csv": tmp_path / "b"}, True, inputs={"the query": [tmp_path / "a"]})


def test_results_appear_whole(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text("old")
    with results_to(path, overwrite=True) as stream:
        stream.write("new\n")
        stream.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new\n"
    assert [each.name for each in tmp_path.iterdir()] == ["results.jsonl"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_what_is_known_survives_an_error(
    tmp_path: Path, error: Callable[[], BaseException]
) -> None:
    path = tmp_path / "results.jsonl"

    def write(text: str) -> None:
        with results_to(path, overwrite=True) as stream:
            stream.write(text)
            raise error()

    with pytest.raises(error):  # type: ignore[call-overload]
        write("one\n")
    assert path.read_text() == "one\n"
    with pytest.raises(error):  # type: ignore[call-overload]
        write("")
    assert path.read_text() == "one\n"
    assert [each.name for each in tmp_path.iterdir()] == ["results.jsonl"]


def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    output = OutputFile("--csv", path, overwrite=False)
    output.stream.write("mine\n")
    path.write_text("theirs")
    with pytest.raises(InputError, match="exists already"):
        output.end(keep=True)
    assert path.read_text() == "theirs"


@pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")
@pytest.mark.parametrize("flush", [True, False])
def test_a_full_disk_is_named_and_leaves_nothing(tmp_path: Path, flush: bool) -> None:
    """The limit on the size of files stands for the disk."""
    code = (
        "import signal, sys\n"
        "from pathlib import Path\n"
        "from mafsar.cli.outputs import results_to\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "try:\n"
        "    with results_to(Path(sys.argv[1]), overwrite=True) as stream:\n"
        "        for _ in range(100):\n"
        "            stream.write('x' * 99 + '\\n')\n"
        "            if sys.argv[2] == 'True': stream.flush()\n"
        "except Exception as error:\n"
        "    print(type(error).__name__, error)\n"
    )
    path = tmp_path / "results.jsonl"
    path.write_text("old")
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), str(flush)],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000)),
        check=True,
    )
    assert done.stdout == (
        f"InputError --out {path}: cannot be written (File too large); name another file\n"
    )
    assert done.stderr == ""
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["results.jsonl"]

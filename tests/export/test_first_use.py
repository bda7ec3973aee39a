"""The first use of a model makes its bundle in the cache; the second use needs no torch."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mafsar.cli.app import build_app
from mafsar.errors import InputError, MismatchError, UnavailableError
from mafsar.export import first_use
from mafsar.export.first_use import make_kept
from mafsar.export.job import export_model
from mafsar.runtime.bank.bank import read_bank
from mafsar.runtime.cache import bundles as model_bundles
from mafsar.runtime.engines.loading import load_bank_model, load_model
from mafsar.video import write_video

SMALL = {
    "embed_dim": 32,
    "quick_gelu": True,
    "vision_cfg": {
        "image_size": 32, "layers": 2, "width": 48, "head_width": 16, "patch_size": 8,
    },
    "text_cfg": {
        "context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1,
    },
}  # fmt: skip

WITHOUT_TORCH = """
import json, sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision", "open_clip", "onnx", "onnxscript"):
            raise ImportError(name + " is blocked in this test")
sys.meta_path.insert(0, Block())
from mafsar.cli.app import build_app
status = build_app()(sys.argv[1:], standalone_mode=False)
assert not status, status
assert "torch" not in sys.modules
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small open_clip model as `local-dir:` takes it."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("clip") / "small"
    path.mkdir()
    (path / "open_clip_config.json").write_text(json.dumps({"model_cfg": SMALL}))
    save_file(open_clip.CLIP(**SMALL).state_dict(), path / "open_clip_model.safetensors")
    return path


@pytest.fixture(scope="module")
def support(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scene") / "support"
    rng = np.random.default_rng(0)
    for label in ("up", "down"):
        for clip in range(2):
            frames = rng.integers(0, 256, (8, 8, 8, 3), np.uint8).repeat(8, 1).repeat(8, 2)
            (root / label).mkdir(parents=True, exist_ok=True)
            write_video(root / label / f"{clip}.mp4", frames, 8)
    return root


@pytest.fixture(scope="module")
def cache(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, list[str]]:
    """A cache after a first use, the model's name, and the lines that the first use printed."""
    place = tmp_path_factory.mktemp("kept")
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MAFSAR_CACHE", str(place))
        make_kept(f"local-dir:{folder}", say=said.append)
    return place, f"local-dir:{folder}", said


def test_a_first_use_reports_model_path_time_and_size(
    cache: tuple[Path, str, list[str]],
) -> None:
    place, name, said = cache
    (line,) = said
    (bundle,) = (place / "models").glob("*.mafsar")
    assert line.startswith(f"first use of {name}: made its bundle {bundle} in ")
    assert " s (" in line
    assert "MB, fp32 verified); from now on without torch" in line
    manifest = json.loads((bundle / "bundle.json").read_text())
    assert manifest["parity"]["onnx-fp32"]["verified"] == "yes"
    assert manifest["made_by"]["open_clip_torch"] == version("open_clip_torch")


def test_the_second_use_needs_no_torch_and_gives_the_same_answers(
    cache: tuple[Path, str, list[str]], support: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, name, _ = cache
    monkeypatch.setenv("MAFSAR_CACHE", str(place))
    words = ["match", str(support), str(support / "up" / "0.mp4"), "--model", name, "--json",
             "--keep-query", "--text", "on", "--alpha", "0.5"]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "first use" not in done.stderr
    mine = json.loads(done.stdout)
    by_torch = CliRunner().invoke(build_app(), [*words, "--no-cache"])
    assert by_torch.exit_code == 0, by_torch.stderr
    theirs = json.loads(by_torch.stdout)
    assert (mine["engine"], theirs["engine"]) == ("onnx", "torch")
    assert mine["label"] == theirs["label"]
    for ours, other in zip(mine["topk"], theirs["topk"], strict=True):
        assert ours["score"] == pytest.approx(other["score"], abs=1e-4)


def test_a_bank_finds_its_model_in_the_cache(
    cache: tuple[Path, str, list[str]],
    support: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import mafsar

    place, name, _ = cache
    monkeypatch.setenv("MAFSAR_CACHE", str(place))
    mafsar.enroll(support, load_model(name), text="off").save(tmp_path / "b.safetensors")
    assert load_bank_model(read_bank(tmp_path / "b.safetensors").model).engine == "onnx"
    assert load_model(name).spec.path is None  # not the cached bundle, which may be removed
    assert load_model(name, engine="torch").engine == "torch"
    assert load_model(name, cache=False).engine == "torch"


def test_a_gpu_that_only_torch_can_use_is_used_by_torch(
    cache: tuple[Path, str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    place, name, _ = cache
    monkeypatch.setenv("MAFSAR_CACHE", str(place))
    asked = []

    class OnGpu:
        device = "cuda:0"
        choice = ""

    def by_torch(model: str, *, device: str, **_: object) -> OnGpu:
        asked.append((model, device))
        return OnGpu()

    monkeypatch.setattr("mafsar.runtime.engines.onnx_encoder.has_cuda_driver", lambda: True)
    monkeypatch.setattr("mafsar.runtime.engines.torch_encoder.load_torch_encoder", by_torch)
    assert load_model(name).choice.startswith("engine: torch on cuda:0 (faster than onnx on cpu: ")
    assert asked == [(name, "cuda")]
    for words in ({"device": "cpu"}, {"engine": "onnx"}, {"engine": "onnx", "device": "cpu"}):
        assert load_model(name, **words).engine == "onnx"


KILLED = """
import os, signal, sys
from mafsar.export.first_use import make_kept
def step(line):
    if sys.argv[2] in line: os.kill(os.getpid(), signal.SIGKILL)
make_kept(sys.argv[1], step=step)
"""


def test_a_killed_first_use_goes_on_from_what_it_had_finished(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAFSAR_CACHE", str(tmp_path))
    name = f"local-dir:{folder}"
    place = model_bundles.kept_path(name)

    def killed(word: str) -> list[str]:
        done = subprocess.run([sys.executable, "-c", KILLED, name, word], check=False)
        assert done.returncode == -9
        assert model_bundles.find_kept(name) is None
        assert model_bundles.kept_bundles().names == ()
        return sorted(path.name for path in (tmp_path / "models").iterdir() if path.is_dir())

    (half,) = killed("exporting the fp32 graphs")  # nothing is finished
    assert half.endswith(".part")
    left = killed("verifying onnx fp32")
    begun = model_bundles.begun_path(place)
    assert begun.name in left
    assert model_bundles.kept_bundles().size_bytes > 0
    before = (begun / "query-fp32.onnx").read_bytes()
    assert load_model(name, device="cpu").engine == "torch"

    def traced(*_: object, **__: object) -> None:
        raise AssertionError("traced again")

    monkeypatch.setattr("mafsar.export.graphs.network_bundle.export_bundle", traced)
    steps: list[str] = []
    made = make_kept(name, step=steps.append)
    assert steps[0] == "taking the fp32 graphs that an interrupted export has left"
    assert (made / "query-fp32.onnx").read_bytes() == before
    record = json.loads((made / "bundle.json").read_text())["parity"]["onnx-fp32"]
    assert (record["against"], record["verified"]) == ("torch fp32", "yes")
    assert [path.name for path in (tmp_path / "models").iterdir() if path.is_dir()] == [place.name]


def test_fp16_graphs_are_added_when_they_are_first_asked_for(
    cache: tuple[Path, str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    place, name, _ = cache
    monkeypatch.setenv("MAFSAR_CACHE", str(place))
    kept = model_bundles.kept_path(name)
    before = (kept / "query-fp32.onnx").read_bytes()
    with pytest.raises(UnavailableError, match="fp16"):
        load_model(name, engine="onnx", device="cpu", precision="fp16")
    said: list[str] = []
    found = load_model(
        name, engine="onnx", device="cpu", precision="fp16",
        make_bundle=lambda *given: make_kept(*given, say=said.append),
    )  # fmt: skip
    assert found.precision == "fp16"
    assert "MB, fp32 and fp16 verified)" in said[0]
    assert (kept / "query-fp32.onnx").read_bytes() == before
    assert make_kept(name, "fp16", say=said.append) == kept
    assert len(said) == 1


def test_what_a_killed_first_use_left_is_cleared(
    folder: Path, tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAFSAR_CACHE", str(tmp_path))
    kept = model_bundles.kept_path(f"local-dir:{folder}")
    begun = model_bundles.begun_path(kept)
    for place in (begun, begun.with_name(f".{begun.name}.77.part")):
        shutil.copytree(whole, place)
    begun.with_name(f".{begun.name}.lock").touch()
    model_bundles.clear_kept()
    assert list((tmp_path / "models").iterdir()) == []


def test_a_failed_first_use_says_what_needs_no_bundle(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def export(*_: object, **__: object) -> object:
        raise MismatchError("planted")

    monkeypatch.setattr(first_use, "export_locked", export)
    with pytest.raises(MismatchError, match=r"planted \(first use of .*engine='torch'"):
        make_kept(f"local-dir:{folder}")


def test_the_time_is_expected_from_size_and_machine(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first_use, "_operations_a_second", lambda: 1e11)
    small, base, large = (
        first_use.expected_seconds(name)
        for name in (f"local-dir:{folder}", "vit-b-32:random", "vit-b-16")
    )
    assert 5 < small < base < large
    monkeypatch.setattr(first_use, "_operations_a_second", lambda: 1e10)
    assert first_use.expected_seconds("vit-b-16") > 5 * large
    assert first_use.expected_seconds("hf-hub:a/b") is None


def test_a_damaged_model_has_no_expected_time(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    nested = b'{"__metadata__":{"config":"' + b"[" * 20000 + b'"}}'
    for data in (b"", b"junk" * 9, (2).to_bytes(8, "little") + b"{}",
                 len(nested).to_bytes(8, "little") + nested):  # fmt: skip
        path.write_bytes(data)
        assert first_use.expected_seconds(str(path)) is None
    path.unlink()
    os.mkfifo(path)
    assert first_use.expected_seconds(str(path)) is None


def test_a_first_use_is_announced_and_says_that_it_goes_on(
    folder: Path, whole: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line before it starts, and lines by the clock while one step takes long."""
    from mafsar.cli import inputs, voice

    monkeypatch.setattr(voice, "LINE_EVERY_SECONDS", 0.1)
    monkeypatch.setattr(first_use, "expected_seconds", lambda _: 42.0)
    said_before: list[str] = []

    def export(_: str, out: Path, *, say, **__: object) -> None:
        said_before.append(capsys.readouterr().err)
        say("exporting the fp32 graphs")
        with contextlib.redirect_stderr(io.StringIO()):  # as torch's exporter is run
            time.sleep(0.45)
        said_before.append(capsys.readouterr().err)
        shutil.copytree(whole, out)

    monkeypatch.setattr(first_use, "export_locked", export)
    voice.reset()
    name = f"local-dir:{folder}"
    inputs.make_bundle(name)
    assert (
        said_before[0] == f"first use of {name}: making its bundle in the cache, once, about 40 s\n"
    )
    going_on = [
        line for line in said_before[1].splitlines() if line.startswith("exporting the fp32")
    ]
    assert len(going_on) >= 1  # the same second is said once


def test_a_gpu_for_torch_alone_needs_no_bundle(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAFSAR_CACHE", str(tmp_path))

    class OnGpu:
        device = "cuda:0"
        choice = ""

    def by_torch(_: str, *, device: str, **__: object) -> OnGpu:
        assert device == "cuda"
        return OnGpu()

    def make(name: str) -> Path:
        raise AssertionError(f"made a bundle of {name}")

    monkeypatch.setattr("mafsar.runtime.engines.onnx_encoder.has_cuda_driver", lambda: True)
    monkeypatch.setattr("mafsar.runtime.engines.torch_encoder.load_torch_encoder", by_torch)
    name = f"local-dir:{folder}"
    found = load_model(name, make_bundle=make)
    assert str(found.choice).startswith(
        "engine: torch on cuda:0 (onnx cannot use it: device='cuda:0': "
    )
    for words in ({"device": "cpu"}, {"engine": "onnx"}, {"precision": "int8"}):
        with pytest.raises(AssertionError, match="made a bundle"):
            load_model(name, make_bundle=make, **words)


def test_an_export_starts_from_the_bundle_in_the_cache(
    cache: tuple[Path, str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, name, _ = cache
    monkeypatch.setenv("MAFSAR_CACHE", str(place))
    monkeypatch.chdir(tmp_path)

    def traced(*_: object, **__: object) -> None:
        raise AssertionError("traced again")

    monkeypatch.setattr("mafsar.export.graphs.network_bundle.open_network", traced)
    result = export_model(name)
    kept = model_bundles.kept_path(name)
    assert result.path.parent == Path()
    assert {item.name for item in result.artefacts} <= {"onnx-fp16"}  # what the cache lacks
    assert (result.path / "query-fp16.onnx").is_file()
    for file in ("query-fp32.onnx", "text.onnx", "weights-fp32.bin"):
        assert (result.path / file).read_bytes() == (kept / file).read_bytes()
    assert kept.is_dir()
    for words in ({"overwrite": True}, {"frames": 4, "out": "other.mafsar"}):
        with pytest.raises(AssertionError, match="traced again"):
            export_model(name, **words)


def test_a_damaged_bundle_in_the_cache_is_made_again(
    folder: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAFSAR_CACHE", str(tmp_path))
    name = f"local-dir:{folder}"
    kept = model_bundles.kept_path(name)
    shutil.copytree(whole, kept)
    (kept / "weights-fp32.bin").write_bytes(b"cut")
    with pytest.raises(
        MismatchError, match=r"3 bytes.*mafsar\.export_model\(model, out=.*, overwrite=True"
    ):
        load_model(name, engine="onnx", device="cpu")

    def make(asked: str) -> Path:
        assert asked == name
        if not kept.exists():
            shutil.copytree(whole, kept)
        return kept

    assert load_model(name, engine="onnx", device="cpu", make_bundle=make).engine == "onnx"


def test_without_the_train_extra_the_error_says_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "torch" else 1)
    with pytest.raises(UnavailableError, match=r"needs torch, not installed; pip install 'mafsar"):
        make_kept(f"local-dir:{folder}")
    assert not model_bundles.bundles_folder().exists()


def test_a_cache_that_cannot_be_written_is_reported(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("MAFSAR_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match=r"file/models: cannot be written .* set MAFSAR_CACHE"):
        make_kept(f"local-dir:{folder}")


def test_the_cached_bundle_depends_on_the_weights(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    place = model_bundles.kept_path
    assert place(f"local-dir:{copy}").name[-19:] == place(f"local-dir:{folder}").name[-19:]
    with (copy / "open_clip_model.safetensors").open("ab") as file:
        file.write(b"\0")
    assert place(f"local-dir:{copy}").name[-19:] != place(f"local-dir:{folder}").name[-19:]
    one, other = (place(name).name[-19:] for name in ("vit-b-32", "vit-b-32:openai"))
    assert one == other
    assert (
        len({place(name).name[-19:] for name in ("vit-b-32", "vit-b-16", "vit-b-32:random")}) == 3
    )
    run = tmp_path / "run"
    run.mkdir()
    (run / "adapters.safetensors").write_bytes(b"one")
    before = place(str(run))
    (run / "adapters.safetensors").write_bytes(b"another")
    assert place(str(run)) != before
    assert before.name.startswith("run-")


def test_a_second_process_waits_and_makes_no_bundle(
    whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def export(name: str, out: Path, **_: object) -> None:
        made.append(name)
        time.sleep(0.3)
        shutil.copytree(whole, out)

    monkeypatch.setattr(first_use, "export_locked", export)
    found: list[Path] = []
    threads = [
        threading.Thread(target=lambda: found.append(make_kept("vit-b-32:random")))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == ["vit-b-32:random"]
    assert len(set(found)) == 1


def test_the_cap_of_the_cache_includes_bundles() -> None:
    folder = model_bundles.bundles_folder()
    for age, name in ((30, "old"), (20, "middle"), (10, "new")):
        bundle = folder / f"{name}-0123456789ab.mafsar"
        bundle.mkdir(parents=True)
        (bundle / "bundle.json").write_bytes(bytes(1000))
        then = time.time() - age
        os.utime(bundle / "bundle.json", (then, then))
    assert model_bundles.kept_bundles().names == (
        "old-0123456789ab.mafsar",
        "middle-0123456789ab.mafsar",
        "new-0123456789ab.mafsar",
    )
    assert model_bundles.make_room(folder / "old-0123456789ab.mafsar", cap_bytes=3000) == []
    assert model_bundles.make_room(folder / "old-0123456789ab.mafsar", cap_bytes=2000) == [
        "middle-0123456789ab.mafsar"
    ]
    runner, app = CliRunner(), build_app()
    listed = json.loads(runner.invoke(app, ["cache", "info", "--json"]).stdout)["bundles"]
    assert listed["names"] == ["old-0123456789ab.mafsar", "new-0123456789ab.mafsar"]
    assert listed["size_bytes"] == 2000
    assert "old-0123456789ab.mafsar" in runner.invoke(app, ["cache", "info"]).stdout
    assert "removed 2 bundles" in runner.invoke(app, ["cache", "clear"]).stdout
    assert model_bundles.kept_bundles().names == ()

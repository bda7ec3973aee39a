"""The first use of a model makes its bundle in the cache; the second use needs no torch."""

from __future__ import annotations

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
    assert "MB, 2 precisions verified); from now on without torch" in line
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
    for words in ({"device": "cpu"}, {"engine": "onnx"}, {"device": "cpu", "precision": "fp16"}):
        assert load_model(name, **words).engine == "onnx"


def test_the_rest_of_a_killed_export_is_never_used(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAFSAR_CACHE", str(tmp_path))
    name = f"local-dir:{folder}"
    code = (
        "import os, signal, sys\n"
        "from mafsar.export.first_use import make_kept\n"
        "def step(line):\n"
        "    if 'fp16' in line: os.kill(os.getpid(), signal.SIGKILL)\n"
        "make_kept(sys.argv[1], step=step)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, name], check=False)
    assert done.returncode == -9
    remains = [path.name for path in (tmp_path / "models").iterdir() if path.is_dir()]
    assert len(remains) == 1
    assert remains[0].endswith(".part")
    assert model_bundles.find_kept(name) is None
    assert model_bundles.kept_bundles().names == ()
    assert model_bundles.kept_bundles().size_bytes > 0
    assert load_model(name, device="cpu").engine == "torch"

    def export(model: str, out: Path, **_: object) -> object:
        assert (model, out.parent.exists()) == (name, True)
        assert not list(out.parent.glob(".*.part"))
        raise MismatchError("planted")

    monkeypatch.setattr(first_use, "export_locked", export)
    with pytest.raises(MismatchError, match=r"planted \(first use of .*engine='torch'"):
        make_kept(name)


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


def test_a_second_process_waits_and_makes_no_bundle(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    class Result:
        artefacts = (1, 2)

    def export(name: str, out: Path, **_: object) -> Result:
        made.append(name)
        time.sleep(0.3)
        out.mkdir()
        (out / "bundle.json").write_text("{}")
        return Result()

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

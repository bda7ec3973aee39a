"""Small whole runs: what they write, which clips they read, and how they fail."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from mafsar.choices import Scoring
from mafsar.data.frames import DecodedFrames
from mafsar.data.open_data import open_data
from mafsar.data.pack import pack
from mafsar.data.store import StoreSettings
from mafsar.errors import (
    InputError,
    MismatchError,
    MissingError,
    TrainingError,
)
from mafsar.model.config import parameter_counts
from mafsar.model.names import ADAPTERS_FILE
from mafsar.model.network import TUNABLE_PREFIXES, build_network
from mafsar.model.open_clip_config import from_open_clip_json
from mafsar.model.sources import load_trained
from mafsar.model.weights import base_sha256, read_safetensors, weights_sha256
from mafsar.runtime.encoder import Encoder
from mafsar.runtime.engines.loading import load_model
from mafsar.runtime.engines.torch_encoder import TorchEncoder
from mafsar.runtime.evaluation.evaluate import evaluate
from mafsar.runtime.report.describe import describe
from mafsar.training.checkpoint import OPTIMIZER_FILE, last_checkpoint
from mafsar.training.config import build_config
from mafsar.training.dry_run import dry_run
from mafsar.training.fit import fit_match
from mafsar.training.loop import StepReport, train
from mafsar.training.run_folder import check_same
from mafsar.training.run_log import read_metrics
from mafsar.training.start import start_network

PARTS = {"train": {"left", "right", "up", "down"}, "val": {"left_up", "right_up", "grow"}}


def test_a_run_leaves_a_model_and_its_log(small_run, tmp_path: Path) -> None:
    reports: list[StepReport] = []
    config = small_run(run__tensorboard=True)
    out = tmp_path / "run"
    result = train(config, out, device="cpu", report=reports.append)

    start, end = start_network(config), load_trained(out)
    assert base_sha256(start) == base_sha256(end)
    before = {name: value.clone() for name, value in start.tunable_parameters().items()}
    changed = [n for n, v in end.tunable_parameters().items() if not torch.equal(before[n], v)]
    assert "adapters.temporal_embedding" in changed
    assert "tpcm.attn.out_proj.weight" in changed
    with safe_open(out / "adapters.safetensors", framework="pt") as file:
        assert all(name.startswith(TUNABLE_PREFIXES) for name in file.keys())  # noqa: SIM118

    lines = read_metrics(out)
    trained = [line for line in lines if line["kind"] == "train"]
    validated = [line for line in lines if line["kind"] == "val"]
    assert [line["step"] for line in trained] == [1, 2, 3, 4, 5, 6]
    assert [line["step"] for line in validated] == [3, 6]
    assert [report.step for report in reports] == [1, 2, 3, 4, 5, 6]
    best = max(validated, key=lambda line: (line["accuracy"], -line["step"]))
    assert (result.best_step, result.val_accuracy) == (best["step"], best["accuracy"])
    # Raw features are the first of the candidates; one of them is kept with the model.
    raw = dataclasses.replace(result.candidates[0].match, view_prior=None)
    assert raw.to_json() == best["match"]
    (chosen,) = [one for one in result.candidates if one.chosen]
    assert end.config.match == result.match == chosen.match
    assert chosen.match.view_prior is not None
    assert chosen.match.views == "raw" or chosen.gain > chosen.gain_ci95
    logged = json.loads((out / "views.json").read_text())["candidates"]
    assert logged == [one.to_json() for one in result.candidates]
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert list((out / "tensorboard").glob("events.*"))
    assert all(math.isfinite(line["loss"]) and 0 <= line["wait_share"] <= 1 for line in trained)

    model = load_model(str(out), device="cpu")
    assert isinstance(model, Encoder)
    assert (model.spec.adapters, model.spec.scoring.alpha) == ("trained", result.match.alpha)
    clips = np.random.default_rng(0).integers(0, 256, (2, 4, 32, 32, 3), dtype=np.uint8)
    with torch.inference_mode():
        wanted, _ = end.encode_query(torch.from_numpy(clips))
    np.testing.assert_array_equal(model.encode_query(clips).frames, wanted.numpy())


def test_training_reads_training_classes_only_and_nothing_reads_a_test_clip(
    small_run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, set[str]] = {"training": set(), "testing": set()}
    for name in seen:
        original = getattr(DecodedFrames, name)

        def spy(self, clip, *, _name=name, _original=original, **options):
            seen[_name].add(clip.label)
            return _original(self, clip, **options)

        monkeypatch.setattr(DecodedFrames, name, spy)
    train(small_run(), tmp_path / "run", device="cpu")
    # The means of the views are those of training clips, as they are seen in tests.
    assert seen == {"training": PARTS["train"], "testing": PARTS["train"] | PARTS["val"]}


def test_class_texts_are_embedded_once_a_run(
    small_run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded: list[str] = []
    original = TorchEncoder.encode_text

    def spy(self, texts):
        embedded.extend(texts)
        return original(self, texts)

    monkeypatch.setattr(TorchEncoder, "encode_text", spy)
    train(small_run(), tmp_path / "run", device="cpu")
    words = sorted(text.replace("_", " ") for text in PARTS["train"] | PARTS["val"])
    assert sorted(embedded) == words


def test_a_run_repeats_bit_by_bit_and_a_seed_changes_it(small_run, tmp_path: Path) -> None:
    losses = {}
    for name, seed, workers in (("a", 0, 0), ("b", 0, 2), ("c", 1, 0)):
        config = small_run(episodes=6, seed=seed, data__workers=workers)
        train(config, tmp_path / name, device="cpu")
        losses[name] = [line["loss"] for line in read_metrics(tmp_path / name)[:3]]
    assert losses["a"] == losses["b"] != losses["c"]
    first, second = (load_trained(tmp_path / name) for name in "ab")
    assert weights_sha256(first) == weights_sha256(second)


@pytest.mark.parametrize(
    "switches",
    [
        {"model__gta": False}, {"model__lma_text": False}, {"model__joint": False},
        {"model__tpcm": False}, {"metric": "bimhm"}, {"metric": "mean"}, {"alpha": 0.0},
        {"text": False}, {"run__recompute": True}, {"shot": 2, "query": 2},
    ],
    ids=str,
)  # fmt: skip
def test_switches_change_what_is_tuned(small_run, tmp_path: Path, switches: dict) -> None:
    config = small_run(episodes=2, val__every=0, **switches)
    train(config, tmp_path / "run", device="cpu")
    network = load_trained(tmp_path / "run")
    tuned = sum(value.numel() for value in network.tunable_parameters().values())
    assert tuned == parameter_counts(network.config)[1]
    adapters = network.config.adapters
    for name in ("gta", "lma_text", "joint", "tpcm"):
        off = switches.get(f"model__{name}") is False or (name == "lma_text" and "text" in switches)
        assert getattr(adapters, name) is not off
    assert network.config.match.metric == config.metric


def test_recomputing_gives_the_same_gradients(small_run, tmp_path: Path) -> None:
    """By Adam's first moment: its steps would enlarge rounding up to the learning rate."""
    moments = []
    for name in ("kept", "again"):
        config = small_run(
            episodes=4, val__every=0, optim__learning_rate=0.0, run__recompute=name == "again"
        )
        train(config, tmp_path / name, device="cpu")
        folder = last_checkpoint(tmp_path / name)
        assert folder is not None
        moments.append(read_safetensors(folder / OPTIMIZER_FILE)[0])
    for name, kept in moments[0].items():
        if name.startswith("exp_avg."):
            near = 8 * torch.finfo(torch.float32).eps * float(kept.abs().max())
            torch.testing.assert_close(moments[1][name], kept, rtol=0, atol=near, msg=name)


def test_full_tuning_changes_the_vision_tower_alone(small_run, tmp_path: Path) -> None:
    config = small_run(episodes=4, model__tune="full", val__every=2)
    train(config, tmp_path / "run", device="cpu")
    start, end = start_network(config).state_dict(), load_trained(tmp_path / "run").state_dict()
    changed = {name.split(".")[0] for name in end if not torch.equal(start[name], end[name])}
    assert changed == {"visual"}
    assert not any(name.startswith(TUNABLE_PREFIXES) for name in end)
    spec = load_model(str(tmp_path / "run"), device="cpu").spec
    assert (spec.adapters, spec.tuned, spec.scoring.metric) == ("none", "full", "otam")
    facts = describe(tmp_path / "run")
    alone = describe(tmp_path / "run" / ADAPTERS_FILE)
    assert {**alone, "path": facts["path"], "name": facts["name"]} == facts
    visual = sum(value.numel() for name, value in end.items() if name.startswith("visual."))
    assert (facts["tuned"], facts["parameters_tunable"]) == ("full", visual)


def test_a_resnet_is_tuned_as_a_whole_with_the_prototype_module(small_run, tmp_path: Path) -> None:
    clip = {
        "embed_dim": 32, "quick_gelu": True,
        "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "head_width": 32},
        "text_cfg": {"width": 16, "heads": 2, "layers": 1},
    }  # fmt: skip
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": clip}))
    base = build_network(from_open_clip_json(clip, "base"), seed=1)
    towers = {k: v for k, v in base.state_dict().items() if not k.startswith(TUNABLE_PREFIXES)}
    save_file(towers, tmp_path / "open_clip_model.safetensors")
    out = tmp_path / "run"
    config = small_run(episodes=4, val__every=2, model__name=f"local-dir:{tmp_path}")
    train(config, out, device="cpu")
    start, end = start_network(config).state_dict(), load_trained(out).state_dict()
    changed = {name.split(".")[0] for name in end if not torch.equal(start[name], end[name])}
    assert changed == {"visual", "tpcm"}
    assert all(torch.equal(start[k], v) for k, v in end.items() if ".running_" in k)
    spec = load_model(str(out), device="cpu").spec
    assert (spec.adapters, spec.tuned, spec.embed_dim) == ("trained", "full", 32)
    with pytest.raises(InputError, match=r"has a ResNet.*use model\.tune=full"):
        start_network(small_run(model__name=f"local-dir:{tmp_path}", model__tune="adapters"))


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_state(
    small_run, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    config = small_run(
        optim__learning_rate=1e30, optim__warm_up=0.0, val__every=0, run__save_every=1
    )
    with pytest.raises(TrainingError, match=r"step \d+: .* of seed 0\); the last checkpoint is"):
        train(config, out, device="cpu")
    folder = last_checkpoint(out)
    assert folder is not None
    with safe_open(folder / "adapters.safetensors", framework="pt") as file:
        for name in file.keys():  # noqa: SIM118
            assert file.get_tensor(name).isfinite().all()
    assert all(math.isfinite(line["loss"]) for line in read_metrics(out))


def test_an_existing_run_is_neither_lost_nor_changed(small_run, tmp_path: Path) -> None:
    out = tmp_path / "run"
    config = small_run(episodes=2, val__every=0)
    with pytest.raises(
        MissingError, match=r"^resume=True: there is no run in .*; start one without resume$"
    ):
        train(config, out, device="cpu", resume=True)
    train(config, out, device="cpu")
    with pytest.raises(
        InputError,
        match=r"exists already; resume it with resume=True, replace it with overwrite=True",
    ):
        train(config, out, device="cpu")
    with pytest.raises(MismatchError, match=r"was started with alpha=0\.5, not 0\.1"):
        check_same(out, build_config(out / "config.toml", {"alpha": 0.1}))
    other = tmp_path / "photos"
    other.mkdir()
    (other / "a.txt").write_text("mine")
    with pytest.raises(InputError, match="is not a run, so it is not replaced"):
        train(config, other, device="cpu", overwrite=True)
    assert (other / "a.txt").read_text() == "mine"
    failing = small_run(way=4, val__every=0, shot=9)
    with pytest.raises(InputError, match="needs 10 clips per class"):
        train(failing, tmp_path / "none", device="cpu")
    assert not (tmp_path / "none").exists()


def test_a_dry_run_measures_and_keeps_nothing(small_run, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = dry_run(small_run(), device="cpu")
    assert not list(tmp_path.iterdir())
    assert found.parts == {"train": (4, 16), "val": (3, 12), "test": (3, 12)}
    assert (found.steps, found.batch, found.measured) == (6, 2, 6)
    network = start_network(small_run())
    assert (found.parameters, found.tuned) == parameter_counts(network.config)
    assert found.seconds_step > 0
    assert found.memory_bytes > 0
    json.dumps(found.to_json(), allow_nan=False)


def test_a_packed_data_set_trains_and_is_evaluated(
    small_run, moving_squares: Path, tmp_path: Path
) -> None:
    store = tmp_path / "squares.sqlite"
    catalogue = open_data(data=moving_squares, split=moving_squares / "split.json")
    pack(catalogue, store, StoreSettings(frames=12, short_side=40))
    config = small_run(episodes=4, data__folder=str(store), data__split="", val__every=2)
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, split=None))
    result = train(config, tmp_path / "run", device="cpu")
    assert result.val_accuracy is not None
    found = evaluate(load_model(result.run, device="cpu"), store, way=3, episodes=20, text="off")
    assert set(found.per_class) == {"left_down", "right_down", "shrink"}
    assert found.clips_encoded == 12


def test_alpha_and_scale_are_fitted() -> None:
    """Synthetic episodes: a visual term that is right by small margins, a text term often wrong."""
    rng = np.random.default_rng(0)
    right = np.eye(3) * 0.1
    visual = right + rng.normal(scale=0.02, size=(400, 3, 3))
    text = rng.normal(scale=5.0, size=(400, 3, 3))
    match = fit_match(visual, text, Scoring())
    assert match.alpha <= 0.2
    assert match.visual_scale > 8  # a gap of 0.1 says little at scale 1
    # A visual term that is often wrong by large margins, a text term that is right.
    assert fit_match(10 * text, visual, Scoring()).alpha > 0.5


@pytest.mark.slow
@pytest.mark.parametrize(
    "backend",
    ["aot_eager", pytest.param("inductor", marks=pytest.mark.timeout(1800))],
)
@pytest.mark.filterwarnings("default")  # what torch's compiler warns of is not this project's
def test_a_compiled_encoder_trains_the_same(
    small_run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    """Torch's compiler captures it whole, with its gradients; users get `inductor`."""
    whole = functools.partial(torch.compile, backend=backend, fullgraph=True)
    monkeypatch.setattr(torch, "compile", whole)
    losses = {}
    for name in ("eager", "compiled"):
        config = small_run(episodes=4, val__every=0, run__compile=name == "compiled")
        train(config, tmp_path / name, device="cpu")
        losses[name] = [line["loss"] for line in read_metrics(tmp_path / name)]
    assert losses["compiled"] == pytest.approx(losses["eager"], rel=1e-4)

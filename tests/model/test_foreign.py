"""CLIP's weights as Hugging Face, wrappers, pickles and TorchScript have them."""

from __future__ import annotations

import json
import logging
import shlex
import subprocess
import sys
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mafsar.errors import InputError, MismatchError, MissingError
from mafsar.model import sources
from mafsar.model.open_clip_config import from_open_clip_json
from mafsar.model.sources import create_network
from mafsar.model.weights import from_open_clip, read_safetensors

TINY = {
    "embed_dim": 32,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 48, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 12, "vocab_size": 60, "width": 32, "heads": 4, "layers": 3},
}


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """Of open_clip's own model, with no two parameters alike."""
    torch.manual_seed(0)
    model = open_clip.CLIP(**TINY)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return {name: value.clone() for name, value in model.state_dict().items()}


def hugging_face(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same weights as `CLIPModel` names them, written out from its class definition."""
    found = {
        "logit_scale": state["logit_scale"],
        "visual_projection.weight": state["visual.proj"].T.contiguous(),
        "text_projection.weight": state["text_projection"].T.contiguous(),
        "vision_model.embeddings.class_embedding": state["visual.class_embedding"],
        "vision_model.embeddings.patch_embedding.weight": state["visual.conv1.weight"],
        "vision_model.embeddings.position_embedding.weight": state["visual.positional_embedding"],
        "vision_model.embeddings.position_ids": torch.arange(17)[None],
        "text_model.embeddings.token_embedding.weight": state["token_embedding.weight"],
        "text_model.embeddings.position_embedding.weight": state["positional_embedding"],
        "text_model.embeddings.position_ids": torch.arange(12)[None],
    }
    for kind in ("weight", "bias"):
        found[f"vision_model.pre_layrnorm.{kind}"] = state[f"visual.ln_pre.{kind}"]
        found[f"vision_model.post_layernorm.{kind}"] = state[f"visual.ln_post.{kind}"]
        found[f"text_model.final_layer_norm.{kind}"] = state[f"ln_final.{kind}"]
        for tower, ours, layers in (("vision_model", "visual.", 2), ("text_model", "", 3)):
            for layer in range(layers):
                there = f"{tower}.encoder.layers.{layer}"
                here = f"{ours}transformer.resblocks.{layer}"
                found[f"{there}.layer_norm1.{kind}"] = state[f"{here}.ln_1.{kind}"]
                found[f"{there}.layer_norm2.{kind}"] = state[f"{here}.ln_2.{kind}"]
                found[f"{there}.mlp.fc1.{kind}"] = state[f"{here}.mlp.c_fc.{kind}"]
                found[f"{there}.mlp.fc2.{kind}"] = state[f"{here}.mlp.c_proj.{kind}"]
                found[f"{there}.self_attn.out_proj.{kind}"] = state[f"{here}.attn.out_proj.{kind}"]
                joined = state[f"{here}.attn.in_proj_{kind}"]
                for part, piece in zip("qkv", joined.chunk(3), strict=True):
                    found[f"{there}.self_attn.{part}_proj.{kind}"] = piece.clone()
    return found


def read(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return from_open_clip(state, from_open_clip_json(TINY, "t"))


def assert_same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert torch.equal(found[name], value), name


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
def test_hugging_face_s_names_and_wrappers_are_read(state, prefix: str) -> None:
    wanted = read(state)
    for given in (state, hugging_face(state)):
        assert_same(read({prefix + name: value for name, value in given.items()}), wanted)


def test_one_tower_alone_is_refused_and_an_unknown_tensor_named(state) -> None:
    theirs = hugging_face(state)
    vision = {name: value for name, value in theirs.items() if not name.startswith("text_")}
    with pytest.raises(
        MismatchError, match=r"without text_model\.…, text_projection\.weight: both"
    ):
        read(vision)
    theirs["vision_model.head.weight"] = torch.zeros(1)
    with pytest.raises(MismatchError, match=r"1 extra: vision_model\.head\.weight"):
        read(theirs)


def test_transformers_own_model_gives_the_same_features(tmp_path: Path) -> None:
    """Where transformers is installed: its saved folder, its features."""
    transformers = pytest.importorskip("transformers")
    towers = {"intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = transformers.CLIPConfig(
        text_config=towers | {
            "hidden_size": 32, "vocab_size": 60, "max_position_embeddings": 12,
            "intermediate_size": 128, "eos_token_id": 59, "bos_token_id": 58,
        },
        vision_config=towers | {
            "hidden_size": 48, "intermediate_size": 192, "image_size": 32, "patch_size": 8,
            "num_attention_heads": 3,
        },
        projection_dim=32,
    )  # fmt: skip
    torch.manual_seed(0)
    theirs = transformers.CLIPModel(config).eval()
    theirs.save_pretrained(tmp_path)
    document = TINY | {"text_cfg": TINY["text_cfg"] | {"layers": 2}}
    ours = sources._assemble(
        from_open_clip_json(document, "t").plain(),
        from_open_clip(
            load_file(tmp_path / "model.safetensors"), from_open_clip_json(document, "t")
        ),
        0,
    )
    pictures = torch.randn(8, 3, 32, 32)
    tokens = torch.tensor([[58, 4, 7, 59] + [0] * 8])
    with torch.inference_mode():
        seen = theirs.vision_model(pixel_values=pictures).pooler_output
        wanted = theirs.visual_projection(seen)
        found, _ = ours.encode_query(pictures[None])
        torch.testing.assert_close(found[0], wanted, rtol=1e-4, atol=1e-4)
        read_by = theirs.text_model(input_ids=tokens).pooler_output
        wanted = theirs.text_projection(read_by)
        torch.testing.assert_close(ours.encode_text(tokens), wanted, rtol=1e-4, atol=1e-4)


class Node(nn.Module):
    """A module with the parameters of a state dict, as a program that TorchScript can keep."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()
        inner: dict[str, dict[str, Tensor]] = {}
        for name, value in state.items():
            head, dot, rest = name.partition(".")
            if dot:
                inner.setdefault(head, {})[rest] = value
            else:
                self.register_parameter(head, nn.Parameter(value, requires_grad=False))
        for head, rest in inner.items():
            self.add_module(head, Node(rest))

    def forward(self, x: Tensor) -> Tensor:
        return x


@pytest.mark.filterwarnings("ignore:.*torch.jit.*is deprecated")
@pytest.mark.parametrize("kind", ["TorchScript", "pickle"])
def test_the_printed_line_converts_a_file_that_is_not_opened(
    state, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "my CLIP.pt"
    if kind == "TorchScript":
        torch.jit.script(Node(state)).save(str(path))
    else:
        wrapped = {f"module.{name}": value for name, value in state.items()}
        torch.save({"epoch": 3, "state_dict": wrapped}, path)
    what = {"TorchScript": "a TorchScript program", "pickle": "a pickle"}[kind]
    with pytest.raises(InputError, match=f"{what}, which can run code") as raised:
        create_network(f"vit-b-32:{path}")
    line = str(raised.value).partition("convert it in its folder: ")[2]
    program, *words = shlex.split(line)
    assert program == "python"
    subprocess.run([sys.executable, *words], cwd=tmp_path, check=True)
    found, _ = read_safetensors(tmp_path / "my CLIP.safetensors")
    assert_same(read(found), read(state))


def test_a_file_of_no_known_kind_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(b"<html>")
    with pytest.raises(InputError, match=r"a\.pt: only safetensors weights are read, and this is"):
        create_network(f"vit-b-32:{tmp_path / 'a.pt'}")


@pytest.mark.parametrize(
    ("beside", "base", "outcome"),
    [
        ({}, "Small", "doubt"),
        (
            {"config.json": {"model_type": "clip", "vision_config": {"hidden_act": "gelu"}}},
            "Small",
            "",
        ),
        ({"config.json": {"model_type": "clip"}}, "Small-quickgelu", ""),  # their default
        ({"config.json": {"model_type": "clip"}}, "Small", "error"),
        ({"config.json": {"model_type": "bert"}}, "Small", "doubt"),
        ({"open_clip_config.json": {"model_cfg": {"quick_gelu": True}}}, "Small", "error"),
        ({"open_clip_config.json": {"model_cfg": {}}}, "Small", ""),
    ],
)
def test_a_doubt_about_the_activation_is_said(
    state, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    beside: dict, base: str, outcome: str,
) -> None:  # fmt: skip
    """`Small` is an open_clip name of a small model; open_clip has two names of each size."""
    monkeypatch.setattr(
        "mafsar.model.open_clip_config._installed_json",
        lambda name: TINY | {"quick_gelu": name.base.endswith("quickgelu")},
    )
    save_file(state, tmp_path / "w.safetensors")
    for name, document in beside.items():
        (tmp_path / name).write_text(json.dumps(document))
    with caplog.at_level(logging.WARNING):
        if outcome == "error":
            with pytest.raises(InputError, match="trained with quickgelu; use Small-quickgelu:"):
                create_network(f"{base}:{tmp_path / 'w.safetensors'}")
            return
        create_network(f"{base}:{tmp_path / 'w.safetensors'}")
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == (outcome == "doubt")
    if said:
        assert "does not say which activation" in said[0]
        assert said[0].endswith(f"use Small-quickgelu:{tmp_path / 'w.safetensors'}")


def test_a_folder_of_hugging_face_says_how_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(MissingError, match=r"read by its file: NAME:.*model\.safetensors"):
        create_network(f"local-dir:{tmp_path}")

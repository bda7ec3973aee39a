"""Configurations, their JSON form, and the closed-form counts against those of torch."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import pytest

from mafsar.choices import METRICS, Scoring
from mafsar.errors import InputError
from mafsar.model.config import (
    AdapterConfig,
    ModelConfig,
    TextConfig,
    VisionConfig,
    named_config,
    parameter_counts,
)
from mafsar.model.network import empty_network


def counted(config: ModelConfig) -> tuple[int, int]:
    """Counts the parameters with torch, without allocating them."""
    parameters = list(empty_network(config).parameters())
    tuned = sum(p.numel() for p in parameters if p.requires_grad)
    return sum(p.numel() for p in parameters), tuned


def test_the_counts_match_the_paper():
    # Table 4 of the paper: 18.54 M tunable of 169.81 M parameters for ViT-B/32.
    assert parameter_counts(named_config("vit-b-32")) == (169_812_993, 18_535_680)
    assert parameter_counts(named_config("vit-b-16"))[1] == 18_535_680


def test_the_prototype_module_has_3_15_million_parameters():
    config = named_config("vit-b-32")
    without = dataclasses.replace(config, adapters=AdapterConfig(tpcm=False))
    assert parameter_counts(config)[1] - parameter_counts(without)[1] == 3_150_336


@pytest.mark.parametrize("name", ["vit-b-32", "vit-b-16", "vit-l-14", "tiny"])
def test_the_closed_form_matches_torch(name):
    config = named_config(name)
    assert parameter_counts(config) == counted(config)
    assert parameter_counts(config.plain()) == counted(config.plain())
    assert parameter_counts(config.plain())[1] == 0


@pytest.mark.parametrize("part", ["gta", "lma", "lma_text", "joint", "temporal", "tpcm"])
def test_the_closed_form_follows_each_switch(part, small_config):
    parts = dataclasses.replace(AdapterConfig(), **{part: False})
    config = dataclasses.replace(small_config, adapters=parts)
    assert parameter_counts(config) == counted(config)
    assert parameter_counts(config)[1] < parameter_counts(small_config)[1]


def test_the_size_of_plain_clip():
    # openai/CLIP ViT-B/32 has 151,277,313 parameters.
    assert parameter_counts(named_config("vit-b-32").plain()) == (151_277_313, 0)
    assert named_config("vit-b-32").plain().tunable().adapters == AdapterConfig()


@pytest.mark.parametrize("plain", [False, True])
def test_json_round_trip(plain):
    config = named_config("tiny").plain() if plain else named_config("tiny")
    config = dataclasses.replace(config, match=Scoring("bimhm", alpha=0.25), prompts=("{}", "a {}"))
    document = json.loads(json.dumps(config.to_json(), allow_nan=False))
    assert ModelConfig.from_json(document) == config


def test_an_unknown_key_suggests_the_nearest():
    document = named_config("tiny").to_json()
    with pytest.raises(InputError, match=r"unknown key frame; did you mean frames\?"):
        ModelConfig.from_json(document | {"frame": 8})
    document["vision"]["witdh"] = 1
    with pytest.raises(
        InputError, match=r"unknown key vision\.witdh; did you mean vision\.width\?"
    ):
        ModelConfig.from_json(document)
    del document["vision"]["witdh"], document["vision"]["width"]
    with pytest.raises(InputError, match=r"key vision\.width is missing"):
        ModelConfig.from_json(document)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: VisionConfig(20, 1, 3, 4, 12), "vision.width must be a multiple of heads 3"),
        (lambda: VisionConfig(24, 1, 3, 5, 12), "vision.image_size must be a multiple"),
        (lambda: TextConfig(8, 1, 2, activation="relu"), "quickgelu or gelu, got 'relu'"),
        (lambda: AdapterConfig(ratio=0), "adapters.ratio"),
        (lambda: Scoring("dtw"), f"{', '.join(METRICS)}, got 'dtw'"),
        (lambda: Scoring(alpha=1.5), "alpha must be"),
        (lambda: Scoring(lam=0), "lam must be"),
        (
            lambda: dataclasses.replace(named_config("tiny"), prompts=("a photo",)),
            "must contain one {}",
        ),
        (lambda: dataclasses.replace(named_config("tiny"), prompts=()), "prompts"),
        (lambda: dataclasses.replace(named_config("tiny"), frames=0), "frames must be ≥ 1"),
        (lambda: dataclasses.replace(named_config("tiny"), embed_dim=100), "divisible by the 8"),
        (lambda: named_config("vit-b32"), "did you mean vit-b-32?"),
    ],
)
def test_a_wrong_value_is_named(make, words):
    with pytest.raises(InputError) as raised:
        make()
    assert words in str(raised.value)


def test_configurations_and_names_need_no_torch():
    code = (
        "import sys; sys.modules['torch'] = None; "
        "from mafsar.model.config import named_config, parameter_counts, parse_model_name; "
        "from mafsar.model.open_clip_config import config_of; "
        "print(parameter_counts(config_of(parse_model_name('vit-b-32'))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(169812993, 18535680)"

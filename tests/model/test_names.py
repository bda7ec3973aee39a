"""Model names as users write them."""

from __future__ import annotations

import pytest

from mafsar.errors import InputError, MafsarError, MissingError, UnavailableError
from mafsar.model.names import ModelName, backbone, parse_model_name
from mafsar.model.open_clip_config import config_of, from_open_clip_json


@pytest.mark.parametrize(
    ("name", "parsed", "printed"),
    [
        ("tiny", ModelName("tiny", "shipped"), "tiny"),
        ("vit-b-32", ModelName("vit-b-32", "pretrained", "openai"), "vit-b-32:openai"),
        ("vit-b-32:random", ModelName("vit-b-32", "random"), "vit-b-32:random"),
        ("tiny:random", ModelName("tiny", "random"), "tiny:random"),
        ("ViT-B-16:x_y", ModelName("ViT-B-16", "pretrained", "x_y"), "ViT-B-16:x_y"),
        ("vit-l-14:/a/b", ModelName("vit-l-14", "file", "/a/b"), "vit-l-14:/a/b"),
        ("vit-l-14:b.safetensors", ModelName("vit-l-14", "file", "b.safetensors"), None),
        ("hf-hub:a/b:c", ModelName("", "hf-hub", "a/b:c"), "hf-hub:a/b:c"),
        ("local-dir:./m", ModelName("", "local-dir", "./m"), "local-dir:./m"),
    ],
)
def test_each_form_is_read(name, parsed, printed):
    assert parse_model_name(name) == parsed
    assert str(parsed) == (printed or name)


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("vit-b32", InputError, "did you mean vit-b-32?"),
        ("ViT-B-32", InputError, "did you mean vit-b-32?"),
        ("tinny", InputError, "did you mean tiny?"),
        ("zebra", InputError, "known: tiny, vit-b-32"),
        ("vit-b-32:", InputError, "nothing follows the colon"),
        ("hf-hub:", InputError, "nothing follows hf-hub:"),
        ("tiny:openai", InputError, "tiny has no tags"),
        ("RN50", InputError, "did you mean rn50?"),
    ],
)
def test_wrong_names_are_refused(name, error, words):
    with pytest.raises(error) as raised:
        parse_model_name(name)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_the_backbone_of_a_name():
    assert backbone("vit-b-32:random") == "vit-b-32"
    assert backbone("hf-hub:a/b") == "hf-hub:a/b"


def test_an_open_clip_name_is_read_from_its_own_file():
    gelu = config_of(parse_model_name("ViT-B-32:laion2b_s34b_b79k"))
    assert (gelu.vision.activation, gelu.text.activation) == ("gelu", "gelu")
    assert (gelu.vision.width, gelu.vision.heads, gelu.vision.patch_size) == (768, 12, 32)
    quick = config_of(parse_model_name("ViT-L-14-quickgelu:openai"))
    short = config_of(parse_model_name("vit-l-14"))
    assert (quick.vision, quick.text, quick.embed_dim) == (
        short.vision,
        short.text,
        short.embed_dim,
    )


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ViT-B-16-SigLIP:webli", "vision tower is timm's vit_base_patch16_siglip_224"),
        ("Convnext:x", "no model 'Convnext'"),
        ("ViT-H-14-CLIPA:x", "no_ln_pre = True"),
        ("ViT-M-16-alt:x", "ls_init_value"),
        ("EVA02-L-14:x", "timm's eva02"),
        ("ViT-H-14-worldwide:x", "text tower has pool_type = eos"),
    ],
)
def test_other_towers_are_refused_with_the_reason(name, words):
    with pytest.raises(MafsarError) as raised:
        config_of(parse_model_name(name))
    assert words in str(raised.value)


def test_other_ways_of_resizing_are_refused():
    document = {
        "model_cfg": {"embed_dim": 16, "vision_cfg": {"width": 64}, "text_cfg": {}},
        "preprocess_cfg": {"mean": [0, 0, 0], "std": [1, 1, 1], "resize_mode": "squash"},
    }
    with pytest.raises(UnavailableError, match="resize_mode = squash"):
        from_open_clip_json(document, "x")
    del document["preprocess_cfg"]["resize_mode"]
    config = from_open_clip_json(document, "x")
    assert (config.mean, config.std) == ((0, 0, 0), (1, 1, 1))


def test_a_folder_without_a_configuration(tmp_path):
    with pytest.raises(MissingError, match=r"open_clip_config\.json does not exist"):
        config_of(parse_model_name(f"local-dir:{tmp_path}"))

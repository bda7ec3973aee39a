"""Configurations: from TOML, `key=value` and Python, to TOML; defaults of a data set; errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from mafsar.data.presets import presets
from mafsar.errors import ArgumentTypeError, InputError, MissingError
from mafsar.training.config import (
    TrainConfig,
    build_config,
    flat,
    parse_pairs,
    resolved,
    to_toml,
)
from mafsar.training.fields import OptimFields, RunFields, ValFields


def test_words_win_over_the_file_and_the_file_over_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text("way = 3\nalpha = 0.2\n[optim]\nlearning_rate = 1e-3\n[model]\ngta = false\n")
    words = parse_pairs(["alpha=0.7", "model.joint=off", "model.prompts=a {}|the {}"])
    config = build_config(file, words | {"shot": None})
    assert (config.way, config.alpha, config.shot) == (3, 0.7, 1)
    assert config.optim.learning_rate == 1e-3
    assert (config.model.gta, config.model.joint, config.model.lma) == (False, False, True)
    assert config.model.prompts == ("a {}", "the {}")


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    values = {"model.name": 'a "b" \\ ü', "optim.batch": 16, "text": False, "data.root": "x y"}
    config = resolved(build_config(None, values), None)
    file = tmp_path / "config.toml"
    file.write_text(to_toml(config), encoding="utf-8")
    assert build_config(file) == config
    assert None not in [config.query, config.episodes, config.alpha, config.data.flip]


@pytest.mark.parametrize("name", list(presets()))
def test_a_standard_data_set_brings_what_suits_it(name: str) -> None:
    config = resolved(TrainConfig(), presets()[name])
    assert config.data.flip is not name.startswith("ssv2")  # METHOD 4: classes with a direction
    assert config.episodes == {"kinetics100": 1_000, "ssv2_small": 20_000}.get(
        name, config.episodes
    )
    said = {"episodes": 7, "data.flip": True}
    suits = {"query": config.query, "alpha": config.alpha}
    suits |= {"model.tune": "adapters", "model.tpcm": True}
    found = resolved(build_config(None, said), presets()[name])
    assert found == build_config(None, said | suits)


@pytest.mark.parametrize(
    ("values", "tune", "tpcm"),
    [
        ({"model.name": "vit-b-32"}, "adapters", True),
        ({"model.name": "vit-b-32", "model.tune": "full"}, "full", False),  # the paper's baseline
        ({"model.name": "vit-b-32", "model.tune": "full", "model.tpcm": True}, "full", True),
        ({"model.name": "rn50"}, "full", True),
        ({"model.name": "RN101-quickgelu:openai", "model.tpcm": False}, "full", False),
        ({"model.name": "no such name"}, "adapters", True),
    ],
)
def test_what_is_tuned_suits_the_tower(values: dict, tune: str, tpcm: bool) -> None:
    model = resolved(build_config(None, values), None).model
    assert (model.tune, model.tpcm) == (tune, tpcm)


def test_the_choices_of_the_method_are_the_defaults() -> None:
    values = flat(resolved(TrainConfig(), None))
    assert {name: values[name] for name in values if not name.startswith(("data", "run", "val"))} == {
        "way": 5, "shot": 1, "query": 1, "episodes": 1000, "seed": 0, "text": True, "alpha": 0.5,
        "metric": "otam", "lam": 0.5, "visual_scale": 1.0, "smooth": 0.1, "text_dropout": 0.2,
        "model.name": "tiny", "model.fresh": False, "model.tune": "adapters", "model.gta": True, "model.lma": True,
        "model.lma_text": True, "model.joint": True, "model.temporal": True, "model.tpcm": True,
        "model.ratio": 0.25, "model.joint_scale": 0.5, "model.frames": 8, "model.prompts": (),
        "optim.learning_rate": 2e-4, "optim.weight_decay": 0.05, "optim.decay": "weights", "optim.beta1": 0.9,
        "optim.beta2": 0.999, "optim.warm_up": 0.05, "optim.batch": 8, "optim.clip_norm": 1.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("optim.learning_rat=1", "did you mean optim.learning_rate?"),
        ("gta=false", "did you mean model.gta?"),
        ("metric=otma", "did you mean otam?"),
        ("way=five", "way must be a whole number, got 'five'"),
        ("way=1", "way must be ≥ 2, got 1"),
        ("alpha=1.5", "alpha must be in 0–1, got 1.5"),
        ("model.gta=perhaps", "model.gta must be true or false"),
        ("lam=0", "lam must be ≥ 1e-06, got 0.0"),
        ("lam=inf", "lam must be from 1e-06 to 1e+06, got inf"),
        ("lam=nan", "lam must be from 1e-06 to 1e+06, got nan"),
        ("visual_scale=1e309", "visual_scale must be from 1e-06 to 1e+06, got inf"),
        ("episodes=9223372036854775807", "episodes must be from 1 to 1e+07"),
        ("seed=1e3", "seed must be a whole number, got '1e3'"),
        ("seed=99999999999999999999", "seed must be from 0 to"),
        ("optim.beta1=1", "optim.beta1 must be ≥ 0 and < 1, got 1.0"),
        ("optim.learning_rate=nan", "optim.learning_rate must be from 0 to 1e+38, got nan"),
        ("data.workers=1000000", "data.workers must be from 0 to 256"),
        ("model.frames=100000", "model.frames must be from 1 to 1000"),
        ("model.ratio=0", "model.ratio must be ≥ 0.0001"),
        ("data.folder=a\0b", "data.folder must be a text of up to 4096 characters without NUL"),
        ("data.ignore_clock=0", "must be frames per second, > 0"),
        ("lr", "expected key=value"),
    ],
)
def test_what_is_wrong_is_named(word: str, says: str) -> None:
    with pytest.raises(InputError) as caught:
        build_config(None, parse_pairs([word]))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_wrong_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no such configuration file"):
        build_config(tmp_path / "no.toml")
    (tmp_path / "bad.toml").write_text("way = = 3\n")
    with pytest.raises(InputError, match=r"bad\.toml: not TOML"):
        build_config(tmp_path / "bad.toml")
    (tmp_path / "key.toml").write_text("[model]\ngtaa = true\n")
    with pytest.raises(InputError, match=r"key\.toml: unknown field 'model\.gtaa'"):
        build_config(tmp_path / "key.toml")


def test_a_configuration_is_built_in_python(tmp_path: Path) -> None:
    config = TrainConfig(
        data=tmp_path, model="vit-b-16", way=3, alpha=None, optim={"learning_rate": 1e-4},
        run=RunFields(save_every=5), val=ValFields(every=0),
    )  # fmt: skip
    said = {
        "data.folder": str(tmp_path), "model.name": "vit-b-16", "way": 3,
        "optim.learning_rate": 1e-4, "run.save_every": 5, "val.every": 0,
    }  # fmt: skip
    assert config == build_config(None, said)
    assert TrainConfig() == build_config()
    assert TrainConfig(data={"dataset": "hmdb51", "root": "x"}).data.root == "x"


@pytest.mark.parametrize(
    ("values", "kind", "says"),
    [
        ({"metric": "cosine"}, InputError, "metric must be one of otam, "),
        ({"way": None}, InputError, "way must be a whole number, got None"),
        ({"way": 2.5}, InputError, "way must be a whole number, got 2.5"),
        ({"seed": -1}, InputError, "seed must be ≥ 0, got -1"),
        ({"optim": {"lr": 1.0}}, InputError, "unknown field 'optim.lr'"),
        ({"optim": OptimFields(batch="4")}, None, ""),
        ({"optim": OptimFields(batch="four")}, InputError, "optim.batch must be a whole number"),
        (
            {"val": 3},
            ArgumentTypeError,
            "val must be ValFields or a mapping of its fields, got int",
        ),
    ],
)
def test_a_wrong_value_in_python_is_named(values: dict, kind: type | None, says: str) -> None:
    if kind is None:
        assert TrainConfig(**values).optim.batch == 4
        return
    with pytest.raises(kind) as caught:
        TrainConfig(**values)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("lam = inf", "lam must be from 1e-06 to 1e+06, got inf"),
        ("lam = nan", "lam must be from 1e-06 to 1e+06, got nan"),
        ("episodes = 9223372036854775807", "episodes must be from 1 to 1e+07"),
        ("episodes = 9000000\nway = 1000", "episodes × way × (1 + shot + query) must be ≤"),
        (f"seed = {'9' * 5000}", "not TOML"),
        (f"lam = {'9' * 4000}", "lam must be a number, got 9999"),
        ("[data]\nfolder = [1, 2]", "data.folder must be a text, got [1, 2]"),
        ("[data]\nfolder = 1979-05-27", "data.folder must be a text, got datetime.date"),
        ("[data.folder]\nx = 1", "data.folder must be a text, got {'x': 1}"),
        ('data = "clips"', "unknown field 'data'"),
        ("way = {a = 1}", "unknown field 'way.a'"),
        (f"way = {'[' * 9000}", "nests too deeply"),
        (f"{'a.' * 3000}b = 1", "unknown field"),
        ("metric = [1]", "metric must be one of otam"),
        ("text = 3", "text must be true or false, got 3"),
        ("[model]\nprompts = [" + "'{} a', " * 2000 + "]", "up to 1000 texts"),
        ("way = 3\nway = 4", "not TOML"),
        ("way = 3 # \ud800", "not UTF-8"),
    ],
)
def test_a_file_of_any_content_gets_one_line(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "c.toml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(InputError) as caught:
        build_config(file)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_large_file_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "c.toml").open("wb") as file:
        file.truncate(40 << 30)  # takes no space
    with pytest.raises(InputError, match="larger than the 16,777,216 bytes"):
        build_config(tmp_path / "c.toml")

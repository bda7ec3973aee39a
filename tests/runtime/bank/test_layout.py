"""What a bank's file says is believed only where it fits the table; a flipped bit is found."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from mafsar.choices import Scoring
from mafsar.documents import parse_json
from mafsar.errors import InputError, MissingError
from mafsar.runtime.bank import layout
from mafsar.runtime.bank.bank import read_bank
from mafsar.runtime.bank.enroll import enroll
from mafsar.runtime.cache.places import recall_place


@pytest.fixture
def path(make_encoder, support_folder, tmp_path):
    encoder = make_encoder()
    encoder.files_sha256 = "a"
    return enroll(support_folder, encoder, cache=False).save(tmp_path / "bank.safetensors")


def parts(path):
    with safe_open(path, framework="numpy") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return json.loads(file.metadata()["mafsar"]), tensors


def forged(path, edit):
    """A bank with the right checksum, or with none, whose document or tensors were changed."""
    document, tensors = copy.deepcopy(parts(path))
    document = edit(document, tensors) or document
    text = json.dumps(document)
    metadata = {"mafsar": text, "sha256": layout.checksum(text, tensors)}
    save_file(tensors, path, metadata)
    return path


def at(place, value):
    """Sets one entry of the document, as `model.scoring.lam` or `clips.0.owner`."""

    def edit(document, _):
        *folders, last = (int(each) if each.isdigit() else each for each in place.split("."))
        for each in folders:
            document = document[each]
        document[last] = value

    return edit


@pytest.mark.parametrize("value", [-5, 0, math.nan, math.inf, 1e300, "2", None, True, [], {}])
@pytest.mark.parametrize("name", ["visual_scale", "lam"])
def test_scales_that_reverse_or_break_a_ranking(path, name, value):
    if value is True or isinstance(value, bool):
        value = False
    with pytest.raises(InputError, match=rf"damaged bank: .*({name}|JSON)"):
        read_bank(forged(path, at(f"model.scoring.{name}", value)))


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("classes.0.label", ""),
        ("classes.0.label", " "),
        ("classes.0.label", "jump"),
        ("classes.0.label", "ju\u006dp "),
        ("classes.0.label", "_none"),
        ("classes.0.label", 7),
        ("classes.0.text", None),
        ("classes.0.words_known", 1),
        ("classes", []),
        ("classes", {}),
        ("clips", []),
        ("clips.0.owner", 3),
        ("clips.0.owner", -2),
        ("clips.0.owner", 1.0),
        ("clips.0.owner", 10**20),
        ("clips.0.path", None),
        ("clips.0.start", -1.0),
        ("clips.0.end", 0.0),
        ("clips.0.duration_seconds", None),
        ("clips.0.duration_seconds", -1),
        ("clips.0.content_sha256", "abc"),
        ("clips.0.size_bytes", -1),
        ("clips.0", []),
        ("clips.0.more", 1),
        ("text.alpha", 2.0),
        ("text.requested", "maybe"),
        ("text.used", "yes"),
        ("geometry.rotate", 45),
        ("geometry.roi", [1, 2, 3]),
        ("geometry.roi", "all"),
        ("geometry.hflip", 0),
        ("model.adapters", "some"),
        ("model.weights_sha256", "0" * 63),
        ("model.prompts", []),
        ("model.prompts", "a clip of {}"),
        ("model.preprocess.frames", 0),
        ("model.preprocess.frames", 5),
        ("model.preprocess.size", 10**7),
        ("model.preprocess.mean", [0.5, 0.5]),
        ("model.preprocess.std", [0, 0, 0]),
        ("model.path", 4),
        ("model", None),
        ("maker.precision", "fp64"),
        ("maker", []),
        ("kind", "bundle"),
        ("schema", "1"),
    ],
)
def test_entries_that_are_not_what_they_should_be(path, place, value):
    with pytest.raises(InputError, match=r"bank\.safetensors: ") as caught:
        read_bank(forged(path, at(place, value)))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700


def test_an_entry_that_is_missing(path):
    def edit(document, _):
        del document["clips"][2]["owner"]

    with pytest.raises(InputError, match=r"clips\[2\]\.owner is missing"):
        read_bank(forged(path, edit))


def test_entries_of_newer_versions_are_passed_over(path):
    assert len(read_bank(forged(path, at("calibration", {"p": 1})))) == 9


@pytest.mark.parametrize("name", ["query", "pooled", "support", "text", "images", "probe_query"])
@pytest.mark.parametrize("how", ["short", "wide", "dtype", "nan", "zeros", "flat", "gone"])
def test_tensors_that_do_not_fit(path, name, how):
    def edit(_, tensors):
        tensor = tensors[name]
        changed = {
            "short": tensor[:-1],
            "wide": np.repeat(tensor, 2, axis=-1),
            "dtype": tensor.astype(np.float16),
            "flat": tensor.reshape(-1),
            "zeros": np.concatenate([np.zeros_like(tensor[:1]), tensor[1:]]),
        }
        if how == "nan":
            changed["nan"] = tensor.astype(np.float32)
            changed["nan"].flat[3] = np.nan
        if how == "gone":
            del tensors[name]
        else:
            tensors[name] = np.ascontiguousarray(changed[how])

    allowed = {("support", "gone"), ("text", "gone"), ("images", "gone"), ("images", "zeros")}
    if (name, how) in allowed and not (name == "text" and parts(path)[0]["text"]["used"]):
        read_bank(forged(path, edit))
        return
    with pytest.raises(InputError, match="damaged bank"):
        read_bank(forged(path, edit))


def test_a_document_that_nests_too_deeply(path):
    for text in ("[" * 100_000, '{"a":' * 50_000, "[" * 100_000 + "]" * 100_000):
        _, tensors = parts(path)
        save_file(tensors, path.with_name("deep.safetensors"), {"mafsar": text})
        with pytest.raises(InputError, match=r"nests too deeply|not JSON"):
            read_bank(path.with_name("deep.safetensors"))


@pytest.mark.parametrize("text", ["9" * 5000, "NaN", '{"a": -Infinity}', "{", "", "\ud800"])
def test_json_that_is_more_than_it_seems(text):
    with pytest.raises(InputError, match=r"^it: not JSON"):
        parse_json(text, "it")


def test_every_flipped_bit_is_found(path):
    """At 200 places of the file, drawn by a seed; a flip in the padding of the header is none."""
    data = path.read_bytes()
    bank = read_bank(path)
    rng = np.random.default_rng(4)
    damaged = path.with_name("damaged.safetensors")
    for place, bit in zip(rng.integers(0, len(data), 200), rng.integers(0, 8, 200), strict=True):
        changed = bytearray(data)
        changed[place] ^= 1 << bit
        damaged.write_bytes(changed)
        try:
            found = read_bank(damaged)
        except InputError:
            continue
        assert found.query.tobytes() == bank.query.tobytes()
        assert found.same_content(bank)
        assert data[place : place + 1] in b" \"'{}:,[]" or place < 8


def test_a_removed_checksum_is_found(path):
    document, tensors = parts(path)
    save_file(tensors, path, {"mafsar": json.dumps(document)})
    with pytest.raises(InputError, match="checksum"):
        read_bank(path)


def test_a_large_bank_is_hashed_once(path, monkeypatch):
    calls = []
    whole = layout.checksum
    monkeypatch.setattr(layout, "checksum", lambda *given: calls.append(1) or whole(*given))
    monkeypatch.setattr(layout, "LARGE_BYTES", 100)
    read_bank(path)
    read_bank(path)
    assert len(calls) == 1
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(InputError, match="checksum"):
        read_bank(path)


def test_scoring_itself_refuses_what_reverses_a_ranking():
    for name, value in (("visual_scale", -5.0), ("visual_scale", math.nan), ("lam", math.inf),
                        ("text_scale", -1.0)):  # fmt: skip
        with pytest.raises(InputError, match=name):
            Scoring(**{name: value})


def test_a_bank_does_not_say_where_its_model_lay(make_encoder, support_folder, tmp_path):
    secret = tmp_path / "alice" / "models" / "m.mafsar"
    encoder = make_encoder(path=str(secret), name="vit-b-32:/home/alice/w.safetensors")
    bank = enroll(support_folder, encoder, cache=False)
    path = bank.save(tmp_path / "out" / "bank.safetensors")
    document, _ = parts(path)
    assert (document["model"]["path"], document["model"]["name"]) == (
        None,
        "vit-b-32:w.safetensors",
    )
    assert b"alice" not in path.read_bytes().replace(str(support_folder).encode(), b"")
    assert recall_place(bank.model.weights_sha256) == str(secret)  # this machine still knows
    beside = bank.save(secret.parent / "bank.safetensors")
    assert parts(beside)[0]["model"]["path"] == "m.mafsar"
    assert Path(read_bank(beside).model.path) == secret


@pytest.mark.parametrize("name", ["hf-hub:evil/evil", "vit-b-32", "ViT-B-32:laion2b"])
def test_nothing_is_downloaded_for_a_name_in_a_bank(path, monkeypatch, name):
    def fetch(*_, **__):
        raise AssertionError("a model was opened")

    monkeypatch.setattr("mafsar.runtime.engines.loading.open_model", fetch)
    bank = read_bank(forged(path, at("model.name", name)))
    with pytest.raises(MissingError, match=f"nothing is downloaded.*model='{name}'"):
        bank.encoder  # noqa: B018

"""Banks: saving, reading, adding, removing, merging, and what is refused."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from mafsar.errors import InputError, MismatchError, MissingError
from mafsar.runtime.bank.bank import Bank, read_bank
from mafsar.runtime.bank.edit import merge_banks, remove
from mafsar.runtime.bank.enroll import enroll, open_support
from mafsar.runtime.match.matcher import Matcher
from mafsar.video import Geometry


def same(left: Bank, right: Bank) -> bool:
    """Whether two banks are equal bit by bit, apart from the paths of their clips."""
    for name in ("query", "pooled", "support", "text", "images"):
        a, b = getattr(left, name), getattr(right, name)
        if (a is None) != (b is None) or (a is not None and a.tobytes() != b.tobytes()):
            return False
    rows = [
        [(c.label, c.identity, c.duration_seconds) for c in bank.clips] for bank in (left, right)
    ]
    return (
        rows[0] == rows[1]
        and left.classes == right.classes
        and left.words_known == right.words_known
        and left.model == right.model
        and left.geometry == right.geometry
        and left.text_choice == right.text_choice
    )


def test_round_trip(encoder, support_folder, tmp_path, cache):
    bank = enroll(
        support_folder, encoder, geometry=Geometry(rotate=90, roi=(0.1, 0.0, 0.5, 1.0)), cache=cache
    )
    loaded = read_bank(bank.save(tmp_path / "b.safetensors"))
    assert same(bank, loaded)
    assert [clip.path for clip in loaded.clips] == [clip.path for clip in bank.clips]
    assert loaded.images.shape == (9, 4, 64, 64, 3)
    bare = read_bank(bank.save(tmp_path / "bare.safetensors", images=False))
    assert bare.images is None


def test_the_file_is_plain_safetensors_with_metadata(encoder, support_folder, tmp_path, cache):
    path = enroll(support_folder, encoder, cache=cache).save(tmp_path / "b.safetensors")
    with safe_open(path, framework="numpy") as file:
        metadata = json.loads(file.metadata()["mafsar"])
        assert {"query", "support", "pooled", "text"} <= set(file.keys())
    assert metadata["schema"] == 1
    assert metadata["model"]["weights_sha256"] == encoder.spec.weights_sha256
    assert metadata["model"]["prompts"] == ["a clip of {}"]
    assert metadata["model"]["preprocess"]["size"] == 32
    assert {"requested", "used", "alpha", "why"} == set(metadata["text"])
    assert all(len(clip["content_sha256"]) == 64 for clip in metadata["clips"])


def test_an_existing_file_is_kept(encoder, support_folder, tmp_path, cache):
    bank = enroll(support_folder, encoder, cache=cache)
    path = tmp_path / "b.safetensors"
    path.write_bytes(b"mine")
    with pytest.raises(InputError, match="overwrite=True"):
        bank.save(path)
    with pytest.raises(InputError, match="is not a bank, so it is not replaced"):
        bank.save(path, overwrite=True)
    assert path.read_bytes() == b"mine"
    path.unlink()
    bank.save(path)
    bank.save(path, overwrite=True)
    assert read_bank(path).labels == ("clap_hands", "jump", "wave")
    with pytest.raises(InputError, match=r"b\.safetensors"):
        bank.save(tmp_path / "b.npz")


@pytest.mark.parametrize("how", ["a new class", "more clips", "one by one"])
def test_adding_gives_the_bits_of_enrolling_at_once(how, encoder, support_folder, tmp_path, cache):
    whole = enroll(support_folder, encoder, cache=cache)
    first, rest = tmp_path / "first", tmp_path / "rest"
    shutil.copytree(support_folder, first)
    if how == "a new class":
        rest.mkdir()
        shutil.move(first / "jump", rest / "jump")
        added = enroll(rest, encoder, add_to=enroll(first, encoder, cache=False), cache=False)
    elif how == "more clips":
        for label in ("clap_hands", "wave"):
            (rest / label).mkdir(parents=True)
            shutil.move(first / label / "clip0", rest / label / "clip0")
        added = enroll(rest, encoder, add_to=enroll(first, encoder, cache=False))
    else:
        added = None
        for clip in sorted(first.glob("*/*"), reverse=True):
            one = tmp_path / "one" / clip.parent.name
            shutil.copytree(clip, one / clip.name)
            added = enroll(tmp_path / "one", encoder, add_to=added, cache=False)
            shutil.rmtree(tmp_path / "one")
    assert same(whole, added)


def test_adding_encodes_only_what_is_new(encoder, support_folder, tmp_path, make_clip):
    bank = enroll(support_folder, encoder, cache=False)
    before = dict(encoder.calls)
    more = tmp_path / "more"
    shutil.copytree(support_folder / "jump", more / "jump")
    make_clip(more / "jump" / "new", 1, 77)
    bigger = enroll(more, encoder, add_to=bank)
    assert encoder.calls["query"] - before["query"] == 1
    assert encoder.calls["support"] - before["support"] == 1
    assert len(bigger.clips) == len(bank.clips) + 1
    assert len(bank.clips) == 9
    assert sum("the same clip" in note for note in bigger.notes) == 3


def test_removing_is_enrolling_without(encoder, support_folder, tmp_path, cache):
    bank = enroll(support_folder, encoder, cache=cache)
    copy = tmp_path / "copy"
    shutil.copytree(support_folder, copy)
    shutil.rmtree(copy / "jump")
    shutil.rmtree(copy / "wave" / "clip1")
    removed = remove(
        bank, class_names=["jump"], clip_names=[str(support_folder / "wave" / "clip1")]
    )
    assert same(removed, enroll(copy, encoder, cache=cache))
    gone = remove(
        bank,
        clip_names=[
            clip.content_sha256[:12] for clip in bank.clips if clip.label == bank.labels[2]
        ],
    )
    assert gone.labels == ("clap_hands", "jump")


def test_removing_unknown_names_is_an_error(encoder, support_folder, cache):
    bank = enroll(support_folder, encoder, cache=cache)
    with pytest.raises(MissingError, match="did you mean 'jump'"):
        remove(bank, class_names=["jumb"])
    with pytest.raises(MissingError, match="no clip 'nothing'"):
        remove(bank, clip_names=["nothing"])
    with pytest.raises(InputError, match="no class would be left"):
        remove(bank, class_names=["jump", "wave", "clap_hands"])
    with pytest.raises(InputError, match="nothing to remove"):
        remove(bank)


def test_merging_is_enrolling_together(encoder, support_folder, tmp_path, cache):
    whole = enroll(support_folder, encoder, cache=cache)
    parts = []
    for label in ("wave", "clap_hands", "jump"):
        shutil.copytree(support_folder / label, tmp_path / label / label)
        parts.append(enroll(tmp_path / label, encoder, cache=cache))
    assert same(merge_banks(*parts), whole)
    assert same(merge_banks(whole, parts[0]), whole)


def test_merging_refuses_banks_of_another_model(encoder, make_encoder, support_folder, cache):
    bank = enroll(support_folder, encoder, cache=cache)
    other = enroll(support_folder, make_encoder(weights_sha256="2" * 64), cache=cache)
    with pytest.raises(MismatchError, match="different models"):
        merge_banks(bank, other)
    with pytest.raises(MismatchError, match="roi, fit, rotate, hflip"):
        merge_banks(
            bank, enroll(support_folder, encoder, geometry=Geometry(hflip=True), cache=cache)
        )
    with pytest.raises(InputError, match="text='off'"):
        merge_banks(bank, enroll(support_folder, encoder, text="off", cache=cache))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"weights_sha256": "2" * 64}, "weights 222222222222"),
        ({"prompts": ("{}",)}, "prompts"),
        ({"std": (0.5, 0.5, 0.5)}, "pre-processing"),
    ],
)
def test_another_model_is_refused(
    change, said, encoder, make_encoder, support_folder, cache, tmp_path
):
    path = enroll(support_folder, encoder, cache=cache).save(tmp_path / "b.safetensors")
    other = make_encoder(**change)
    for act in (
        lambda: open_support(path, other),
        lambda: Matcher(read_bank(path), other).stream([]),
        lambda: enroll(support_folder, other, add_to=read_bank(path)),
    ):
        with pytest.raises(MismatchError, match=said) as error:
            act()
        assert str(path) in str(error.value)
        assert "enroll the clips again" in str(error.value)
        assert "\n" not in str(error.value)


def test_engine_and_precision_do_not_matter(encoder, make_encoder, support_folder, cache, tmp_path):
    path = enroll(support_folder, encoder, cache=cache).save(tmp_path / "b.safetensors")
    other = make_encoder()
    other.engine, other.precision = "torch", "fp16"
    assert open_support(path, other).labels == ("clap_hands", "jump", "wave")


def test_damaged_banks_are_refused(encoder, support_folder, cache, tmp_path):
    path = enroll(support_folder, encoder, cache=cache).save(tmp_path / "b.safetensors")
    with pytest.raises(MissingError, match=r"mafsar\.enroll\(support\)\.save\("):
        read_bank(tmp_path / "none.safetensors")
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match=r"cut\.safetensors: damaged"):
        read_bank(cut)
    save_file({"a": np.zeros(3, np.float32)}, tmp_path / "weights.safetensors")
    with pytest.raises(InputError, match="not a bank"):
        read_bank(tmp_path / "weights.safetensors")
    with safe_open(path, framework="numpy") as file:
        metadata = json.loads(file.metadata()["mafsar"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    del metadata["checksum"]  # as whoever changes a bank by hand would
    newer = metadata | {"schema": 2}
    save_file(tensors, tmp_path / "newer.safetensors", {"mafsar": json.dumps(newer)})
    with pytest.raises(InputError, match=r"schema 2, this version reads 1; pip install -U mafsar"):
        read_bank(tmp_path / "newer.safetensors")
    short = tensors | {"pooled": tensors["pooled"][:-1]}
    save_file(short, tmp_path / "short.safetensors", {"mafsar": json.dumps(metadata)})
    with pytest.raises(InputError, match=r"short\.safetensors: damaged bank: pooled is float32"):
        read_bank(tmp_path / "short.safetensors")
    fewer = tensors | {"images": tensors["images"][:-1]}
    save_file(fewer, tmp_path / "fewer.safetensors", {"mafsar": json.dumps(metadata)})
    with pytest.raises(InputError, match=r"damaged bank: images is uint8 \(8, 4, 64, 64, 3\)"):
        read_bank(tmp_path / "fewer.safetensors")
    text = metadata["text"] | {"requested": "maybe"}
    save_file(
        tensors, tmp_path / "text.safetensors", {"mafsar": json.dumps(metadata | {"text": text})}
    )
    with pytest.raises(
        InputError, match=r"damaged bank: text\.requested must be one of auto, on, off"
    ):
        read_bank(tmp_path / "text.safetensors")


def test_the_geometry_of_a_bank_cannot_be_changed(encoder, support_folder, cache, tmp_path):
    path = enroll(support_folder, encoder, geometry=Geometry(hflip=True), cache=cache).save(
        tmp_path / "b.safetensors"
    )
    with pytest.raises(InputError, match="hflip=True"):
        open_support(path, encoder, geometry=Geometry())
    assert open_support(path, encoder, geometry=Geometry(hflip=True)).geometry.hflip


def test_the_same_clip_twice_counts_once(encoder, support_folder, cache):
    once = enroll(support_folder, encoder, cache=cache)
    shutil.copytree(support_folder / "jump" / "clip0", support_folder / "jump" / "copy")
    twice = enroll(support_folder, encoder, cache=cache)
    assert same(once, twice)
    assert any("copy" in note and "counts once" in note for note in twice.notes)


def test_background_clips_are_kept_and_do_not_match(
    encoder, support_folder, make_clip, cache, tmp_path
):
    plain = enroll(support_folder, encoder, cache=cache)
    make_clip(support_folder / "_none" / "idle", 40)
    bank = read_bank(enroll(support_folder, encoder, cache=cache).save(tmp_path / "b.safetensors"))
    assert bank.labels == plain.labels
    assert bank.class_index.tolist().count(-1) == 1
    added = enroll(support_folder, encoder, add_to=plain, cache=False)  # only background is new
    assert same(added, bank)
    query = make_clip(tmp_path / "q", 1, 9)
    (left,) = Matcher(plain, encoder).stream([query])
    (right,) = Matcher(bank, encoder).stream([query])
    assert left.topk == right.topk

"""What a thing is, and what works here."""

from __future__ import annotations

import json

import pytest

from mafsar import kernels
from mafsar.errors import InputError, MafsarError
from mafsar.runtime.bank.enroll import enroll
from mafsar.runtime.engines.loading import list_models
from mafsar.runtime.machine import doctor
from mafsar.runtime.machine.doctor import examine
from mafsar.runtime.report.describe import describe


def test_clip_is_counted_without_weights():
    facts = describe("vit-b-32")
    # Printed in the paper's table 4: 18.54 M tunable, 169.81 M in all.
    assert facts["parameters_total"] == 169_812_993
    assert facts["parameters_tunable"] == 18_535_680
    assert facts["adapters"] == "none"
    assert facts["text"] is True
    assert {"name", "backbone", "frames", "image_size", "embed_dim"} <= set(facts)
    assert describe("vit-b-16")["parameters_tunable"] == 18_535_680


def test_banks_supports_and_clips(encoder, support_folder, cache, tmp_path):
    path = enroll(support_folder, encoder, cache=cache).save(tmp_path / "b.safetensors")
    bank = describe(path)
    assert (bank["kind"], bank["clips"], bank["model"]) == ("bank", 9, "fake")
    assert bank["classes"] == {"clap_hands": 3, "jump": 3, "wave": 3}
    support = describe(support_folder)
    assert support["kind"] == "support"
    assert support["texts"] == {"clap_hands": "clap hands", "jump": "jump", "wave": "wave"}
    clip = describe(support_folder / "jump" / "clip0")
    assert (clip["kind"], clip["frames"]) == ("clip", 6)
    for facts in (bank, support, clip):
        assert facts["schema"] == 1
        json.dumps(facts, allow_nan=False)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("vit-b-23", "did you mean vit-b-32"),
        ("gone.mafsar", "no such file"),
        ("nothing", "unknown"),
    ],
)
def test_unknown_things(name, said):
    with pytest.raises(MafsarError, match=said):
        describe(name)


def test_a_file_that_is_nothing(tmp_path):
    (tmp_path / "x.bin").write_bytes(b"1")
    with pytest.raises(InputError, match="not a support"):
        describe(tmp_path / "x.bin")


def test_models_have_names():
    cards = list_models()
    assert cards[0].name == "tiny"
    assert {"vit-b-32", "vit-b-16", "vit-l-14"} <= {card.name for card in cards}


def test_doctor_looks_at_everything():
    checks = {check.name: check for check in examine()}
    assert {
        "mafsar", "python", "platform", "native kernels", "numpy", "onnxruntime", "gpu",
        "train extra", "tensorrt", "codecs", "cache", "starter tiny",
        *(f"op {state.name}" for state in kernels.status()),
    } <= set(checks)  # fmt: skip
    for check in checks.values():
        assert check.status in ("ok", "warn", "fail")
        assert check.detail
        if check.status == "fail":
            assert check.fix, check
        assert "\n" not in check.detail
        json.dumps(check.to_json())
    assert checks["python"].status == "ok"


def test_doctor_names_what_is_broken(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "SHIPPED_BUNDLE", tmp_path / "tiny.mafsar")
    monkeypatch.setattr(doctor, "_version", lambda _package: None)
    checks = {check.name: check for check in examine()}
    assert checks["starter tiny"].status == "fail"
    assert checks["numpy"].status == "fail"
    assert checks["numpy"].fix == "pip install numpy"
    assert checks["train extra"].status == "warn"
    assert "mafsar[train]" in checks["train extra"].fix


def test_doctor_finds_two_onnx_runtimes(monkeypatch):
    monkeypatch.setattr(doctor, "_version", lambda _package: "1.0")
    check = next(check for check in examine() if check.name == "onnxruntime")
    assert check.status == "fail"
    assert "pip uninstall -y onnxruntime onnxruntime-gpu" in check.fix


def test_doctor_goes_on_after_a_broken_check(monkeypatch):
    def broken() -> list[doctor.Check]:
        raise OSError("disk on fire")

    monkeypatch.setattr(doctor, "_codecs", broken)
    checks = examine()
    assert any(check.status == "fail" and "disk on fire" in check.detail for check in checks)
    assert checks[-1].name == "starter tiny"

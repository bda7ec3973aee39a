"""The OpenVINO engine: the reference's features, its cache, and when `auto` takes it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from mafsar.choices import EngineChoice
from mafsar.errors import InputError, UnavailableError
from mafsar.model.names import SHIPPED_BUNDLE
from mafsar.runtime.cache.bundles import bundles_folder, clear_kept, kept_bundles
from mafsar.runtime.cache.speeds import measured_speeds, record_speeds
from mafsar.runtime.engines import onnx_encoder, openvino_encoder
from mafsar.runtime.engines.bundle import Bundle
from mafsar.runtime.engines.loading import load_model
from mafsar.runtime.engines.onnx_encoder import available_threads

INSTALLED = importlib.util.find_spec("openvino") is not None
needs_openvino = pytest.mark.skipif(not INSTALLED, reason="openvino is not installed")


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MAFSAR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(openvino_encoder, "has_cuda_driver", lambda: False)


@pytest.fixture
def frames() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 8, 224, 224, 3), dtype=np.uint8)


@needs_openvino
def test_features_are_those_of_onnx_runtime(frames: np.ndarray) -> None:
    ours, theirs = (load_model("tiny", engine=name, device="cpu") for name in ("openvino", "onnx"))
    assert (ours.engine, ours.device, ours.precision) == ("openvino", "cpu", "fp32")
    text = np.repeat(ours.encode_text(["wave hand"]), len(frames), axis=0)
    for got, want in (
        (ours.encode_query(frames), theirs.encode_query(frames)),
        (ours.encode_support(frames, text), theirs.encode_support(frames, text)),
        (ours.encode_support(frames, None), theirs.encode_query(frames)),
    ):
        scale = np.abs(want.frames).max()
        np.testing.assert_allclose(got.frames, want.frames, rtol=0, atol=1e-5 * scale)
        np.testing.assert_allclose(got.pooled, want.pooled, rtol=0, atol=1e-5 * scale)


@needs_openvino
def test_long_calls_are_split_and_results_outlive_the_next_call(frames: np.ndarray) -> None:
    bundle = Bundle.open(SHIPPED_BUNDLE)
    whole = openvino_encoder.OpenVinoEncoder(bundle).encode_query(frames)
    split = openvino_encoder.OpenVinoEncoder(bundle, max_batch=2)
    first = split.encode_query(frames)
    kept = first.frames.copy()
    split.encode_query(255 - frames)
    np.testing.assert_array_equal(first.frames, kept)
    np.testing.assert_allclose(kept, whole.frames, atol=1e-5 * np.abs(kept).max())


@needs_openvino
def test_compiled_graphs_are_kept_checked_and_cleared(
    frames: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    import openvino

    compiled: list[str] = []
    real = openvino.Core.compile_model

    def spy(self: openvino.Core, *given: object) -> object:
        compiled.append("compiled")
        return real(self, *given)

    monkeypatch.setattr(openvino.Core, "compile_model", spy)

    def encode(**options: object) -> np.ndarray:
        encoder = load_model("tiny", engine="openvino", **options)  # type: ignore[arg-type]
        return encoder.encode_query(frames[:1]).frames

    want = encode(threads=2)
    np.testing.assert_array_equal(encode(threads=2), want)
    assert len(compiled) == 1
    encode(threads=1)  # other threads, another graph
    assert len(compiled) == 2
    encode(threads=2, cache=False)
    assert len(compiled) == 3
    (blob, _) = sorted(bundles_folder().glob(".openvino-*/graph.blob"))
    for file in bundles_folder().glob(".openvino-*/graph.blob"):
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    np.testing.assert_array_equal(encode(threads=2), want)
    assert len(compiled) == 4
    assert blob.is_file()
    assert kept_bundles().size_bytes > 0
    assert kept_bundles().names == ()  # they are no bundles
    clear_kept()
    assert kept_bundles().size_bytes == 0


@needs_openvino
def test_auto_takes_it_where_bench_found_it_faster() -> None:
    def choice() -> str:
        return str(load_model("tiny", device="cpu").choice)

    sha256, threads = Bundle.open(SHIPPED_BUNDLE).spec.weights_sha256, available_threads()
    plain = choice()
    assert plain.startswith("engine: onnx on cpu (")  # not measured yet
    record_speeds(sha256, "fp32", threads, {"onnx": 20.0, "openvino": 16.0})
    assert choice() == (
        "engine: openvino on cpu (1.25× as fast as onnx in mafsar bench here; engine='onnx' turns "
        "it off)"
    )
    assert load_model("tiny", engine="onnx", device="cpu").engine == "onnx"
    assert load_model("tiny", device="cpu", threads=threads + 1).engine == "onnx"  # not measured
    record_speeds(sha256, "fp32", threads, {"onnx": 20.0, "openvino": 24.0})
    assert choice() == plain


@needs_openvino
def test_bench_keeps_what_auto_reads() -> None:
    from mafsar.runtime.evaluation.bench import bench

    onnx, ours = (load_model("tiny", engine=name, device="cpu") for name in ("onnx", "openvino"))
    result = bench([onnx, ours], onnx, runs=2)
    assert [row.engine for row in result.rows] == ["onnx", "openvino"]
    assert result.rows[1].min_cosine > 0.99999
    found = measured_speeds(onnx.spec.weights_sha256, "fp32", available_threads())
    assert found == {row.engine: row.milliseconds["encode"].median for row in result.rows}


@needs_openvino
def test_what_it_cannot_do_is_said() -> None:
    with pytest.raises(UnavailableError, match="the openvino engine runs on the CPU; use"):
        load_model("tiny", engine="openvino", device="cuda")
    with pytest.raises(InputError, match="threads must be ≥ 1, got 0"):
        load_model("tiny", engine="openvino", threads=0)
    with pytest.raises(UnavailableError, match="int8"):
        load_model("tiny", engine="openvino", precision="int8")


def test_without_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec

    def missing(name: str, *rest: object) -> object:
        return None if name == "openvino" else find(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(importlib.util, "find_spec", missing)
    with pytest.raises(UnavailableError, match=r"pip install 'mafsar\[openvino\]'"):
        load_model("tiny", engine="openvino")
    assert "openvino" not in str(load_model("tiny", device="cpu").choice)


def test_a_gpu_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_encoder, "has_cuda_driver", lambda: True)
    bundle = Bundle.open(SHIPPED_BUNDLE)
    record_speeds(
        bundle.spec.weights_sha256, "fp32", available_threads(), {"onnx": 2, "openvino": 1}
    )
    for device in ("auto", "cuda:0"):
        reason = openvino_encoder.openvino_missing(bundle, EngineChoice(device=device))
        assert reason is not None
        assert str(reason) == ""
    assert onnx_encoder.has_cuda_driver is not openvino_encoder.has_cuda_driver


def test_damaged_speeds_are_no_speeds(tmp_path: Path) -> None:
    record_speeds("a", "fp32", 2, {"onnx": 1.0})
    assert measured_speeds("a", "fp32", 2) == {"onnx": 1.0}
    assert measured_speeds("a", "int8", 2) == measured_speeds("b", "fp32", 2) == {}
    (tmp_path / "cache" / "speeds.json").write_text("[1]")
    assert measured_speeds("a", "fp32", 2) == {}
    record_speeds("a", "fp32", 2, {"onnx": 3.0})
    assert measured_speeds("a", "fp32", 2) == {"onnx": 3.0}

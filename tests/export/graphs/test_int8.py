"""int8 graphs: the type of each node, the integers, and what stays in float32."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch

from mafsar.errors import InputError, MismatchError, UnavailableError
from mafsar.export.bundle_draft import bundle_draft
from mafsar.export.graphs.int8 import LARGEST_WEIGHT, mean_product, quantise_weight
from mafsar.export.job import export_model
from mafsar.export.verify import int8_search
from mafsar.export.verify.bisect import bisect
from mafsar.export.verify.clips import calibration_clips, rendered_clips
from mafsar.runtime.engines.bundle import Bundle
from mafsar.runtime.engines.loading import load_model


@pytest.fixture(scope="module")
def eighth(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with int8 graphs; read only."""
    out = tmp_path_factory.mktemp("eighth") / "eighth.mafsar"
    (artefact,) = export_model(whole, out, precision="int8").artefacts
    assert artefact.name == "onnx-int8"
    return out


@pytest.fixture
def copied(whole: Path, tmp_path: Path) -> Path:
    """A bundle with fp32 and fp16 graphs that a test may change."""
    return Path(shutil.copytree(whole, tmp_path / "copy.mafsar"))


def test_the_bundle_gets_verified_int8_graphs(eighth: Path, whole: Path) -> None:
    bundle = Bundle.open(eighth)
    assert bundle.precisions() == ["fp32", "fp16", "int8"]
    report = bundle.manifest["parity"]["onnx-int8"]
    assert (report["verified"], report["episodes"], report["min_cosine"]) == ("yes", 2000, 0.98)
    assert abs(report["accuracy"] - report["accuracy_reference"]) <= 0.5
    for output in report["outputs"].values():
        assert 0.98 <= output["centred_cosine"] < 0.99999
    assert report["int8"]["kept_float32"] == []
    # q, k, v, out and two of the MLP, three adapters of two, in two blocks; patches; projection.
    assert report["int8"]["weights"] == 2 * (6 + 6) + 2
    for path in whole.iterdir():
        if path.name != "bundle.json":
            assert (eighth / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("branch", ["query", "support"])
def test_every_product_of_the_towers_becomes_an_int8_kernel(
    branch: str, eighth: Path, tmp_path: Path
) -> None:
    path = eighth / f"{branch}-int8.onnx"
    onnx.checker.check_model(str(path), full_check=True)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    graph = onnx.load(str(tmp_path / "optimised.onnx"), load_external_data=False).graph
    kinds = Counter(node.op_type for node in graph.node)
    exact = onnx.load(str(eighth / f"{branch}-fp32.onnx"), load_external_data=False).graph
    named = [
        node
        for node in exact.node
        if node.op_type == "MatMul" and node.input[1].startswith(("visual.", "adapters."))
    ]
    assert kinds["QGemm"] == len(named)
    assert kinds["QLinearConv"] == 1
    # The module after the towers computes in float.
    stored = {tensor.name: tensor.data_type for tensor in graph.initializer}
    behind = {kind for name, kind in stored.items() if name.startswith("tpcm.")}
    assert behind == {onnx.TensorProto.FLOAT}
    assert onnx.TensorProto.INT8 in stored.values()


def test_one_product_in_integers(eighth: Path, tmp_path: Path) -> None:
    """The Gemm's result, computed again from the integers in the file."""
    model = onnx.load(str(eighth / "query-int8.onnx"))
    graph = model.graph
    gemm = [node for node in graph.node if node.op_type == "Gemm"][3]
    makers = {name: node for node in graph.node for name in node.output}
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    restored = [makers[name] for name in gemm.input]
    for name, kind in ((restored[0].input[0], "UINT8"), (gemm.output[0], "FLOAT")):
        kind_number = onnx.TensorProto.DataType.Value(kind)
        graph.output.append(onnx.helper.make_tensor_value_info(name, kind_number, None))
    onnx.save(model, tmp_path / "open.onnx")
    session = onnxruntime.InferenceSession(
        str(tmp_path / "open.onnx"), providers=["CPUExecutionProvider"]
    )
    frames = np.random.default_rng(1).integers(0, 256, (2, 4, 32, 32, 3), np.uint8)
    activations, result = session.run(None, {"frames": frames})[2:]
    scale, zero = (stored[name] for name in restored[0].input[1:])
    weight, steps, zeros = (stored[name] for name in restored[1].input)
    bias, bias_steps = (stored[name] for name in restored[2].input)
    assert (weight.dtype, bias.dtype, zero.dtype) == (np.int8, np.int32, np.uint8)
    assert np.abs(weight.astype(int)).max() == LARGEST_WEIGHT
    assert not zeros.any()
    assert np.array_equal(bias_steps, steps * scale)
    sums = (activations.astype(np.int64) - int(zero)) @ weight.astype(np.int64) + bias
    wanted = sums * (steps.astype(np.float64) * float(scale))
    assert np.allclose(result, wanted, rtol=1e-5, atol=1e-6)


def test_weights_are_rounded_to_their_channels_steps() -> None:
    rng = np.random.default_rng(2)
    weight = (
        rng.standard_normal((8, 3, 3, 3)) * np.logspace(-3, 1, 8)[:, None, None, None]
    ).astype(np.float32)
    weight[3] = 0
    steps, scales = quantise_weight(weight, 0)
    assert np.abs(steps).max() == LARGEST_WEIGHT
    back = steps * scales[:, None, None, None]
    assert (np.abs(back - weight) <= 0.501 * scales[:, None, None, None]).all()
    assert (scales > 0).all()
    assert not steps[3].any()


@pytest.mark.parametrize("groups", [1, 3, 6])
def test_the_shift_of_a_rounded_weight(groups: int) -> None:
    """The correction of the bias, compared with torch on a constant input without padding."""
    rng = np.random.default_rng(3)
    weight, means = rng.standard_normal((12, 6 // groups, 3, 3)), rng.standard_normal(6)
    picture = torch.from_numpy(means)[None, :, None, None].expand(1, 6, 3, 3)
    wanted = torch.nn.functional.conv2d(picture, torch.from_numpy(weight), groups=groups)
    assert np.allclose(mean_product(weight, means), wanted.ravel().numpy())
    linear = rng.standard_normal((6, 4))
    assert np.allclose(mean_product(linear, means), means @ linear)


def test_int8_runs_where_it_is_requested(eighth: Path, whole: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 4, 32, 32, 3), np.uint8)
    encoder = load_model(eighth, precision="int8")
    assert (encoder.precision, encoder.device) == ("int8", "cpu")
    exact = load_model(eighth, device="cpu").encode_query(frames).frames
    error = np.abs(encoder.encode_query(frames).frames - exact).max()
    assert 1e-4 * np.abs(exact).max() < error < 0.2 * np.abs(exact).max()
    with pytest.raises(UnavailableError, match="int8 graphs are for CPUs; use device='cpu'"):
        load_model(eighth, precision="int8", device="cuda", engine="onnx")
    with pytest.raises(UnavailableError, match=r"no query-int8\.onnx .* precision='int8'"):
        load_model(whole, precision="int8")


def test_adding_int8_graphs_and_refusals(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path.name: path.read_bytes() for path in copied.iterdir()}
    export_model(copied, precision="int8")
    with pytest.raises(InputError, match="int8: the bundle has these graphs already"):
        export_model(copied, precision="int8")
    first = (copied / "weights-int8.bin").read_bytes()
    again = export_model(copied, precision="int8", overwrite=True)
    assert [item.name for item in again.artefacts] == ["onnx-int8"]
    assert (copied / "weights-int8.bin").read_bytes() == first
    assert all(
        (copied / name).read_bytes() == data for name, data in before.items() if "js" not in name
    )
    with pytest.raises(InputError, match="int8 is for ONNX Runtime on a CPU"):
        export_model(copied, engine="trt", precision="int8")
    with pytest.raises(InputError, match="only int8 is calibrated; add precision='int8'"):
        export_model(copied, calibration=copied)
    find = sys.modules["importlib.util"].find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "onnx_ir" else find(name)
    )
    with pytest.raises(
        UnavailableError, match=r"precision='int8': .* pip install 'mafsar\[graphs\]'"
    ):
        export_model(copied, precision="int8", overwrite=True)


def test_calibration_on_own_clips_without_verification(copied: Path, tmp_path: Path) -> None:
    from mafsar.synthetic import render_video

    for name, count in (("tip_over", 1), ("wave_hand", 2)):
        (tmp_path / "clips" / name).mkdir(parents=True)
        for index in range(count):
            path = tmp_path / "clips" / name / f"{index}.mp4"
            render_video(name, path, seed=index, seconds=0.5, size=64)
    clips = tmp_path / "clips"
    result = export_model(copied, precision="int8", verify=False, calibration=clips)
    (artefact,) = result.artefacts
    assert artefact.verification["verified"] == "no"
    assert artefact.verification["int8"]["calibration"] == str(tmp_path / "clips")
    assert artefact.verification["int8"]["calibration_clips"] == 3


def test_calibration_and_verification_use_different_classes(whole: Path) -> None:
    spec = Bundle.open(whole).spec
    ours, theirs = calibration_clips(spec), rendered_clips(spec)
    assert not set(ours.texts) & set(theirs.texts)
    assert len(ours) == 24


def enlarge_a_channel(bundle: Path) -> None:
    """Multiplies one channel of a LayerNorm by 400 and divides its readers' weights by 400."""
    with bundle_draft(bundle, bundle) as draft:
        for branch in ("query", "support"):
            path = draft.folder / f"{branch}-fp32.onnx"
            model = ir.load(path)
            # Both graphs share the weights, so each is changed by name.
            for name, row in (
                ("visual.transformer.resblocks.0.ln_2.weight", 400.0),
                ("visual.transformer.resblocks.0.ln_2.bias", 400.0),
                ("visual.transformer.resblocks.0.mlp.c_fc.weight.T", 1 / 400),
                ("adapters.blocks.0.joint.adapter.down.weight.T", 1 / 400),
            ):
                value = model.graph.initializers[name]
                array = value.const_value.numpy().copy()
                array[7] *= row
                value.const_value = ir.tensor(array, name=name)
            path.unlink()
            ir.save(model, path)


def test_only_products_that_fail_in_int8_stay_float32(copied: Path) -> None:
    enlarge_a_channel(copied)
    (artefact,) = export_model(copied, precision="int8").artefacts
    kept = artefact.verification["int8"]["kept_float32"]
    assert kept
    assert set(kept) <= {
        "visual.transformer.resblocks.0.mlp.c_fc.weight.T",
        "adapters.blocks.0.joint.adapter.down.weight.T",
    }
    graph = onnx.load(str(copied / "query-int8.onnx"), load_external_data=False).graph
    stored = {tensor.name: tensor.data_type for tensor in graph.initializer}
    assert all(stored[name] == onnx.TensorProto.FLOAT for name in kept)


def nth(graph: onnx.GraphProto, kind: str, which: int) -> onnx.NodeProto:
    return [node for node in graph.node if node.op_type == kind][which]


def miswrite(graph: onnx.GraphProto, which: int, place: int, change: Callable[[Any], Any]) -> None:
    """Changes one constant of a QuantizeLinear; its DequantizeLinear keeps the right one."""
    node = nth(graph, "QuantizeLinear", which)
    tensor = next(tensor for tensor in graph.initializer if tensor.name == node.input[place])
    wrong = np.asarray(change(onnx.numpy_helper.to_array(tensor)))
    graph.initializer.append(onnx.numpy_helper.from_array(wrong, "wrong"))
    node.input[place] = "wrong"


def wrong_scale(graph: onnx.GraphProto, which: int = 0) -> None:
    miswrite(graph, which, 1, lambda scale: scale / np.float32(4))


def wrong_zero_point(graph: onnx.GraphProto, which: int = 0) -> None:
    miswrite(graph, which, 2, lambda zero: np.uint8((int(zero) + 100) % 256))


def dropped_node(graph: onnx.GraphProto) -> None:
    gone = nth(graph, "LayerNormalization", 0)
    for node in graph.node:
        node.input[:] = [gone.input[0] if name == gone.output[0] else name for name in node.input]
    graph.node.remove(gone)


def shuffled_frames(graph: onnx.GraphProto) -> None:
    order = onnx.numpy_helper.from_array(np.array([1, 0, 2, 3]), "order")
    graph.initializer.append(order)
    for node in graph.node:
        node.output[:] = ["unmixed" if name == "features" else name for name in node.output]
    graph.node.append(onnx.helper.make_node("Gather", ["unmixed", "order"], ["features"], axis=1))


FAULTS = [wrong_scale, wrong_zero_point, dropped_node, shuffled_frames]


def tamper(path: Path, change: Callable[[onnx.GraphProto], None]) -> None:
    model = onnx.load(str(path), load_external_data=False)
    change(model.graph)
    path.write_bytes(model.SerializeToString())


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_faults_are_caught(
    fault: Callable[[onnx.GraphProto], None], copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = int8_search.write_int8_graphs

    def faulty(*arguments: Any) -> list[str]:
        names = write(*arguments)
        tamper(arguments[2] / "query-int8.onnx", fault)
        return names

    monkeypatch.setattr(int8_search, "write_int8_graphs", faulty)
    # No choice of float32 products fixes these faults, so the slow ranking is replaced.
    monkeypatch.setattr(int8_search.Int8Search, "_by_noise", lambda self: list(self._weights)[-4:])
    before = {path.name: path.read_bytes() for path in copied.iterdir()}
    with pytest.raises(
        MismatchError, match=r"onnx int8: on 24 clips .* output query/.* in float32"
    ):
        export_model(copied, precision="int8")
    assert {path.name: path.read_bytes() for path in copied.iterdir()} == before
    assert [path.name for path in copied.parent.iterdir()] == [copied.name]


def test_bisect_names_the_node(eighth: Path, tmp_path: Path) -> None:
    assert not any(item.departs for item in bisect(Bundle.open(eighth), "int8"))
    for which in (0, 4):
        bundle = Path(shutil.copytree(eighth, tmp_path / str(which)))
        with bundle_draft(bundle, bundle) as draft:
            path = draft.folder / "query-int8.onnx"
            tamper(path, lambda graph, which=which: wrong_zero_point(graph, which))
        graph = onnx.load(str(bundle / "query-int8.onnx"), load_external_data=False).graph
        query, support = bisect(Bundle.open(bundle), "int8")
        quantised = nth(graph, "QuantizeLinear", which).output[0]
        restored = next(n.output[0] for n in graph.node if quantised in n.input)
        readers = {f"{n.op_type} {n.output[0]}" for n in graph.node if restored in n.input}
        assert query.departs
        assert query.node in readers
        assert not support.departs


SATURATION = """
import sys, numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
print(float(session.run(None, {"x": numpy.full((4, 64), 25.5, numpy.float32)})[0][0, 0]))
"""


@pytest.mark.slow
@pytest.mark.skipif(
    platform.machine() != "x86_64" or shutil.which("qemu-x86_64") is None,
    reason="a CPU without VNNI is emulated by qemu-x86_64 (Debian's qemu-user)",
)
@pytest.mark.parametrize(("largest", "exact"), [(LARGEST_WEIGHT, True), (127, False)])
def test_weights_of_7_bits_never_saturate(largest: int, exact: bool, tmp_path: Path) -> None:
    """A product of the largest numbers on a CPU without VNNI, which adds two products in 16 bits."""
    helper = onnx.helper
    constants = {
        "step": np.float32(0.1), "zero": np.uint8(0), "steps": np.full(16, 0.1, np.float32),
        "weight": np.full((64, 16), largest, np.int8), "zeros": np.zeros(16, np.int8),
        "bias": np.zeros(16, np.int32), "bias_steps": np.full(16, 0.01, np.float32),
    }  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "step", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "step", "zero"], ["a"]),
        helper.make_node("DequantizeLinear", ["weight", "steps", "zeros"], ["b"], axis=1),
        helper.make_node("DequantizeLinear", ["bias", "bias_steps"], ["c"], axis=0),
        helper.make_node("Gemm", ["a", "b", "c"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["m", 64])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["m", 16])],
        [onnx.numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, tmp_path / "g.onnx")
    done = subprocess.run(
        ["qemu-x86_64", "-cpu", "Haswell", sys.executable, "-c", SATURATION, tmp_path / "g.onnx"],
        capture_output=True, text=True, check=True, timeout=250,
    )  # fmt: skip
    wanted = 64 * 255 * largest * 0.01
    assert (abs(float(done.stdout) / wanted - 1) < 1e-5) is exact

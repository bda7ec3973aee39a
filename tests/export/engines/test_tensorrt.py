"""The engine builder, with a stand-in that has TensorRT 10.3's names and with tensorrt_rtx."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from mafsar.cli.wording import worded
from mafsar.errors import (
    InputError,
    MismatchError,
    Placeholder,
    UnavailableError,
    call,
    option,
)
from mafsar.export.engines import add as engines
from mafsar.export.engines import tensorrt
from mafsar.export.engines.add import engine_name
from mafsar.export.engines.errors import error_from_json, error_to_json
from mafsar.export.engines.layers import read_layers
from mafsar.export.engines.tensorrt import BuildRequest, Toolkit, build
from mafsar.export.job import export_model
from mafsar.export.options import EngineOptions, ExportOptions, parse_capability
from mafsar.runtime.engines.bundle import Bundle
from mafsar.runtime.engines.trt_encoder import Device

needs_rtx = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None,
    reason="real engines need tensorrt_rtx: pip install 'mafsar[trt-rtx]'",
)


def request_of(bundle: Path, out: Path, precision: str = "fp32") -> BuildRequest:
    return BuildRequest(
        graph=str(bundle / f"query-{precision}.onnx"),
        fp32_graph=str(bundle / "query-fp32.onnx"),
        out=str(out / "q.engine"),
        precision=precision,
        buckets=(1, 4),
        compute_capability=87,
        workspace_gib=0.5,
        timing_cache=str(out / "timings" / "t"),
        quiet=True,
    )


@pytest.fixture
def toolkit(fake_trt) -> Toolkit:
    return Toolkit("trt", fake_trt.fake_module(fake_trt.FakeCuda()))


def test_tensorrt_10_3_builds_on_its_device(whole, toolkit, tmp_path) -> None:
    request = request_of(whole, tmp_path)
    built = build(request, toolkit, local=87)
    plan = json.loads((tmp_path / "q.engine").read_bytes())
    assert plan["profiles"] == [1, 4]
    assert (built["flavour"], built["version"]) == ("trt", "10.3.0")
    assert built["layers"]["MATRIX_MULTIPLY"] == {"FLOAT": 1}
    assert built["weight_bytes"] == 4 * 4 * 4
    assert built["engine_layers"] == {"PRODUCT": {"FLOAT": 1}}  # as built, on its own device
    assert (tmp_path / "timings" / "t").read_bytes() == b"+"
    build(request, toolkit, local=87)
    assert (tmp_path / "timings" / "t").read_bytes() == b"++"  # the cache of the build before
    with pytest.raises(UnavailableError, match=r"this TensorRT cannot build for SM 8\.7; copy"):
        build(request, toolkit, local=86)


def test_fp32_engines_compute_without_tf32(whole, toolkit, tmp_path, fake_trt, monkeypatch) -> None:
    build(request_of(whole, tmp_path), toolkit, local=87)
    assert json.loads((tmp_path / "q.engine").read_bytes())["flags"] == []
    monkeypatch.setattr(fake_trt.INetworkDefinition, "products", (("HALF", 4),))
    build(request_of(whole, tmp_path, "fp16"), toolkit, local=87)
    flags = json.loads((tmp_path / "q.engine").read_bytes())["flags"]
    assert flags == [fake_trt.BuilderFlag.TF32]


def test_where_contexts_can_be_kept_from_allocating_they_are(
    whole, toolkit, tmp_path, fake_trt, monkeypatch
) -> None:
    """`REQUIRE_USER_ALLOCATION` is tensorrt_rtx's."""
    flags = SimpleNamespace(TF32=fake_trt.BuilderFlag.TF32, REQUIRE_USER_ALLOCATION=26)
    monkeypatch.setattr(toolkit.module, "BuilderFlag", flags)
    build(request_of(whole, tmp_path), toolkit, local=87)
    assert json.loads((tmp_path / "q.engine").read_bytes())["flags"] == [26]


def test_a_refused_profile_is_named(whole, toolkit, tmp_path, fake_trt, monkeypatch) -> None:
    monkeypatch.setattr(fake_trt.IBuilderConfig, "add_optimization_profile", lambda *_: -1)
    with pytest.raises(MismatchError, match=r"does not take a profile of batch 1 .*batch"):
        build(request_of(whole, tmp_path), toolkit, local=87)


def test_an_engine_of_another_precision_fails(whole, toolkit, tmp_path, fake_trt, monkeypatch):
    request = request_of(whole, tmp_path, "fp16")
    network = fake_trt.INetworkDefinition

    def products(*kinds: tuple[str, int]) -> None:
        monkeypatch.setattr(network, "products", kinds)

    products(("FLOAT", 4))
    with pytest.raises(MismatchError, match="matrix products are 1 FLOAT, an fp16 engine needs"):
        build(request, toolkit, local=87)
    products(("HALF", 4), ("FLOAT", 4))
    with pytest.raises(MismatchError, match="matrix products are 1 FLOAT, 1 HALF"):
        build(request, toolkit, local=87)
    products(("HALF", 4))
    assert build(request, toolkit, local=87)["weight_bytes"] == 2 * 4 * 4
    monkeypatch.setattr("mafsar.export.engines.layers.WEIGHT_SHARE", 0.4)
    with pytest.raises(MismatchError, match="must not exceed"):
        build(request, toolkit, local=87)
    products()
    with pytest.raises(MismatchError, match=r"refuses the graph \(an operator that is not known\)"):
        build(request, toolkit, local=87)


def test_an_fp16_graph_that_became_an_fp32_engine_fails(
    whole, toolkit, tmp_path, fake_trt, monkeypatch
) -> None:
    """The graph's matrix products are half precision; the builder made float ones of them."""
    request = request_of(whole, tmp_path, "fp16")
    monkeypatch.setattr(fake_trt.INetworkDefinition, "products", (("HALF", 4), ("HALF", 4)))
    assert build(request, toolkit, local=87)["engine_layers"] == {"PRODUCT": {"HALF": 2}}
    monkeypatch.setattr(fake_trt.Builder, "flaws", {"products": ["Float", "Float"]})
    with pytest.raises(MismatchError, match="engine's matrix products are 2 FLOAT, none is HALF"):
        build(request, toolkit, local=87)
    # Where the inspector gives no types, only the parsed network is checked.
    monkeypatch.setattr(fake_trt.Builder, "flaws", {"detailed": False})
    assert build(request, toolkit, local=87)["engine_layers"] == {}


def test_layers_are_read_in_every_spelling_of_the_inspector() -> None:
    """Spellings that TensorRT 8.5 to 11 print."""
    half, full = "Row major linear FP16 format", "Row major linear FP32"
    layers = [
        {"LayerType": "gemm", "Inputs": [{"Format/Datatype": "Half"}], "TacticName": "sm80_xmma"},
        {"LayerType": "kgen", "Inputs": [{"Datatype": "Half"}], "TacticName": "_gemm_mha_v2_0x1"},
        {"LayerType": "MatrixMultiply", "Inputs": [{"Format/Datatype": full}]},
        {"LayerType": "Reformat", "Inputs": [{"Format/Datatype": half}]},
        {"LayerType": "kgen", "Inputs": [{"Format/Datatype": "BFloat16"}]},
        {"LayerType": "kgen", "Inputs": [{"Datatype": "Int64"}, {"Datatype": "Float"}]},
        {"LayerType": "NoOp", "Inputs": [{"Format/Datatype": "N/A due to dynamic shapes"}]},
        {"LayerType": "Constant", "Inputs": []},
        "names only",
    ]
    assert read_layers(json.dumps({"Layers": layers})) == {
        "PRODUCT": {"FLOAT": 1, "HALF": 2},
        "Reformat": {"HALF": 1},
        "kgen": {"BF16": 1, "FLOAT": 1},
    }
    assert read_layers("{}") == {}


@pytest.fixture
def gpu(fake_trt, monkeypatch) -> None:
    """A machine with a GPU that the stand-in builds for, in this process."""
    cuda = fake_trt.FakeCuda()
    toolkit = Toolkit("trt", fake_trt.fake_module(cuda))
    monkeypatch.setattr(engines, "local_capability", lambda: 87)
    monkeypatch.setattr(Toolkit, "find", classmethod(lambda *_, **__: toolkit))
    monkeypatch.setattr(
        engines,
        "_build_in_child",
        lambda requests, _, local: [build(request, toolkit, local=local) for request in requests],
    )
    device = Device(cuda, 0, "8.7", {"trt": toolkit.module})
    monkeypatch.setattr(Device, "here", classmethod(lambda *_: device))


HERE: dict = {"engine": "trt", "batch": (1, 2, 8), "quiet": True}


@pytest.mark.usefixtures("gpu")
def test_engines_for_this_gpu_are_verified(whole, tmp_path, fake_trt, monkeypatch) -> None:
    copy = Path(shutil.copytree(whole, tmp_path / "b.mafsar"))
    for flaw in ({"factor": -1}, {"wrong_batch": 2}):
        monkeypatch.setattr(fake_trt.Builder, "flaws", flaw)
        with pytest.raises(MismatchError, match="nothing was kept"):
            export_model(copy, **HERE)
        assert "engines" not in Bundle.open(copy).manifest
        assert not (copy / "engines").exists()
    monkeypatch.setattr(fake_trt.Builder, "flaws", {})
    result = export_model(copy, **HERE)
    manifest = Bundle.open(copy).manifest
    assert len(result.artefacts) == 2
    for artefact in result.artefacts:
        report = artefact.verification
        assert (report["verified"], report["against"]) == ("engine", "its fp32 graphs")
        assert report["episodes"] == 2000
        assert report["outputs"]["query/features"]["cosine"] > 0.9999
        entry = manifest["engines"][artefact.name]
        assert entry["verified"] == "engine"
        assert json.loads((copy / artefact.name).with_suffix(".json").read_text()) == entry
        assert manifest["parity"][artefact.name]["accuracy"] == report["accuracy"]
    for artefact in export_model(copy, **HERE, verify=False, overwrite=True).artefacts:
        assert artefact.verification["verified"] == "no"


def test_find_prefers_the_tensorrt_that_can_build_for_the_target(monkeypatch) -> None:
    class Members:
        SM86, SM89 = 0, 1

    modules = {
        "tensorrt": SimpleNamespace(__name__="tensorrt"),
        "tensorrt_rtx": SimpleNamespace(__name__="tensorrt_rtx", ComputeCapability=Members),
    }
    monkeypatch.setattr("mafsar.export.engines.tensorrt.importlib.util.find_spec", modules.get)
    monkeypatch.setattr(
        "mafsar.export.engines.tensorrt.importlib.import_module", modules.__getitem__
    )
    assert Toolkit.find(local=86).flavour == "trt"
    assert Toolkit.find(local=86, wanted=86).flavour == "trt"
    assert Toolkit.find(local=86, wanted=89).flavour == "rtx"
    assert Toolkit.find(local=86, wanted=87).flavour == "trt"  # building then fails with the reason
    assert Toolkit.find(local=None).flavour == "rtx"


def test_options_and_names() -> None:
    assert parse_capability("8.6") == 86
    assert parse_capability("12.0") == 120
    for wrong in ("86", "8.66", "x", "0.1"):
        with pytest.raises(InputError, match=r"must look like 8\.6"):
            parse_capability(wrong)
    for wrong in ((), (8, 1), (1, 1), (0, 4), (1, 5000)):
        with pytest.raises(InputError, match=r"batch=.* must rise"):
            EngineOptions(batch=wrong).check()
    with pytest.raises(
        InputError, match=r"^batch=\(5000,\): batch sizes must rise, from 1 to 1024"
    ):
        export_model(engine="trt", batch=5000)
    with pytest.raises(InputError, match="workspace_gib=0: must be over 0"):
        EngineOptions(workspace_gib=0).check()
    name = engine_name("query", "fp16", (1, 8, 32), "rtx", "1.7.1", 86)
    assert name == "engines/query-fp16-b1.8.32-rtx1.7.1-sm86.engine"
    assert "-b4.4.4-" in engine_name("query", "fp16", (4,), "trt", "10.3.0", 87)


def test_without_tensorrt_the_graphs_are_kept(small, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("mafsar.export.engines.tensorrt.MODULES", {"trt": "no_such_tensorrt"})
    out = tmp_path / "b.mafsar"
    with pytest.raises(
        UnavailableError, match=r'pip install "mafsar\[trt\]" .* or "mafsar\[trt-rtx\]"'
    ):
        export_model(small, out, engine="trt")
    # The device builds its engine from the verified graphs.
    assert Bundle.open(out).precisions() == ["fp32", "fp16"]
    assert not list(out.glob("engines/*"))


def test_a_broken_tensorrt_does_not_hide_a_working_one(tmp_path, monkeypatch) -> None:
    (tmp_path / "broken_trt.py").write_text("raise ImportError('libnvinfer.so.10: cannot open')")
    (tmp_path / "working_trt.py").write_text("__version__ = '1.4'")
    monkeypatch.syspath_prepend(tmp_path)
    for flavours in ({"trt": "broken_trt", "rtx": "working_trt"}, {"trt": "broken_trt"}):
        monkeypatch.setattr(tensorrt, "MODULES", flavours)
        monkeypatch.setattr("mafsar.runtime.engines.trt_encoder.MODULES", flavours)
        if "rtx" in flavours:
            assert Toolkit.find(local=87).flavour == "rtx"
            continue
        with pytest.raises(UnavailableError, match=r"libnvinfer.so.10: cannot open"):
            Toolkit.find(local=87)


def test_a_killed_builder_is_explained(monkeypatch) -> None:
    monkeypatch.setattr(engines.sys, "executable", "/bin/false")
    with pytest.raises(UnavailableError, match="the builder ended with status 1"):
        engines._build_in_child([], "trt", None)
    real = subprocess.run

    def killed(*_, **__):
        return real(["/bin/sh", "-c", "kill -9 $$"], check=False)

    monkeypatch.setattr(engines.subprocess, "run", killed)
    with pytest.raises(UnavailableError, match=r"killed \(SIGKILL\), most likely out of memory"):
        engines._build_in_child([], "trt", None)


def test_a_builder_that_fails_says_why_in_one_line(tmp_path, monkeypatch) -> None:
    def full(_: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tensorrt.Toolkit, "load", full)
    request = tmp_path / "request.json"
    request.write_text(json.dumps({"flavour": "trt", "local": None, "engines": []}))
    assert tensorrt.main([str(request)]) == 1
    answer = json.loads((tmp_path / "request.reply.json").read_text())
    error = error_from_json(answer["error"])
    assert isinstance(error, UnavailableError)
    assert "the builder failed (OSError: [Errno 28] No space left on device)" in str(error)
    assert "\n" not in str(error)


def test_a_timing_cache_that_cannot_be_written_does_not_fail_the_build(tmp_path) -> None:
    class Config:
        def create_timing_cache(self, data: bytes) -> bytes:
            assert data == b""
            return b"made"

        def set_timing_cache(self, *_: object) -> None:
            pass

        def get_timing_cache(self) -> object:
            return self

        def serialize(self) -> bytes:
            return b"timings"

    (tmp_path / "file").write_text("in the way")
    place = tmp_path / "file" / "x.timing"
    tensorrt._load_timing_cache(Config(), place)
    tensorrt._save_timing_cache(Config(), place)
    tensorrt._save_timing_cache(Config(), tmp_path / "x.timing")
    assert (tmp_path / "x.timing").read_bytes() == b"timings"


def test_options_of_engines_are_refused_without_one() -> None:
    for wrong in (
        EngineOptions(batch=(1, 4)),
        EngineOptions(compute_capability="8.7"),
        EngineOptions(workspace_gib=-4),
    ):
        with pytest.raises(InputError, match=r"apply only to TensorRT engines; add engine='trt'"):
            ExportOptions(build=wrong).check()
    ExportOptions(build=EngineOptions(quiet=True)).check()


def test_an_error_keeps_its_parts_between_processes() -> None:
    inner = UnavailableError(option(workspace_gib=0.25), " and a smaller ", option("batch"))
    advice = call("export_model", Placeholder("bundle"), engine="trt")
    error = MismatchError("q.onnx: refused (", inner, "); run: ", advice)
    back = error_from_json(json.loads(json.dumps(error_to_json(error))))
    assert type(back) is MismatchError
    assert str(back) == str(error)
    assert worded(back) == worded(error)
    assert "(--workspace 0.25 and a smaller --batch); run: mafsar export BUNDLE --e" in worded(back)


OPTIONS: dict = {
    "engine": "trt", "precision": "fp16", "batch": (1, 2), "compute_capability": "8.6",
    "quiet": True,
}  # fmt: skip


@needs_rtx
def test_real_engines_are_built_without_a_gpu(whole, tmp_path) -> None:
    import tensorrt_rtx

    copy = Path(shutil.copytree(whole, tmp_path / "b.mafsar"))
    result = export_model(copy, **OPTIONS)
    assert [item.name for item in result.artefacts] == [
        f"engines/{branch}-fp16-b1.2.2-rtx{tensorrt_rtx.__version__}-sm86.engine"
        for branch in ("query", "support")
    ]
    entries = Bundle.open(copy).manifest["engines"]
    for artefact in result.artefacts:
        assert artefact.verification["verified"] == "graph"
        entry = entries[artefact.name]
        assert (copy / artefact.name).stat().st_size == entry["bytes"] > 100_000
        assert set(entry["layers"]["MATRIX_MULTIPLY"]) == {"HALF"}
        assert set(entry["layers"]["NORMALIZATION"]) == {"FLOAT"}
        assert set(entry["layers"]["SOFTMAX"]) == {"FLOAT"}
        assert entry["peak_mb"] > 0
        side_car = (copy / artefact.name).with_suffix(".json")
        assert json.loads(side_car.read_text()) == entry
    with pytest.raises(InputError, match="exists already, for batches of 1,2; add overwrite=True"):
        export_model(copy, **OPTIONS)
    # Graphs made again with the same bytes keep their engines. For changed graphs see
    # `test_engines_of_a_changed_graph_are_removed`.
    export_model(copy, overwrite=True)
    assert set(Bundle.open(copy).manifest["engines"]) == set(entries)


@needs_rtx
@pytest.mark.parametrize("target", ["8.7", "9.0"])
def test_an_unknown_target_names_the_command_to_run(target: str, whole, tmp_path) -> None:
    copy = Path(shutil.copytree(whole, tmp_path / "h.mafsar"))
    line = "export h.mafsar --engine trt --compute-capability"
    done = subprocess.run(
        [sys.executable, "-m", "mafsar", *line.split(), target],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == (
        f"error: this TensorRT cannot build for SM {target}; copy h.mafsar to the device and run: "
        "mafsar export h.mafsar --engine trt\n"
    )
    assert not (copy / "engines").exists()


@needs_rtx
def test_an_fp32_graph_cannot_become_an_fp16_engine(whole, tmp_path) -> None:
    rtx = Toolkit.find(local=None)
    assert {75, 86, 89} <= set(rtx.targets())
    request = replace(request_of(whole, tmp_path), precision="fp16", compute_capability=86)
    with pytest.raises(MismatchError, match=r"matrix products are \d+ FLOAT, an fp16 engine needs"):
        build(request, rtx, local=None)


@needs_rtx
def test_engines_are_built_without_torch(whole, tmp_path) -> None:
    copy = Path(shutil.copytree(whole, tmp_path / "b.mafsar"))
    code = (
        "import sys\n"
        "for name in ('torch', 'onnx', 'onnx_ir', 'onnxscript', 'open_clip', 'torchvision'):\n"
        "    sys.modules[name] = None\n"
        "from mafsar.cli.app import build_app\n"
        f"build_app()(['export', {str(copy)!r}, '--engine', 'trt', '--batch', '1',"
        " '--compute-capability', '8.9'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "building 2 fp32 engines for SM 8.9 with tensorrt_rtx" in done.stderr
    assert len(list((copy / "engines").glob("*-fp32-b1.1.1-rtx*-sm89.engine"))) == 2

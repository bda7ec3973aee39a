"""The TensorRT encoder, with a stand-in that has only the names of TensorRT 10.3."""

from __future__ import annotations

import ctypes
import gc
import importlib.util
import json
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from safetensors.numpy import load_file, save_file

from mafsar.errors import InputError, MismatchError, MissingError, UnavailableError
from mafsar.export.bundle_draft import bundle_draft, describe_file
from mafsar.files import file_sha256
from mafsar.runtime.engines import trt_encoder, trt_engine
from mafsar.runtime.engines.bundle import Bundle
from mafsar.runtime.engines.loading import load_model
from mafsar.runtime.engines.onnx_encoder import OnnxEncoder
from mafsar.runtime.engines.trt_encoder import Device, TrtEncoder
from mafsar.runtime.engines.trt_engine import TrtEngine, plan_batches
from mafsar.runtime.report.describe import describe, describe_bundle

BUCKETS = (1, 4)


@pytest.mark.parametrize(
    ("count", "plan"),
    [
        (1, [(1, 1)]),
        (2, [(1, 1), (1, 1)]),
        (5, [(5, 8)]),
        (8, [(8, 8)]),
        (10, [(8, 8), (1, 1), (1, 1)]),
        (20, [(20, 32)]),
        (70, [(32, 32), (32, 32), (6, 8)]),
    ],
)
def test_clips_are_split_into_batches(count, plan):
    assert plan_batches(count, (1, 8, 32)) == plan


def test_a_batch_is_padded_where_no_size_is_small_enough():
    assert plan_batches(3, (8,)) == [(3, 8)]
    assert plan_batches(9, (8,)) == [(8, 8), (1, 8)]


def add_engine(bundle: Path, fake_trt, branch: str, plan: bytes | None = None, **more) -> Path:
    """Writes an engine for the stand-in and its manifest entry."""
    graph = f"{branch}-fp32.onnx"
    name = f"engines/{branch}-fp32-b1.4.4-trt10.3.0-sm87.engine"
    path = bundle / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(fake_trt.plan_of(bundle / graph, BUCKETS) if plan is None else plan)
    manifest = json.loads((bundle / "bundle.json").read_text())
    entry = {
        "flavour": "trt",
        "version": "10.3.0",
        "compute_capability": "8.7",
        "branch": branch,
        "precision": "fp32",
        "buckets": list(BUCKETS),
        "graph": graph,
        "graph_sha256": manifest["files"][graph]["sha256"],
        "weights": "weights-fp32.bin",
        "weights_sha256": manifest["files"]["weights-fp32.bin"]["sha256"],
        "model_sha256": manifest["weights_sha256"],
        "sha256": file_sha256(path),
        "bytes": path.stat().st_size,
        "verified": "graph",
    } | more
    manifest.setdefault("engines", {})[name] = entry
    (bundle / "bundle.json").write_text(json.dumps(manifest))
    path.with_suffix(".json").write_text(json.dumps(entry))
    return path


@pytest.fixture
def bundle(whole: Path, tmp_path: Path, fake_trt) -> Path:
    copy = Path(shutil.copytree(whole, tmp_path / "b.mafsar"))
    for branch in ("query", "support"):
        add_engine(copy, fake_trt, branch)
    return copy


@pytest.fixture
def device(fake_trt) -> Device:
    cuda = fake_trt.FakeCuda()
    return Device(cuda, 0, "8.7", {"trt": fake_trt.fake_module(cuda)})


def clips(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, 4, 32, 32, 3), np.uint8)


def test_features_equal_the_graphs_at_every_batch(bundle: Path, device: Device) -> None:
    opened = Bundle.open(bundle)
    assert describe_bundle(opened)["engines"] == [
        f"engines/{branch}-fp32-b1.4.4-trt10.3.0-sm87.engine" for branch in ("query", "support")
    ]
    encoder, reference = TrtEncoder(opened, here=device), OnnxEncoder(opened, device="cpu")
    assert (encoder.engine, encoder.device, encoder.precision) == ("trt", "cuda:0", "fp32")
    assert encoder.choice == "engine: trt on cuda:0 (trt10.3.0, fp32, sm87, verified)"
    text = np.random.default_rng(0).standard_normal((11, 64)).astype(np.float32)
    for count in (3, 1, 4, 11, 3):
        frames = clips(count)
        found, wanted = encoder.encode_query(frames), reference.encode_query(frames)
        assert len(found) == count
        np.testing.assert_allclose(found.frames, wanted.frames, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(found.pooled, wanted.pooled, rtol=1e-4, atol=1e-4)
        found = encoder.encode_support(frames, text[:count])
        wanted = reference.encode_support(frames, text[:count])
        np.testing.assert_allclose(found.frames, wanted.frames, rtol=1e-4, atol=1e-4)
    assert device.cuda.launched > 0  # a recorded CUDA graph from the second run on
    kept = [graph for graph in device.cuda.graphs if graph is not None]
    assert len(kept) == 4  # one per branch and batch size
    np.testing.assert_array_equal(encoder.encode_text(["a"]), reference.encode_text(["a"]))
    off = encoder.encode_support(frames, None)
    np.testing.assert_array_equal(off.frames, encoder.encode_query(frames).frames)
    with pytest.raises(InputError, match="frames must be uint8"):
        encoder.encode_query(frames.astype(np.float32))


def test_it_runs_where_cuda_graphs_cannot_be_recorded(bundle: Path, fake_trt) -> None:
    cuda = fake_trt.FakeCuda(records=False)
    plan = (bundle / "engines/query-fp32-b1.4.4-trt10.3.0-sm87.engine").read_bytes()
    engine = TrtEngine(plan, fake_trt.fake_module(cuda), cuda, BUCKETS)
    frames = clips(3)
    first, second = engine.run({"frames": frames}), engine.run({"frames": frames})
    np.testing.assert_array_equal(first["features"], second["features"])
    assert cuda.launched == 0
    engine.close()
    assert cuda.buffers == {}


def test_a_refused_recording_does_not_fail_the_first_call(bundle: Path, fake_trt) -> None:
    cuda = fake_trt.FakeCuda()
    plan = fake_trt.plan_of(bundle / "query-fp32.onnx", BUCKETS, no_capture=True)
    engine = TrtEngine(plan, fake_trt.fake_module(cuda), cuda, BUCKETS)
    frames = clips(3)
    first, second = engine.run({"frames": frames}), engine.run({"frames": frames})
    np.testing.assert_array_equal(first["features"], second["features"])
    assert cuda.launched == 0
    assert cuda.graphs == [None]  # what was recorded up to the refusal is destroyed
    assert cuda.recording is None


def test_what_says_that_it_cannot_be_recorded_is_not_tried(
    bundle: Path, fake_trt, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda = fake_trt.FakeCuda()
    plan = (bundle / "engines/query-fp32-b1.4.4-trt10.3.0-sm87.engine").read_bytes()
    engine = TrtEngine(plan, fake_trt.fake_module(cuda), cuda, BUCKETS)
    # Of tensorrt_rtx; TensorRT 10.3 has no such name.
    context = fake_trt.IExecutionContext
    monkeypatch.setattr(context, "is_stream_capturable", lambda *_: False, raising=False)
    engine.run({"frames": clips(3)})
    assert cuda.graphs == []


def test_everything_is_given_back_and_each_thread_has_the_device(bundle: Path, fake_trt) -> None:
    cuda = fake_trt.FakeCuda()
    plan = (bundle / "engines/query-fp32-b1.4.4-trt10.3.0-sm87.engine").read_bytes()
    engine = TrtEngine(plan, fake_trt.fake_module(cuda), cuda, BUCKETS)
    with ThreadPoolExecutor(1) as pool:
        wanted = pool.submit(engine.run, {"frames": clips(1)}).result()
    engine.run({"frames": clips(4)})
    assert len(cuda.activated) == 2
    assert cuda.streams == 2
    engine.close()
    assert (cuda.buffers, cuda.streams, cuda.graphs) == ({}, 0, [None, None])
    found = engine.run({"frames": clips(1)})
    np.testing.assert_array_equal(found["features"], wanted["features"])


def test_an_engine_first_used_by_another_thread_is_made_on_its_device(
    bundle: Path, device: Device
) -> None:
    """The stand-in refuses memory, streams, engines and contexts on a thread without the device."""
    encoder = TrtEncoder(Bundle.open(bundle), here=device)  # the probe runs here
    again = TrtEncoder(Bundle.open(bundle), here=device)  # verified: loads nothing yet
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(again.encode_query, clips(3)).result()
    np.testing.assert_array_equal(found.frames, encoder.encode_query(clips(3)).frames)


def test_an_encoder_that_is_dropped_gives_everything_back(bundle: Path, device: Device) -> None:
    encoder = TrtEncoder(Bundle.open(bundle), here=device)
    encoder.encode_query(clips(3))
    assert device.cuda.buffers
    del encoder
    gc.collect()
    assert (device.cuda.buffers, device.cuda.streams) == ({}, 0)
    assert not any(device.cuda.graphs)


def test_a_context_that_cannot_be_made_leaves_nothing(bundle: Path, fake_trt) -> None:
    cuda = fake_trt.FakeCuda()
    plan = fake_trt.plan_of(bundle / "query-fp32.onnx", BUCKETS, full=True)
    engine = TrtEngine(plan, fake_trt.fake_module(cuda), cuda, BUCKETS)
    with pytest.raises(UnavailableError, match="no memory for a context of batch 4"):
        engine.run({"frames": clips(4)})
    assert (cuda.buffers, cuda.streams) == ({}, 0)


def test_batch_sizes_and_branches_share_one_block_of_memory(bundle: Path, device: Device) -> None:
    """A block of 1000 bytes a clip: 4000 for the largest profile, not 1000 + 4000 for each branch."""
    encoder = TrtEncoder(Bundle.open(bundle), here=device)
    reference = OnnxEncoder(encoder.bundle, device="cpu")
    text = np.random.default_rng(0).standard_normal((4, 64)).astype(np.float32)
    block = encoder._scratch
    encoder._engines.clear()  # what the probe has used
    block.free()
    used = set(device.cuda.buffers)
    for count, size in ((1, 1000), (1, 1000), (4, 4000), (1, 4000), (1, 4000)):
        frames = clips(count)
        launched = device.cuda.launched
        np.testing.assert_array_equal(
            encoder.encode_query(frames).frames, encoder.encode_query(frames).frames
        )
        found = encoder.encode_support(frames, text[:count])
        wanted = reference.encode_support(frames, text[:count])
        np.testing.assert_allclose(found.frames, wanted.frames, rtol=1e-4, atol=1e-4)
        assert block.size_bytes == size
        held = [memory for memory in device.cuda.buffers if memory not in used]
        sizes = [ctypes.sizeof(device.cuda.buffers[memory]) for memory in held]
        assert sizes.count(1000) + sizes.count(4000) == 1
        assert device.cuda.launched > launched  # recorded again after the block has moved
    assert encoder.device_bytes > 4000 + sum(
        entry["bytes"] for entry in encoder.bundle.manifest["engines"].values()
    )


def test_runs_of_several_threads_take_turns(bundle: Path, device: Device) -> None:
    encoder = TrtEncoder(Bundle.open(bundle), here=device)
    frames = [clips(count) for count in (1, 4, 3, 4, 1, 2)]
    wanted = [encoder.encode_query(each).frames for each in frames]
    with ThreadPoolExecutor(4) as pool:
        found = [each.frames for each in pool.map(encoder.encode_query, frames)]
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one, other)


def test_tensorrt_rtx_is_recorded_with_its_specialised_kernels(
    bundle: Path, fake_trt, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names of tensorrt_rtx, checked against the module where it is installed."""
    cuda = fake_trt.FakeCuda()
    module = fake_trt.fake_module(cuda)
    strategies = SimpleNamespace(EAGER="eager", LAZY="lazy")
    monkeypatch.setattr(
        module, "DynamicShapesKernelSpecializationStrategy", strategies, raising=False
    )
    made = []

    class Config:
        dynamic_shapes_kernel_specialization_strategy = "lazy"

        def set_execution_context_allocation_strategy(self, strategy: object) -> None:
            self.strategy = strategy

    def create(self: object, config: Config) -> object:
        made.append(config)
        return fake_trt.IExecutionContext(self)

    engine_class = fake_trt.ICudaEngine
    monkeypatch.setattr(engine_class, "create_runtime_config", lambda _: Config(), raising=False)
    monkeypatch.setattr(engine_class, "create_execution_context", create)
    plan = (bundle / "engines/query-fp32-b1.4.4-trt10.3.0-sm87.engine").read_bytes()
    TrtEngine(plan, module, cuda, BUCKETS).run({"frames": clips(1)})
    (config,) = made
    assert config.dynamic_shapes_kernel_specialization_strategy == "eager"
    assert config.strategy == module.ExecutionContextAllocationStrategy.USER_MANAGED
    if importlib.util.find_spec("tensorrt_rtx") is not None:
        rtx = pytest.importorskip("tensorrt_rtx")
        assert rtx.DynamicShapesKernelSpecializationStrategy.EAGER
        for name in (*vars(Config), "dynamic_shapes_kernel_specialization_strategy"):
            assert name.startswith("_") or hasattr(rtx.IRuntimeConfig, name)
        assert hasattr(rtx.ICudaEngine, "create_runtime_config")
        for name in ("set_device_memory", "is_stream_capturable"):
            assert hasattr(rtx.IExecutionContext, name)


def test_bfloat16_tensors_are_float32_outside() -> None:
    class Host:
        def __init__(self) -> None:
            self.kept: list[object] = []

        def allocate(self, size: int) -> int:
            self.kept.append((ctypes.c_uint8 * size)())
            return ctypes.addressof(self.kept[-1])

        allocate_pinned = allocate

    buffer = trt_engine._Buffer(Host(), (3, 2), "BF16")
    values = np.array([[1.0, -2.5], [1 + 2**-8, 1 + 3 * 2**-8]], np.float32)
    buffer.fill(values)
    # Eight bits of mantissa; halves go to the even neighbour.
    wanted = [[1.0, -2.5], [1.0, 1 + 2**-6], [0.0, 0.0]]
    np.testing.assert_array_equal(buffer.rows(3), np.array(wanted, np.float32))


def test_another_device_runs_the_probe_again(bundle: Path, device: Device) -> None:
    """A bundle that one board verified is copied to another with the same compute capability."""
    car = bundle / "engines/query-fp32-b1.4.4-trt10.3.0-sm87.json"
    for name in ("AGX Orin", "Orin Nano"):
        TrtEncoder(Bundle.open(bundle), here=replace(device, name=name))
        assert json.loads(car.read_text())["verified_on"] == name


@pytest.mark.parametrize("buckets", [(1,), (8,), (1, 4), (1, 32), (1, 64), (1, 8, 32), (4, 16)])
def test_the_probe_covers_every_batch_size_and_padding(buckets: tuple[int, ...]) -> None:
    runs = set()
    for batch in trt_encoder._probe_batches(buckets):
        clips = max(batch, 16)  # the probe has 16 and is repeated
        for start in range(0, clips, batch):
            runs |= set(plan_batches(min(batch, clips - start), buckets))
    assert {bucket for _, bucket in runs} == set(buckets)
    assert buckets == (1,) or any(taken < bucket for taken, bucket in runs)


def test_the_engine_with_the_largest_batch_is_chosen(bundle: Path, device: Device) -> None:
    path = bundle / "bundle.json"
    manifest = json.loads(path.read_text())
    large = manifest["engines"]
    small = {
        name.replace("b1.4.4", "b1.1.1"): entry | {"buckets": [1]} for name, entry in large.items()
    }
    for both in (small | large, large | small):
        path.write_text(json.dumps(manifest | {"engines": both}))
        for name in both:
            for suffix in (".engine", ".json"):
                wanted = (bundle / name).with_suffix(suffix)
                if not wanted.exists():
                    source = bundle / name.replace("b1.1.1", "b1.4.4")
                    shutil.copy(source.with_suffix(suffix), wanted)
        names = TrtEncoder(Bundle.open(bundle), here=device)._names
        assert set(names.values()) == set(large)


def test_engines_of_a_changed_graph_are_removed(bundle: Path) -> None:
    with bundle_draft(bundle, bundle) as draft:
        graph = onnx.load(draft.folder / "query-fp32.onnx", load_external_data=False)
        graph.doc_string = "another"
        onnx.save(graph, draft.folder / "query-fp32.onnx")
    (left,) = Bundle.open(bundle).manifest["engines"]
    assert left.startswith("engines/support-")
    stem = left.removesuffix(".engine").removeprefix("engines/")
    assert {path.name for path in (bundle / "engines").iterdir()} == {
        f"{stem}.engine",
        f"{stem}.json",
    }


def test_the_probe_runs_once_per_device(bundle: Path, device: Device, fake_trt) -> None:
    TrtEncoder(Bundle.open(bundle), here=device)
    car = bundle / "engines/query-fp32-b1.4.4-trt10.3.0-sm87.json"
    assert json.loads(car.read_text())["verified"] == "engine"
    (bundle / "probe.safetensors").unlink()
    manifest = json.loads((bundle / "bundle.json").read_text())
    del manifest["files"]["probe.safetensors"]
    (bundle / "bundle.json").write_text(json.dumps(manifest))
    TrtEncoder(Bundle.open(bundle), here=device)  # needs no probe now
    add_engine(bundle, fake_trt, "query")
    with pytest.raises(MissingError, match=r"has no probe\.safetensors"):
        TrtEncoder(Bundle.open(bundle), here=device)


def test_an_engine_with_wrong_features_is_refused(bundle: Path, device: Device, fake_trt) -> None:
    wrong = fake_trt.plan_of(bundle / "query-fp32.onnx", BUCKETS, factor=-1)
    path = add_engine(bundle, fake_trt, "query", wrong)
    with pytest.raises(MismatchError, match="does not give the reference's features"):
        TrtEncoder(Bundle.open(bundle), here=device)
    assert json.loads(path.with_suffix(".json").read_text())["verified"] == "graph"


def test_a_lower_limit_of_the_export_applies_on_the_device(bundle: Path, device: Device) -> None:
    manifest = json.loads((bundle / "bundle.json").read_text())
    probe = dict(load_file(bundle / "probe.safetensors"))
    noise = np.random.default_rng(0).normal(size=probe["query/features"].shape)
    spread = probe["query/features"].std()
    probe["query/features"] = (probe["query/features"] + 0.1 * spread * noise).astype(np.float32)
    save_file(probe, bundle / "probe.safetensors")
    manifest["files"]["probe.safetensors"] = describe_file(bundle / "probe.safetensors")
    (bundle / "bundle.json").write_text(json.dumps(manifest))
    again = r"engine='trt', precision='fp32', batch=\[1, 4\], overwrite=True"
    with pytest.raises(MismatchError, match=again):
        TrtEncoder(Bundle.open(bundle), here=device)
    for entry in manifest["engines"].values():
        entry["min_cosine"] = 0.9
    (bundle / "bundle.json").write_text(json.dumps(manifest))
    TrtEncoder(Bundle.open(bundle), here=device)


def test_describe_an_engine(bundle: Path, device: Device) -> None:
    path = bundle / "engines/query-fp32-b1.4.4-trt10.3.0-sm87.engine"
    TrtEncoder(Bundle.open(bundle), here=device)
    facts = describe(path)
    assert (facts["kind"], facts["flavour"], facts["version"]) == ("engine", "trt", "10.3.0")
    assert (facts["buckets"], facts["verified"]) == ([1, 4], "engine")
    verified = describe(bundle)["verified"]
    assert verified["onnx-fp16"] == "yes"
    assert verified[f"engines/{path.name}"] == "engine"
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(MismatchError, match="sha256 differs"):
        describe(path)
    path.with_suffix(".json").unlink()
    with pytest.raises(MissingError, match="missing beside the engine"):
        describe(path)


def test_a_broken_tensorrt_does_not_stop_auto(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_trt.py").write_text("raise ImportError('libnvinfer.so.10: cannot open')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(trt_encoder, "MODULES", {"trt": "broken_trt"})
    monkeypatch.setattr(trt_encoder, "compute_capability", lambda *_: "8.7")
    said = r"broken_trt is installed but cannot be loaded \(libnvinfer.so.10: cannot open\)"
    with pytest.raises(UnavailableError, match=said):
        Device.here(0)
    manifest = bundle / "bundle.json"
    document = json.loads(manifest.read_text())
    made_up = {"flavour": "trt", "version": "10", "sha256": "0", "bytes": 1, "graph": "g"}
    made_up |= {"branch": "query", "precision": "fp32", "compute_capability": "8.7"}
    keys = ("graph_sha256", "weights", "weights_sha256", "model_sha256")
    document["engines"] = {
        "engines/a.engine": made_up | dict.fromkeys(keys, "0") | {"buckets": [1]}
    }
    manifest.write_text(json.dumps(document))
    monkeypatch.setattr(trt_encoder, "has_cuda_driver", lambda: True)
    encoder = load_model(bundle, device="auto")
    assert encoder.engine == "onnx"
    assert re.search(said, encoder.choice)


def test_foreign_engines_are_refused(bundle: Path, device: Device, fake_trt) -> None:
    opened = Bundle.open(bundle)

    def refused(kind: type[Exception], words: str, **changes: object) -> None:
        add_engine(bundle, fake_trt, "query", **changes)  # type: ignore[arg-type]
        with pytest.raises(kind, match=words):
            TrtEncoder(Bundle.open(bundle), here=device)
        add_engine(bundle, fake_trt, "query")

    none = r"has no fp32 query engine for sm87/trt10\.3\.0 .*; mafsar.export_model.*engine='trt'"
    refused(UnavailableError, none, flavour="rtx")
    refused(UnavailableError, none, version="10.4.0")
    refused(UnavailableError, none, compute_capability="8.6")
    refused(MismatchError, "sha256 differs from the manifest's", sha256="0" * 64)
    refused(MismatchError, r"built from another query-fp32\.onnx", graph_sha256="0" * 64)
    refused(MismatchError, "built for another model", model_sha256="0" * 64)
    refused(MismatchError, "built for another GPU or version", plan=b"no plan")
    with pytest.raises(UnavailableError, match="has no fp16 query engine"):
        TrtEncoder(opened, here=device, precision="fp16")
    with pytest.raises(InputError, match="device='cpu' needs engine='onnx'"):
        TrtEncoder(opened, here=device, device="cpu")
    (bundle / "engines/query-fp32-b1.4.4-trt10.3.0-sm87.engine").unlink()
    with pytest.raises(MissingError, match="missing from the bundle"):
        TrtEncoder(opened, here=device)


@pytest.mark.parametrize(
    ("flaw", "words"), [("broken", "could not enqueue"), ("full", "no memory for a context")]
)
def test_failures_of_tensorrt_are_reported(
    flaw: str, words: str, bundle: Path, device: Device, fake_trt
) -> None:
    plan = fake_trt.plan_of(bundle / "query-fp32.onnx", BUCKETS, **{flaw: True})
    add_engine(bundle, fake_trt, "query", plan)
    with pytest.raises(UnavailableError, match=words):
        TrtEncoder(Bundle.open(bundle), here=device)


def test_without_a_gpu_the_error_says_so(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mafsar.runtime.engines.trt_encoder.has_cuda_driver", lambda: False)
    with pytest.raises(UnavailableError, match=r"no GPU 0 with a CUDA driver here; use engine='o"):
        load_model(bundle, engine="trt")
    assert load_model(bundle).engine == "onnx"

"""`export_model` as a whole: what it adds, what it refuses, and which planted faults it finds."""

from __future__ import annotations

import dataclasses
import errno
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from mafsar.errors import InputError, MafsarError, MismatchError, MissingError
from mafsar.export import job
from mafsar.export.bundle_draft import bundle_draft
from mafsar.export.graphs import half
from mafsar.export.job import export_model
from mafsar.export.model_source import ModelSource
from mafsar.model.network import MafsarNetwork
from mafsar.runtime.engines.bundle import Bundle
from mafsar.runtime.engines.loading import load_model


def weights_of(network: MafsarNetwork) -> str:
    from mafsar.model.weights import weights_sha256

    return weights_sha256(network)


@pytest.fixture
def from_torch(
    monkeypatch: pytest.MonkeyPatch,
    make_network: Callable[..., MafsarNetwork],
    tokenizer: Path,
    small: Path,
) -> MafsarNetwork:
    """Makes every model name mean the small network, whose graphs are traced once for all tests."""
    network = make_network()
    monkeypatch.setattr(
        "mafsar.export.graphs.network_bundle.open_network", lambda *_, **__: (network, {})
    )
    monkeypatch.setattr(
        "mafsar.export.graphs.network_bundle.write_tokenizer",
        lambda _, path: shutil.copy(tokenizer, path),
    )
    monkeypatch.setattr(
        "mafsar.export.graphs.network_bundle.export_bundle",
        lambda _, __, out, **___: shutil.copytree(small, out),
    )
    return network


def test_a_bundle_gets_its_fp16_graphs_and_probe(bundle_copy: Path) -> None:
    before = {p.name: p.read_bytes() for p in bundle_copy.iterdir()}
    steps: list[str] = []
    result = export_model(bundle_copy, say=steps.append)
    assert result.path == bundle_copy
    (artefact,) = result.artefacts
    assert artefact.name == "onnx-fp16"
    assert any("verifying onnx fp16" in step for step in steps)
    bundle = Bundle.open(bundle_copy)
    assert bundle.precisions() == ["fp32", "fp16"]
    for name, data in before.items():
        if name != "bundle.json":
            assert (bundle_copy / name).read_bytes() == data
    report = bundle.manifest["parity"]["onnx-fp16"]
    assert report["verified"] == "yes"
    assert report["episodes"] == 2000
    assert report["made_by"]["numpy"] == np.__version__
    assert set(report["outputs"]) == {
        f"{branch}/{name}" for branch in ("query", "support") for name in ("features", "pooled")
    }
    for output in report["outputs"].values():
        assert 0.9999 < output["centred_cosine"] <= output["cosine"] + 1e-7
        assert output["max_error"] > 0
    assert [path.name for path in bundle_copy.parent.iterdir()] == [bundle_copy.name]
    encoder = load_model(bundle_copy, precision="fp16", device="cpu")
    assert encoder.precision == "fp16"
    frames = np.random.default_rng(0).integers(0, 256, (2, 4, 32, 32, 3), np.uint8)
    exact = load_model(bundle_copy, device="cpu").encode_query(frames)
    error = np.abs(encoder.encode_query(frames).frames - exact.frames).max()
    assert 0 < error < 0.02 * np.abs(exact.frames).max()


def test_an_older_bundle_gets_its_missing_entries(bundle_copy: Path) -> None:
    manifest = json.loads((bundle_copy / "bundle.json").read_text())
    wanted = {name: manifest.pop(name) for name in ("temporal", "thresholds")}
    (bundle_copy / "bundle.json").write_text(json.dumps(manifest))
    with bundle_draft(bundle_copy, bundle_copy):
        pass
    found = Bundle.open(bundle_copy).manifest
    assert {name: found[name] for name in wanted} == wanted


def test_the_probe_holds_torch_s_features_of_its_clips(
    from_torch: MafsarNetwork, tmp_path: Path
) -> None:
    from safetensors.numpy import load_file

    network = from_torch
    result = export_model("any", tmp_path / "new.mafsar")
    assert [item.name for item in result.artefacts] == ["onnx-fp32", "onnx-fp16"]
    bundle = Bundle.open(tmp_path / "new.mafsar")
    assert bundle.spec.weights_sha256 == weights_of(network)
    assert bundle.manifest["parity"]["onnx-fp32"]["against"] == "torch fp32"
    assert "text/embedding" in bundle.manifest["parity"]["onnx-fp32"]["outputs"]
    probe = load_file(tmp_path / "new.mafsar" / "probe.safetensors")
    assert probe["frames"].shape == (16, 4, 32, 32, 3)
    assert probe["frames"].dtype == np.uint8
    exact = network.double()
    with torch.no_grad():
        frames = torch.from_numpy(probe["frames"])
        text = torch.from_numpy(probe["class_text"][probe["owners"]]).double()
        query = exact.encode_query(frames)[0].numpy()
        support, pooled = (x.numpy() for x in exact.encode_support(frames, text))
    assert np.abs(probe["query/features"] - query).max() < 1e-3
    assert np.abs(probe["support/features"] - support).max() < 1e-3
    assert np.abs(probe["support/pooled"] - pooled).max() < 1e-3
    assert probe["support/features"].dtype == np.float32


def test_adding_and_overwriting(bundle_copy: Path, tmp_path: Path, small: Path) -> None:
    out = tmp_path / "b.mafsar"
    export_model(bundle_copy, out)
    first = (out / "query-fp16.onnx").read_bytes()
    with pytest.raises(InputError, match="has these graphs already; add overwrite=True"):
        export_model(bundle_copy, out)
    (out / "weights-fp16.bin").write_bytes(b"damaged")
    with pytest.raises(MismatchError, match=r"weights-fp16\.bin: 7 bytes.*verwrite"):
        export_model(bundle_copy, out)
    export_model(bundle_copy, out, overwrite=True)
    assert Bundle.open(out).precisions() == ["fp32", "fp16"]
    (out / "bundle.json").write_text("{")
    export_model(bundle_copy, out, overwrite=True)
    assert (out / "query-fp16.onnx").read_bytes() == first
    manifest = json.loads((out / "bundle.json").read_text())
    manifest["weights_sha256"] = "0" * 64
    (out / "bundle.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="holds another model"):
        export_model(bundle_copy, out)
    export_model(bundle_copy, out, overwrite=True)
    assert Bundle.open(out).spec.weights_sha256 == Bundle.open(small).spec.weights_sha256


def test_a_complete_bundle_is_copied(bundle_copy: Path, tmp_path: Path) -> None:
    export_model(bundle_copy)
    out = tmp_path / "another.mafsar"
    assert export_model(bundle_copy, out).artefacts == ()
    assert Bundle.open(out).manifest == Bundle.open(bundle_copy).manifest
    advice = r"made from the model itself, .*: mafsar.export_model\(model, out='"
    with pytest.raises(InputError, match=advice):
        export_model(out, precision="fp32", overwrite=True)


def test_other_frames_are_another_model(from_torch: MafsarNetwork, tmp_path: Path) -> None:
    out = tmp_path / "b.mafsar"
    export_model("any", out)
    with pytest.raises(InputError, match="has these graphs already"):
        export_model("any", out)
    from_torch.config = dataclasses.replace(from_torch.config, frames=2)
    with pytest.raises(
        InputError, match=r"holds .* with other frames; choose another out, or add overwrite=True"
    ):
        export_model("any", out)


@pytest.mark.usefixtures("from_torch")
def test_int8_graphs_are_removed_when_their_fp32_graphs_change(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "b.mafsar"
    export_model("any", out)
    export_model("any", out, precision="int8")
    record = Bundle.open(out).manifest["parity"]["onnx-int8"]
    export_model("any", out, overwrite=True)
    again = Bundle.open(out)
    assert again.precisions() == ["fp32", "fp16", "int8"]
    assert again.manifest["parity"]["onnx-int8"] == record

    def changed(_: object, __: object, path: Path, **___: object) -> None:
        shutil.copytree(small, path)
        graph = onnx.load(path / "query-fp32.onnx", load_external_data=False)
        graph.doc_string = "made by another torch"
        onnx.save(graph, path / "query-fp32.onnx")
        manifest = json.loads((path / "bundle.json").read_text())
        manifest["files"]["query-fp32.onnx"] = {"sha256": "changed", "bytes": 0}
        (path / "bundle.json").write_text(json.dumps(manifest))

    monkeypatch.setattr("mafsar.export.graphs.network_bundle.export_bundle", changed)
    export_model("any", out, overwrite=True)
    fresh = Bundle.open(out)
    assert fresh.precisions() == ["fp32", "fp16"]
    assert not list(out.glob("*int8*"))
    assert "onnx-int8" not in fresh.manifest["parity"]


def test_files_of_a_file_manager_are_ignored(bundle_copy: Path) -> None:
    (bundle_copy / ".DS_Store").write_bytes(b"seen")
    export_model(bundle_copy)
    (bundle_copy / ".DS_Store").write_bytes(b"seen again")
    assert ".DS_Store" not in Bundle.open(bundle_copy).manifest["files"]


def test_a_link_to_a_bundle_stays_a_link(
    bundle_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = tmp_path / "link.mafsar"
    link.symlink_to(bundle_copy)
    export_model(link)
    assert link.is_symlink()
    assert Bundle.open(bundle_copy).precisions() == ["fp32", "fp16"]
    monkeypatch.chdir(bundle_copy)
    export_model(".", overwrite=True)
    assert Bundle.open(bundle_copy).precisions() == ["fp32", "fp16"]


def test_a_folder_that_cannot_be_written_is_reported(
    bundle_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(job, "locked", refuse)
    with pytest.raises(
        InputError, match=r"cannot be written \(Read-only file system\); choose another out"
    ):
        export_model(bundle_copy)


def test_an_export_without_verification_is_marked(bundle_copy: Path) -> None:
    export_model(bundle_copy, verify=False)
    assert Bundle.open(bundle_copy).manifest["parity"]["onnx-fp16"]["verified"] == "no"


def test_verification_uses_the_user_s_clips_and_limit(bundle_copy: Path, tmp_path: Path) -> None:
    from mafsar.synthetic import render_video

    for name in ("wave_hand", "open_arms", "tip_over"):
        for index in range(2):
            (tmp_path / "data" / name).mkdir(parents=True, exist_ok=True)
            path = tmp_path / "data" / name / f"{index}.mp4"
            render_video(name, path, seed=index, seconds=0.5, size=64)
    data = tmp_path / "data"
    report = export_model(bundle_copy, data=data).artefacts[0].verification
    assert (report["data"], report["clips"]) == (str(data), 6)
    before = sorted(path.name for path in bundle_copy.iterdir())
    with pytest.raises(MismatchError, match="at least 1 wanted; nothing was kept"):
        export_model(bundle_copy, data=data, min_cosine=1.0, overwrite=True)
    assert sorted(path.name for path in bundle_copy.iterdir()) == before
    (tmp_path / "data" / "tip_over" / "1.mp4").unlink()
    with pytest.raises(InputError, match="class tip_over has one clip"):
        export_model(bundle_copy, data=data, overwrite=True)


def test_wrong_options_are_reported(bundle_copy: Path, tmp_path: Path) -> None:
    def fails(kind: type[MafsarError], words: str, *args: object, **options: object) -> None:
        with pytest.raises(kind, match=words):
            export_model(*args, **options)  # type: ignore[arg-type]

    fails(
        InputError,
        "precision must be one of fp32, fp16, int8, got 'int4'",
        bundle_copy,
        precision="int4",
    )
    fails(InputError, "belong to the bundle", bundle_copy, frames=16)
    fails(InputError, "min_cosine=2: must be over 0", bundle_copy, min_cosine=2.0)
    fails(MissingError, "no such bundle", str(tmp_path / "none.mafsar"))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine").write_text("kept")
    fails(
        InputError,
        "not a bundle; choose another out",
        bundle_copy,
        tmp_path / "folder",
        overwrite=True,
    )
    assert (tmp_path / "folder" / "mine").read_text() == "kept"
    fails(InputError, "unknown model", "vit-b-99")


def tamper(path: Path, change: Callable[[onnx.GraphProto], None]) -> None:
    model = onnx.load(str(path), load_external_data=False)
    change(model.graph)
    path.write_bytes(model.SerializeToString())


def swap_height_and_width(graph: onnx.GraphProto) -> None:
    node = next(
        node
        for node in graph.node
        if node.op_type == "Transpose" and list(node.attribute[0].ints) == [0, 1, 4, 2, 3]
    )
    node.attribute[0].ints[:] = [0, 1, 4, 3, 2]


def drop_text_token(graph: onnx.GraphProto) -> None:
    zero = onnx.helper.make_tensor("nothing", onnx.TensorProto.FLOAT, [1], [0.0])
    graph.initializer.append(zero)
    for node in graph.node:
        node.input[:] = ["silent" if name == "text" else name for name in node.input]
    graph.node.insert(0, onnx.helper.make_node("Mul", ["text", "nothing"], ["silent"]))


def shuffle_frames(graph: onnx.GraphProto) -> None:
    order = onnx.helper.make_tensor("order", onnx.TensorProto.INT64, [4], [1, 0, 2, 3])
    graph.initializer.append(order)
    for node in graph.node:
        node.output[:] = ["unmixed" if name == "features" else name for name in node.output]
    graph.node.append(onnx.helper.make_node("Gather", ["unmixed", "order"], ["features"], axis=1))


def swap_clips(graph: onnx.GraphProto) -> None:
    """Reverses the rows of a batch."""
    for name, value in (("ends", -1), ("starts", -(2**60)), ("zero", 0), ("back", -1)):
        tensor = onnx.helper.make_tensor(name, onnx.TensorProto.INT64, [1], [value])
        graph.initializer.append(tensor)
    for node in graph.node:
        node.output[:] = ["ordered" if name == "pooled" else name for name in node.output]
    inputs = ["ordered", "ends", "starts", "zero", "back"]
    graph.node.append(onnx.helper.make_node("Slice", inputs, ["pooled"]))


@pytest.mark.parametrize(
    ("branch", "fault", "output"),
    [
        ("query", swap_height_and_width, "query/"),
        ("support", drop_text_token, "support/"),
        ("query", shuffle_frames, "query/features"),
        ("support", swap_clips, "support/pooled"),
    ],
)
def test_planted_faults_are_caught(
    branch: str,
    fault: Callable[[onnx.GraphProto], None],
    output: str,
    bundle_copy: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write = half.write_half_graphs

    def faulty(source: Path, branches: tuple[str, ...], folder: Path) -> list[str]:
        names = write(source, branches, folder)
        tamper(folder / f"{branch}-fp16.onnx", fault)
        return names

    monkeypatch.setattr(half, "write_half_graphs", faulty)
    before = {path.name: path.read_bytes() for path in bundle_copy.iterdir()}
    with pytest.raises(MismatchError, match=f"onnx fp16: on 24 clips .* output {output}"):
        export_model(bundle_copy)
    assert {path.name: path.read_bytes() for path in bundle_copy.iterdir()} == before
    assert [path.name for path in bundle_copy.parent.iterdir()] == [bundle_copy.name]


def test_a_fault_in_fp32_is_caught_too(
    from_torch: MafsarNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mafsar.export.graphs import network_bundle as exporter

    assert from_torch.config.name == "small"
    write = exporter.export_bundle

    def faulty(network: MafsarNetwork, tokenizer: Path, out: Path, **options: object) -> Path:
        path = write(network, tokenizer, out, **options)  # type: ignore[arg-type]
        tamper(path / "query-fp32.onnx", swap_height_and_width)
        return path

    monkeypatch.setattr(exporter, "export_bundle", faulty)
    with pytest.raises(MismatchError, match=r"onnx fp32: .* output query/"):
        export_model("any", tmp_path / "new.mafsar")
    assert list(tmp_path.iterdir()) == []


def test_an_overflow_of_half_is_caught(bundle_copy: Path) -> None:
    """Values beyond 65504 inside the graph only: on a CPU, in float32, the outputs are correct."""
    import onnx_ir as ir

    model = ir.load(bundle_copy / "query-fp32.onnx")
    hidden = 4 * 96

    def reads(shape: tuple[int, ...]) -> Iterator[ir.Node]:
        for node in model.graph:
            last = node.inputs[-1]
            if last is not None and last.const_value is not None and last.shape == shape:
                yield node

    up, down = next(reads((hidden,))), next(reads((hidden, 96)))
    for node, index, factor in ((up.inputs[0].producer(), 1, 4e4), (up, 1, 4e4), (down, 1, 1e-4)):
        value = node.inputs[index]
        name = f"{value.name}_scaled"
        scaled = (value.const_value.numpy() * factor).astype(np.float32)
        twin = ir.Value(name=name, const_value=ir.tensor(scaled, name=name))
        model.graph.register_initializer(twin)
        node.replace_input_with(index, twin)
    with bundle_draft(bundle_copy, bundle_copy) as draft:
        ir.save(model, draft.folder / "query-fp32.onnx")
    with pytest.raises(MismatchError, match=r"onnx fp16: .* query .* overflows half precision"):
        export_model(bundle_copy)
    assert Bundle.open(bundle_copy).precisions() == ["fp32"]


def test_default_output(monkeypatch: pytest.MonkeyPatch, small: Path, tmp_path: Path) -> None:
    monkeypatch.setattr("mafsar.runtime.engines.loading.SHIPPED_BUNDLE", small)
    monkeypatch.chdir(tmp_path)
    assert export_model("tiny").path == Path("tiny.mafsar")
    assert "query-fp16.onnx" not in {path.name for path in small.iterdir()}
    names = {"vit-b-32:random": "vit-b-32-random.mafsar", "hf-hub:a/b": "hf-hub-a-b.mafsar"}
    (tmp_path / "runs" / "h").mkdir(parents=True)
    names["runs/h"] = "h.mafsar"
    for name, out in names.items():
        assert ModelSource(name, None, None, {}, {}).default_out() == Path(out)

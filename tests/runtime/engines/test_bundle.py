"""Bundles: hashes, engines and devices, on small graphs made here with the onnx package."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mafsar.cli.wording import worded
from mafsar.data.labelled import LabelledClip
from mafsar.errors import InputError, MismatchError, MissingError, UnavailableError
from mafsar.model.names import SHIPPED_BUNDLE
from mafsar.runtime.bank.bank import read_bank
from mafsar.runtime.bank.enroll import enroll
from mafsar.runtime.cache.encoding import encode_clips
from mafsar.runtime.cache.features import FeatureCache
from mafsar.runtime.engines.bundle import Bundle, temporal_contract
from mafsar.runtime.engines.loading import load_bank_model, load_model
from mafsar.runtime.engines.onnx_encoder import OnnxEncoder, thread_waits
from mafsar.runtime.engines.tokenizer import Tokenizer
from mafsar.video import load_clip, write_video

onnx = pytest.importorskip("onnx", reason="the graphs are made with the onnx package")

ENGINE = dict.fromkeys(
    (
        "flavour", "version", "compute_capability", "branch", "precision",
        "graph", "graph_sha256", "weights", "weights_sha256", "sha256",
    ), "x",
)  # fmt: skip
MATCH = {"metric": "otam", "lam": 0.5, "alpha": 0.5, "visual_scale": 1.0, "text_scale": 1.0}
T, S, E, CONTEXT = 4, 16, 8, 6
COLOURS = np.random.default_rng(5).normal(size=(3, E)).astype(np.float32)
WORDS = np.random.default_rng(6).normal(size=(CONTEXT, E)).astype(np.float32)


def _save(path: Path, nodes: list, inputs: list, outputs: list, constants: dict) -> None:
    from onnx import TensorProto, helper, numpy_helper

    kinds = {"u1": TensorProto.UINT8, "f4": TensorProto.FLOAT, "i8": TensorProto.INT64}
    graph = helper.make_graph(
        [helper.make_node(op, ins, outs, **attrs) for op, ins, outs, attrs in nodes],
        "test",
        [helper.make_tensor_value_info(n, kinds[k], shape) for n, k, shape in inputs],
        [helper.make_tensor_value_info(n, kinds[k], shape) for n, k, shape in outputs],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def write_bundle(path: Path, **changes: object) -> Path:
    """A model whose frame features are mean colours times a matrix, plus half the text."""
    from tokenizers import Tokenizer as Library
    from tokenizers import models, pre_tokenizers, processors

    path.mkdir(parents=True)
    outputs = [("features", "f4", ["b", T, E]), ("pooled", "f4", ["b", E])]
    frames = ("frames", "u1", ["b", T, S, S, 3])
    nodes = [
        ("Cast", ["frames"], ["float"], {"to": 1}),
        ("ReduceMean", ["float", "space"], ["colour"], {"keepdims": 0}),
        ("MatMul", ["colour", "matrix"], ["raw"], {}),
        ("ReduceMean", ["raw", "time"], ["pooled"], {"keepdims": 0}),
    ]
    constants = {
        "space": np.array([2, 3]), "time": np.array([1]), "matrix": COLOURS,
        "half": np.array(0.5, np.float32),
    }  # fmt: skip
    query = [*nodes, ("Identity", ["raw"], ["features"], {})]
    _save(path / "query-fp32.onnx", query, [frames], outputs, constants)
    support = [
        *nodes,
        ("Mul", ["text", "half"], ["scaled"], {}),
        ("Unsqueeze", ["scaled", "time"], ["token"], {}),
        ("Add", ["raw", "token"], ["features"], {}),
    ]
    text = ("text", "f4", ["b", E])
    _save(path / "support-fp32.onnx", support, [frames, text], outputs, constants)
    worded = [
        ("Cast", ["tokens"], ["float"], {"to": 1}),
        ("MatMul", ["float", "words"], ["embedding"], {}),
    ]
    _save(
        path / "text.onnx", worded, [("tokens", "i8", ["n", CONTEXT])],
        [("embedding", "f4", ["n", E])], {"words": WORDS},
    )  # fmt: skip
    words = ("<pad>", "a", "clip", "of", "jump", "<unk>", "<s>", "</s>")
    vocabulary = {word: number for number, word in enumerate(words)}
    library = Library(models.WordLevel(vocabulary, unk_token="<unk>"))
    library.pre_tokenizer = pre_tokenizers.Whitespace()
    library.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 6), ("</s>", 7)]
    )
    library.save(str(path / "tokenizer.json"))
    manifest = {
        "schema": 1, "name": "small", "backbone": "small", "adapters": "trained", "frames": T,
        "image_size": S, "embed_dim": E, "parameters_total": 9, "parameters_tunable": 4,
        "preprocess": {"size": S, "resample": "bicubic", "mean": [0, 0, 0], "std": [1, 1, 1]},
        "text": True, "prompts": ["a clip of {}", "{}"],
        "tokenizer": {"file": "tokenizer.json", "context_length": CONTEXT}, "known_words": None,
        "match": MATCH,
        "weights_sha256": "3" * 64, "notice": "a test", "config": {},
        "made_by": {"mafsar": "0", "torch": "0", "onnx": onnx.__version__},
        "files": {
            file.name: {
                "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
                "bytes": file.stat().st_size,
            }
            for file in sorted(path.iterdir())
        },
    } | changes  # fmt: skip
    (path / "bundle.json").write_text(json.dumps(manifest), encoding="utf-8")
    return path


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "small.mafsar")


def clips(count: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, T, S, S, 3), dtype=np.uint8)


def test_views_are_read_from_the_manifest(tmp_path):
    """Bundles without the entry are matched raw."""
    assert Bundle.open(write_bundle(tmp_path / "old.mafsar")).spec.scoring.views == "raw"
    branch = {"mean": [0.5] * E, "floor": 0.25}
    match = MATCH | {"views": 0.5, "view_prior": {"query": branch, "support": branch}}
    scoring = Bundle.open(write_bundle(tmp_path / "new.mafsar", match=match)).spec.scoring
    assert scoring.views == 0.5
    assert scoring.to_json() == match


def test_the_temporal_contract_is_what_decoding_does(tmp_path):
    """Frame i of T is the one shown at (i + ½)/T of the duration; older bundles have no entry."""
    moments = [round((i + 0.5) / T, 6) for i in range(T)]
    contract = {"clock": "container, seconds", "moments": moments}
    assert temporal_contract(T) == contract
    Bundle.open(write_bundle(tmp_path / "b.mafsar", temporal=contract))
    assert "temporal" not in Bundle.open(write_bundle(tmp_path / "old.mafsar")).manifest
    frames = (np.full((16, 16, 3), 5 * index, np.uint8) for index in range(50))
    clip = load_clip(write_video(tmp_path / "ramp.mp4", frames, 25), frames=T, size=16)
    shown = clip.pixels[:, 8, 8, 0] / 5
    assert np.abs(shown - [int(moment * 50) for moment in moments]).max() < 1


def test_features_are_those_of_the_graphs(bundle):
    encoder = load_model(bundle)
    frames = clips(5)
    raw = frames.astype(np.float64).mean(axis=(2, 3)) @ COLOURS.astype(np.float64)
    found = encoder.encode_query(frames)
    np.testing.assert_allclose(found.frames, raw, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(found.pooled, raw.mean(axis=1), rtol=1e-4, atol=1e-3)
    text = np.random.default_rng(2).normal(size=(5, E)).astype(np.float32)
    worded = encoder.encode_support(frames, text)
    np.testing.assert_allclose(worded.frames, raw + 0.5 * text[:, None], rtol=1e-4, atol=1e-3)
    np.testing.assert_array_equal(encoder.encode_support(frames, None).frames, found.frames)


def test_long_calls_are_split(bundle):
    frames = clips(7)
    whole = OnnxEncoder(Bundle.open(bundle)).encode_query(frames)
    split = OnnxEncoder(Bundle.open(bundle), max_batch=3).encode_query(frames)
    # Products of other sizes may be summed in another order, so rounding is that of the largest.
    near = 8 * np.finfo(np.float32).eps * np.abs(whole.frames).max()
    np.testing.assert_allclose(whole.frames, split.frames, rtol=0, atol=near)
    assert whole.pooled.shape == split.pooled.shape == (7, E)


def test_threads_rest_between_runs():
    """Spinning threads would take cores from the decoder of the next clip."""
    code = """
import time
import numpy as np
from mafsar import load_model
encoder = load_model("tiny", threads=2)
frames = np.zeros((1, 8, 224, 224, 3), np.uint8)
for _ in range(3):
    encoder.encode_query(frames)
rests = []
for _ in range(5):
    encoder.encode_query(frames)
    began = time.process_time()
    time.sleep(0.1)
    rests.append(time.process_time() - began)
print(sorted(rests)[2])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # By default, ONNX Runtime spins for 0.026 s on two cores of a Xeon.
    assert float(done.stdout) < 0.005


def test_no_telemetry_and_no_file_in_the_home_folder(tmp_path):
    """ONNX Runtime's telemetry stores an identity under the home folder."""
    code = "from mafsar import load_model; load_model('tiny').encode_text(['wave'])"
    environment = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    places = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = subprocess.run([sys.executable, "-c", code], env=environment | places, check=False)
    assert done.returncode == 0
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize(("version", "spins"), [("1.23.2", "0"), ("1.26.0", "1"), ("2.0.0", "1")])
def test_threads_spin_only_if_the_time_can_be_limited(version, spins):
    entries = thread_waits(version)
    assert entries["session.intra_op.allow_spinning"] == spins
    assert ("session.intra_op.spin_duration_us" in entries) == (spins == "1")


def test_text_is_the_mean_over_the_prompts(bundle):
    found = load_model(bundle).encode_text(["Jump", "unheard of things"])
    tokens = np.array(
        [
            [[6, 1, 2, 3, 4, 7], [6, 4, 7, 0, 0, 0]],
            [[6, 1, 2, 3, 5, 7], [6, 5, 3, 5, 7, 0]],
        ],
        float,
    )
    np.testing.assert_allclose(found, (tokens @ WORDS).mean(axis=1), rtol=1e-5, atol=1e-5)


def test_tokens_are_cleaned_cut_and_padded(bundle):
    tokenizer = Tokenizer(Bundle.open(bundle).tokenizer)
    assert tokenizer.encode(["  JUMP &amp;amp;  "])[0].tolist() == [6, 4, 5, 7, 0, 0]
    # The cut keeps the end token, which is where the text tower reads.
    assert tokenizer.encode(["jump " * 20])[0].tolist() == [6, 4, 4, 4, 4, 7]
    assert tokenizer.encode(["ｊｕｍｐ"])[0].tolist() == [6, 4, 7, 0, 0, 0]  # ftfy: full width
    assert tokenizer.encode([]).shape == (0, CONTEXT)
    assert tokenizer.encode(["a"]).dtype == np.int64


def test_graphs_are_opened_on_first_use(bundle):
    encoder = load_model(bundle)
    assert encoder._sessions == {}
    encoder.encode_query(clips(1))
    assert set(encoder._sessions) == {"query"}
    assert encoder._sessions["query"].get_providers() == ["CPUExecutionProvider"]


@pytest.mark.parametrize(
    "name", ["query-fp32.onnx", "support-fp32.onnx", "text.onnx", "tokenizer.json"]
)
@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_damaged_files_are_refused(bundle, name, damage):
    file = bundle / name
    data = bytearray(file.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    elif damage == "cut":
        file.write_bytes(data[:-1])
    else:
        file.unlink()
    kind = MissingError if damage == "gone" else MismatchError
    with pytest.raises(kind, match=r"mafsar\.export_model\(model, out=") as error:
        load_model(bundle)
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        (
            {"schema": 2},
            InputError,
            "schema 2, this version reads 1; pip install -U mafsar, or copy",
        ),
        ({"schema": 0}, InputError, "schema 0, this version reads 1; copy it again, or export it"),
        (
            {"schema": "a"},
            InputError,
            "schema a, this version reads 1; copy it again, or export it",
        ),
        (
            {"temporal": {"clock": "container, seconds", "moments": [0.0, 0.5]}},
            MismatchError,
            "frames of other moments of a clip .* pip install -U mafsar, or copy",
        ),
        ({"match": {}}, InputError, "damaged manifest"),
        (
            {"match": MATCH | {"metric": "dtw"}},
            InputError,
            r"b\.mafsar/bundle\.json: damaged manifest: match\.metric must be one of otam, .*, got 'dtw'; copy it",
        ),
        ({"files": {}}, MissingError, "does not list query-fp32.onnx"),
        ({"files": {"../x": {"sha256": "0" * 64, "bytes": 0}}}, InputError, "outside the bundle"),
        ({"adapters": "some"}, InputError, "damaged manifest"),
        ({"engines": {"/etc/passwd": ENGINE}}, InputError, r"damaged manifest \(engines\)"),
        ({"engines": {"engines/../x.engine": ENGINE}}, InputError, r"damaged manifest \(engines"),
        ({"engines": {"engines/x.engine": {}}}, InputError, r"damaged manifest \(engines\)"),
    ],
)
def test_bad_manifests_are_refused(tmp_path, change, kind, said):
    with pytest.raises(kind, match=said):
        Bundle.open(write_bundle(tmp_path / "b.mafsar", **change))


def test_engines_are_listed_by_plain_names(tmp_path):
    entry = {"engines/query-fp32-b1.8.32-rtx1.7.1-sm86.engine": ENGINE}
    Bundle.open(write_bundle(tmp_path / "b.mafsar", engines=entry))


def test_missing_and_empty_bundles_are_refused(tmp_path):
    with pytest.raises(MissingError, match=r"gone\.mafsar: no such model"):
        load_model(tmp_path / "gone.mafsar")
    (tmp_path / "empty.mafsar").mkdir()
    with pytest.raises(MissingError, match=r"bundle\.json: missing"):
        load_model(tmp_path / "empty.mafsar")


@pytest.mark.parametrize(
    ("asked", "kind", "said"),
    [
        (
            {"engine": "trt"},
            UnavailableError,
            "no GPU 0 with a CUDA driver here; use engine='onnx'",
        ),
        ({"engine": "torch"}, UnavailableError, "use engine='onnx'"),
        ({"engine": "tensorrt"}, InputError, "engine must be one of"),
        ({"precision": "fp16"}, UnavailableError, "precision='fp32'"),
        ({"precision": "fp64"}, InputError, "precision must be one of"),
        ({"device": "gpu"}, InputError, "device must be"),
        ({"threads": 0}, InputError, "threads must be ≥ 1"),
    ],
)
def test_unavailable_and_unknown_choices_are_errors(bundle, asked, kind, said):
    with pytest.raises(kind, match=said):
        load_model(bundle, **asked)


@pytest.mark.parametrize(
    ("name", "asked", "says"),
    [
        (
            "tiny",
            {"precision": "int8"},
            "mafsar export tiny --precision int8, then --model tiny.mafsar",
        ),
        (
            "vit-b-32",
            {"engine": "onnx", "precision": "int8"},
            "-o NAME.mafsar --engine onnx --precision int8, then --model NAME.mafsar;",
        ),
        (
            "my runs/h",
            {"engine": "trt"},
            "mafsar export 'my runs/h' -o NAME.mafsar --engine trt, then --model NAME.mafsar;",
        ),
    ],
)
def test_the_suggested_command_leads_to_what_was_requested(
    name, asked, says, tmp_path, monkeypatch
):
    """Without `--model` at its end, the user would get the same error again."""
    if name == "tiny" and not SHIPPED_BUNDLE.exists():
        pytest.skip("the shipped model is not in this checkout")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my runs" / "h").mkdir(parents=True)
    with pytest.raises(UnavailableError) as error:
        load_model(name, cache=False, **{"engine": "onnx"} | asked)
    assert says in worded(error.value)


def _with_int8(path: Path, *, scale: float) -> Path:
    """A bundle whose int8 query graph is the fp32 one with its matrix scaled."""
    model = onnx.load(path / "query-fp32.onnx")
    for tensor in model.graph.initializer:
        if tensor.name == "matrix":
            tensor.CopyFrom(onnx.numpy_helper.from_array(scale * COLOURS, "matrix"))
    model_bytes = model.SerializeToString()
    (path / "query-int8.onnx").write_bytes(model_bytes)
    manifest = json.loads((path / "bundle.json").read_text(encoding="utf-8"))
    manifest["files"]["query-int8.onnx"] = {
        "sha256": hashlib.sha256(model_bytes).hexdigest(),
        "bytes": len(model_bytes),
    }
    (path / "bundle.json").write_text(json.dumps(manifest), encoding="utf-8")
    return path


def test_a_cache_keeps_features_of_two_int8_graphs_apart(tmp_path, support_folder):
    """Both have the same weights, but their features differ."""
    cache = FeatureCache(tmp_path / "cache")
    clips = [LabelledClip(support_folder / "jump" / "clip0", "jump")]
    one = _with_int8(write_bundle(tmp_path / "one.mafsar"), scale=1.0)
    two = _with_int8(write_bundle(tmp_path / "two.mafsar"), scale=0.5)
    found = [
        encode_clips(load_model(path, engine="onnx", precision="int8"), clips, cache=cache)
        for path in (one, two, one)
    ]
    assert [each.encoded for each in found] == [1, 1, 0]
    np.testing.assert_allclose(found[1].query, 0.5 * found[0].query, rtol=1e-5)
    np.testing.assert_array_equal(found[2].query, found[0].query)


def test_every_file_that_shapes_the_features_is_in_their_hash(bundle):
    """The support graph and the weights file count; files of another precision do not."""
    opened = Bundle.open(bundle)
    names = ("query-int8.onnx", "support-int8.onnx", "weights-int8.bin", "text.onnx",
             "weights-fp32.bin", "tokenizer.json")  # fmt: skip

    def graphs(changed: str | None) -> str:
        files = {name: {"sha256": "9" if name == changed else name, "bytes": 1} for name in names}
        files["query-fp16.onnx"] = {"sha256": "9" if changed == "fp16" else "8", "bytes": 1}
        return replace(opened, manifest=opened.manifest | {"files": files}).files_sha256("int8")

    assert len({graphs(changed) for changed in (None, *names)}) == 7
    assert graphs("fp16") == graphs(None)


def test_cuda_never_falls_back_silently_to_the_cpu(bundle, monkeypatch):
    from mafsar.runtime.engines import onnx_encoder

    monkeypatch.setattr(onnx_encoder, "has_cuda_driver", lambda: False)
    with pytest.raises(UnavailableError, match="no GPU driver"):
        load_model(bundle, device="cuda")
    encoder = load_model(bundle)
    assert encoder.device == "cpu"
    assert encoder.choice == "engine: onnx on cpu (no GPU driver here)"


def test_a_session_on_another_device_is_refused(bundle, monkeypatch):
    import onnxruntime

    from mafsar.runtime.engines import onnx_encoder

    class Quiet(onnxruntime.InferenceSession):
        def get_providers(self) -> list[str]:
            return ["CPUExecutionProvider"]

    monkeypatch.setattr(onnxruntime, "InferenceSession", Quiet)
    monkeypatch.setattr(onnx_encoder, "cuda_missing", lambda: None)
    with pytest.raises(UnavailableError, match=r"mafsar\[cuda\]|cannot open it on cuda:0"):
        load_model(bundle, device="cuda:0")
    assert "cannot use the GPU here" in load_model(bundle).choice


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((2, T, S, S, 3), np.float32),
        np.zeros((2, T + 1, S, S, 3), np.uint8),
        np.zeros((T, S, S, 3), np.uint8),
        np.zeros((0, T, S, S, 3), np.uint8),
    ],
    ids=["dtype", "frames", "ndim", "empty"],
)
def test_frames_of_another_shape_are_refused(bundle, frames):
    with pytest.raises(InputError, match="frames must"):
        load_model(bundle).encode_query(frames)


def test_a_bank_finds_its_model(tmp_path, bundle, support_folder):
    encoder = load_model(bundle)
    bank = enroll(support_folder, encoder, cache=False)
    path = bank.save(tmp_path / "here" / "b.safetensors")
    again = read_bank(path)
    assert load_bank_model(again.model, path).spec == encoder.spec
    moved = path.parent / "renamed.mafsar"
    bundle.rename(moved)
    assert load_bank_model(again.model, path).spec.path == str(moved)
    (answer,) = [again.match(support_folder / "wave" / "clip0")]
    assert answer.model == "small"
    moved.rename(tmp_path / "hidden.mafsar")
    with pytest.raises(MissingError, match=r"made by small \(weights 333333333333\).*with model"):
        load_bank_model(again.model, path)
    other = write_bundle(path.parent / "other.mafsar", weights_sha256="4" * 64)
    with pytest.raises(MismatchError, match="weights 333333333333"):
        again.check_model(load_model(other).spec)


def test_the_edge_half_runs_with_torch_blocked(bundle, support_folder, tmp_path):
    code = f"""
import sys
sys.modules["torch"] = None
from mafsar import enroll, load_model
encoder = load_model({str(bundle)!r})
bank = enroll({str(support_folder)!r}, encoder)
path = bank.save({str(tmp_path / "b.safetensors")!r})
print(bank.match({str(support_folder / "jump" / "clip0")!r}, encoder).label)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in {"jump", "wave", "clap_hands"}

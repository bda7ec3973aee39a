"""Bundles on TensorRT: finds the engine that fits the GPU and runs it (no torch)."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib
import importlib.util
import json
import mmap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mafsar.choices import check_device
from mafsar.errors import (
    InputError,
    MafsarError,
    Message,
    MismatchError,
    MissingError,
    UnavailableError,
    option,
)
from mafsar.files import write_text
from mafsar.runtime.encoder import (
    Features,
    Float32,
)
from mafsar.runtime.engines.bundle import Bundle, export_hint
from mafsar.runtime.engines.cuda_driver import Cuda
from mafsar.runtime.engines.graph_encoder import GraphEncoder
from mafsar.runtime.engines.onnx_encoder import OnnxEncoder, has_cuda_driver
from mafsar.runtime.engines.probe import check_probe
from mafsar.runtime.engines.trt_engine import Scratch, TrtEngine

_TRT = option(engine="trt")
# Module of each flavour, as named in engine files; neither can load the other's engines.
MODULES = {"trt": "tensorrt", "rtx": "tensorrt_rtx"}
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*


@dataclass(frozen=True)
class Device:
    """A GPU and the TensorRT modules that can use it.

    Attributes:
        cuda: The GPU's runtime.
        index: The GPU's number.
        compute_capability: As "8.7".
        modules: The installed TensorRT modules, by flavour.
        name: Name of the GPU, as "Orin" or "NVIDIA H100 80GB HBM3".
    """

    cuda: Cuda
    index: int
    compute_capability: str
    modules: dict[str, Any]
    name: str = ""

    @classmethod
    def here(cls, index: int) -> Device:
        """The GPU of this machine.

        Raises:
            UnavailableError: There is no GPU, no TensorRT or no CUDA runtime.
        """
        capability = compute_capability(index)
        if capability is None:
            raise UnavailableError(
                _TRT, f": no GPU {index} with a CUDA driver here; use ", option(engine="onnx")
            )
        modules, broken = {}, []
        for flavour, name in MODULES.items():
            if importlib.util.find_spec(name) is None:
                continue
            try:
                modules[flavour] = load_module(flavour)
            except UnavailableError as error:
                broken.append(error)
        if not modules and broken:
            raise broken[0]
        if not modules:
            raise UnavailableError(
                _TRT,
                ': no TensorRT is installed; pip install "mafsar[trt]", on a Jetson use the '
                "system's: python3 -m venv --system-site-packages",
            )
        return cls(Cuda(index), index, capability, modules, gpu_name(index))


class TrtEncoder(GraphEncoder):
    """A bundle's engines; follows `mafsar.runtime.encoder.Encoder`.

    Args:
        bundle: An opened bundle.
        device: "auto", "cuda" or "cuda:N".
        precision: "fp32" or "fp16"; the bundle must have such engines for this GPU.
        here: The GPU; None = detect it.

    Raises:
        InputError: A device that is not a GPU.
        UnavailableError: There is no GPU, no TensorRT, or no engine for them; says what to run.
        MismatchError: An engine differs from the manifest, or gives other features than it should.
    """

    engine = "trt"
    graph_word = "engine"

    def __init__(
        self,
        bundle: Bundle,
        *,
        device: str = "auto",
        precision: str = "fp32",
        here: Device | None = None,
    ) -> None:
        check_device(device)
        kind, _, index = device.partition(":")
        if kind not in ("auto", "cuda"):
            raise InputError(
                _TRT, " runs on a GPU; ", option(device=device), " needs ", option(engine="onnx")
            )
        self._here = Device.here(int(index or 0)) if here is None else here
        super().__init__(bundle, precision, max_batch=None)
        self.device = f"cuda:{self._here.index}"
        branches = ["query"] + (["support"] if self.spec.text_in_support else [])
        self._names = {branch: self._find(branch) for branch in branches}
        self._engines: dict[str, TrtEngine] = {}
        self._scratch = Scratch(self._here.cuda)  # the branches run in turn
        # The text tower runs once per class: not worth an engine.
        self._words = OnnxEncoder(bundle, device="cpu")
        self._verify()
        entry = bundle.manifest["engines"][self._names["query"]]
        self.choice = Message.of(
            f"engine: trt on {self.device} ({entry['flavour']}{entry['version']}, {precision}, "
            f"sm{entry['compute_capability'].replace('.', '')}, verified)"
        )

    @functools.cached_property
    def files_sha256(self) -> str:
        """Hash of the engines that it runs and of the text tower's files."""
        engines = self.bundle.manifest["engines"]
        parts = [f"{branch} {engines[name]['sha256']}" for branch, name in self._names.items()]
        parts.append(self._words.files_sha256)
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    @property
    def device_bytes(self) -> int:
        """Device memory at its peak: weights of the engines in use, contexts and buffers."""
        engines = self.bundle.manifest["engines"]
        weights = sum(int(engines[self._names[branch]]["bytes"]) for branch in self._engines)
        return weights + self._here.cuda.peak_bytes

    def __repr__(self) -> str:
        return f"TrtEncoder({self.spec.name!r}, {self.device}, {self.precision})"

    def encode_text(self, texts: Sequence[str]) -> Float32:
        """Raw embeddings of class texts, (n, E): means over the model's prompts."""
        return self._words.encode_text(texts)

    def _run(self, branch: str, inputs: dict[str, Any]) -> Features:
        if branch not in self._engines:
            self._engines[branch] = self._load(self._names[branch])
        found = self._engines[branch].run(inputs)
        return Features(found["features"], found["pooled"])

    def _find(self, branch: str) -> str:
        """The name of the branch's engine for this GPU and an installed TensorRT."""
        versions = {f: str(module.__version__) for f, module in self._here.modules.items()}
        engines = self.bundle.manifest.get("engines", {})
        fitting = [
            name
            for name, entry in engines.items()
            if entry["branch"] == branch
            and entry["precision"] == self.precision
            and entry["compute_capability"] == self._here.compute_capability
            and versions.get(entry["flavour"]) == entry["version"]
        ]
        if fitting:
            # Any engine runs any batch, split or padded; this one splits and pads least.
            sizes = {name: engines[name]["buckets"] for name in fitting}
            return str(max(fitting, key=lambda name: (max(sizes[name]), len(sizes[name]))))
        has = ", ".join(Path(name).stem for name in engines) or "none"
        wanted = " or ".join(f"{f}{version}" for f, version in versions.items())
        sm = self._here.compute_capability.replace(".", "")
        raise UnavailableError(
            _TRT,
            f": {self.bundle.path} has no {self.precision} {branch} engine for "
            f"sm{sm}/{wanted} (engines here: {has}); ",
            *export_hint(self.bundle.path, engine="trt", precision=self.precision),
        )

    def _load(self, name: str) -> TrtEngine:
        """Loads an engine after checking that it was built from this bundle's files."""
        entry, path = self.bundle.manifest["engines"][name], self.bundle.path / name
        again = engine_hint(self.bundle.path, entry)
        files = self.bundle.manifest["files"]
        made_of = {entry["graph"]: entry["graph_sha256"], entry["weights"]: entry["weights_sha256"]}
        for file, sha256 in made_of.items():
            if files.get(file, {}).get("sha256") != sha256:
                raise MismatchError(
                    f"{path}: built from another {file} than the bundle's; ", *again
                )
        if entry["model_sha256"] != self.spec.weights_sha256:
            raise MismatchError(f"{path}: built for another model than the bundle's; ", *again)
        try:
            return load_engine(path, entry, self._here, self._scratch)
        except MafsarError as error:
            raise type(error)(error, "; ", *again) from error

    def _verify(self) -> None:
        """Checks the engines by the probe, once per GPU; a file beside each records that it passed."""
        records = [self.bundle.path / Path(n).with_suffix(".json") for n in self._names.values()]
        engines = self.bundle.manifest["engines"]
        hashes = [engines[name]["sha256"] for name in self._names.values()]
        on = self._here.name
        if all(_passed(*each, on) for each in zip(records, hashes, strict=True)):
            return
        limit = min(float(engines[n].get("min_cosine", 1)) for n in self._names.values())
        again = engine_hint(self.bundle.path, engines[self._names["query"]])
        sizes = _probe_batches(engines[self._names["query"]]["buckets"])
        check_probe(self, self.bundle, sizes, limit=limit, again=again)
        for record, name in zip(records, self._names.values(), strict=True):
            entry = engines[name] | {"verified": "engine", "verified_on": on}
            try:
                write_text(record, json.dumps(entry, indent=1) + "\n")
            except OSError:
                continue  # a read-only bundle is checked each time


def load_engine(
    path: Path, entry: Mapping[str, Any], device: Device, scratch: Scratch | None = None
) -> TrtEngine:
    """Loads an engine after checking its hash, because an engine is code.

    The file is mapped, so that TensorRT reads the very bytes that were hashed and no copy is held.

    Args:
        path: The engine's file.
        entry: Its entry in a manifest.
        device: The GPU and modules to run it.
        scratch: See `TrtEngine`.

    Raises:
        MissingError: There is no such file.
        MismatchError: The file differs from the manifest, or TensorRT cannot load it.
    """
    if not path.is_file():
        raise MissingError(f"{path}: missing from the bundle")
    size = path.stat().st_size
    if size != entry["bytes"] or not size:
        raise MismatchError(f"{path}: its size differs from the manifest's")
    with path.open("rb") as file:
        plan = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    if hashlib.sha256(plan).hexdigest() != entry["sha256"]:
        raise MismatchError(f"{path}: its sha256 differs from the manifest's")
    try:
        module, buckets = device.modules[entry["flavour"]], entry["buckets"]
        return TrtEngine(plan, module, device.cuda, buckets, scratch)
    except MismatchError as error:
        raise MismatchError(f"{path}: ", error) from error


def load_module(flavour: str) -> Any:
    """The TensorRT module of a flavour.

    Raises:
        UnavailableError: It cannot be imported.
    """
    name = MODULES[flavour]
    try:
        return importlib.import_module(name)
    except (ImportError, OSError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UnavailableError(
            _TRT,
            f": {name} is installed but cannot be loaded ({reason}); install it again or see "
            "mafsar doctor",
        ) from error


def engine_hint(bundle: Path, entry: Mapping[str, Any]) -> tuple[object, ...]:
    """How to build an engine again, as parts of a message."""
    return export_hint(
        bundle,
        engine="trt",
        precision=entry["precision"],
        batch=[int(size) for size in entry["buckets"]],
        overwrite=True,
    )


def _probe_batches(buckets: Sequence[int]) -> tuple[int, ...]:
    """Batch sizes for the probe: one that fills each bucket, and one that is padded to the second."""
    first, *others = sorted(buckets)
    padded = others[0] - 1 if others else first - 1
    return tuple(dict.fromkeys((first, *others, max(padded, 1))))


def _passed(record: Path, sha256: str, on: str) -> bool:
    """Whether the record says that this engine passed on a GPU of this name."""
    try:
        entry = json.loads(record.read_text(encoding="utf-8"))
        found = (entry["verified"], entry["sha256"], entry["verified_on"])
        return found == ("engine", sha256, on)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def compute_capability(index: int = 0) -> str | None:
    """Compute capability of a GPU, as "8.7"; None if there is no such GPU."""
    found = _driver_device(index)
    if found is None:
        return None
    driver, device = found
    major, minor = ctypes.c_int(), ctypes.c_int()
    for value, attribute in ((major, _MAJOR), (minor, _MINOR)):
        if driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, device) != 0:
            return None
    return f"{major.value}.{minor.value}"


def gpu_name(index: int = 0) -> str:
    """Name of a GPU; empty if there is no such GPU."""
    found = _driver_device(index)
    if found is None:
        return ""
    driver, device = found
    name = ctypes.create_string_buffer(256)
    if driver.cuDeviceGetName(name, len(name), device) != 0:
        return ""
    return name.value.decode("utf-8", "replace")


def _driver_device(index: int) -> tuple[ctypes.CDLL, ctypes.c_int] | None:
    """The CUDA driver and its handle of a GPU, or None if there is no such GPU."""
    if not has_cuda_driver():
        return None
    driver, device = ctypes.CDLL("libcuda.so.1"), ctypes.c_int()
    return (driver, device) if driver.cuDeviceGet(ctypes.byref(device), index) == 0 else None


def trt_missing(bundle: Bundle, device: str, precision: str) -> Message | None:
    """Why `engine="auto"` should not try TensorRT for a bundle, or None to try it.

    Returns:
        The reason, with the command that adds an engine; empty if there is no GPU.
    """
    index = int(device.partition(":")[2] or 0)
    capability = None if device == "cpu" else compute_capability(index)
    if capability is None:
        return Message.of()
    engines = bundle.manifest.get("engines", {}).values()
    if not any(
        entry["compute_capability"] == capability and entry["precision"] == precision
        for entry in engines
    ):
        sm = capability.replace(".", "")
        return Message.of(
            f"no {precision} TensorRT engine for sm{sm}; ",
            *export_hint(bundle.path, engine="trt", precision=precision),
        )
    return None

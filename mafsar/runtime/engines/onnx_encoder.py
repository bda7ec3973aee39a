"""Bundles on ONNX Runtime; a graph is opened on first use."""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mafsar.choices import check_device
from mafsar.errors import InputError, Message, MismatchError, UnavailableError, option
from mafsar.runtime.encoder import Features, Float32
from mafsar.runtime.engines.bundle import Bundle
from mafsar.runtime.engines.graph_encoder import MAX_BATCH, GraphEncoder
from mafsar.runtime.engines.tokenizer import Tokenizer

if TYPE_CHECKING:
    import onnxruntime

_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
# ONNX Runtime's package for aarch64 has no CUDA.
_INSTALL_CUDA: tuple[object, ...] = (
    ("use ", option(engine="trt"))
    if platform.machine() == "aarch64"
    else ("pip install 'mafsar[cuda]'",)
)
_BRIEF_SPIN = (1, 26)  # the first ONNX Runtime with a setting for the spin time
_SPIN_MICROSECONDS = 20


class OnnxEncoder(GraphEncoder):
    """A bundle on ONNX Runtime; follows `mafsar.runtime.encoder.Encoder`.

    Args:
        bundle: An opened bundle.
        device: "auto", "cpu", "cuda" or "cuda:N".
        precision: "fp32", "fp16" or "int8"; the bundle must have its graphs.
        threads: CPU threads; None = OMP_NUM_THREADS, else one per core.
        max_batch: Clips per run; longer calls are split.

    Raises:
        InputError: A number out of range, or an unknown device.
        UnavailableError: Device or precision is not available; says what to install.
    """

    engine = "onnx"

    def __init__(
        self,
        bundle: Bundle,
        *,
        device: str = "auto",
        precision: str = "fp32",
        threads: int | None = None,
        max_batch: int = MAX_BATCH,
    ) -> None:
        if threads is not None and threads < 1:
            raise InputError(f"threads must be ≥ 1, got {threads}")
        if max_batch < 1:
            raise InputError(f"max_batch must be ≥ 1, got {max_batch}")
        super().__init__(bundle, precision, max_batch)
        self._threads = threads
        self._sessions: dict[str, onnxruntime.InferenceSession] = {}
        self._tokenizer: Tokenizer | None = None
        bundle.graph("query", precision)  # raises now if the precision is missing
        self.device, why = self._choose_device(device)
        self.choice = Message.of(f"engine: onnx on {self.device} (", why, ")")

    def __repr__(self) -> str:
        return f"OnnxEncoder({self.spec.name!r}, {self.device}, {self.precision})"

    def encode_text(self, texts: Sequence[str]) -> Float32:
        """Raw embeddings of class texts, (n, E): means over the model's prompts."""
        if self.bundle.tokenizer is None:
            raise UnavailableError(f"{self.spec.name} has no text tower; use ", option(text="off"))
        if self._tokenizer is None:
            self._tokenizer = Tokenizer(self.bundle.tokenizer)
        rows = []
        for text in texts:
            tokens = self._tokenizer.encode(
                [prompt.replace("{}", text) for prompt in self.spec.prompts]
            )
            (embedding,) = self._session("text").run(["embedding"], {"tokens": tokens})
            row = np.asarray(embedding, np.float64).mean(axis=0)
            if row.shape != (self.spec.embed_dim,) or not np.isfinite(row).all():
                raise MismatchError(
                    f"{self.bundle.path}: the text graph gave an embedding of shape {row.shape}, "
                    f"or numbers that are not finite; {self.spec.embed_dim} finite ones are wanted"
                )
            rows.append(row)
        shape = (len(rows), self.spec.embed_dim)
        return np.array(rows, np.float32).reshape(shape)

    def _run(self, branch: str, inputs: dict[str, Any]) -> Features:
        features, pooled = self._session(branch).run(["features", "pooled"], inputs)
        return Features(np.asarray(features), np.asarray(pooled))

    def _session(self, branch: str) -> onnxruntime.InferenceSession:
        if branch not in self._sessions:
            # The text tower runs once per class: not worth the GPU's memory.
            device = "cpu" if branch == "text" else self.device
            self._sessions[branch] = self._open(branch, device)
        return self._sessions[branch]

    def _open(self, branch: str, device: str) -> onnxruntime.InferenceSession:
        """Opens a graph and checks that it runs on the requested device."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors only
        # Without a number, ONNX Runtime pins threads to cores, which fails in some containers.
        options.intra_op_num_threads = self._threads or available_threads()
        for key, value in thread_waits(onnxruntime.__version__).items():
            options.add_session_config_entry(key, value)
        provider = _CPU if device == "cpu" else _CUDA
        providers: list[Any] = [_CPU]
        if provider == _CUDA:
            index = int(device.partition(":")[2] or 0)
            # By default ONNX Runtime rounds fp32 products to TF32, ten bits of mantissa.
            providers = [(_CUDA, {"device_id": index, "use_tf32": 0}), _CPU]
        path = self.bundle.graph(branch, self.precision)
        try:
            session = onnxruntime.InferenceSession(
                str(path), sess_options=options, providers=providers
            )
        except Exception as error:  # ONNX Runtime's errors have no common public base
            first = str(error).strip().splitlines()[0]
            raise UnavailableError(
                f"{path}: ONNX Runtime {onnxruntime.__version__} cannot open it on {device} "
                f"({first}); see mafsar doctor"
            ) from error
        # Without CUDA, ONNX Runtime opens on the CPU and only logs it.
        if provider not in session.get_providers():
            raise UnavailableError(
                option(device=device),
                f": ONNX Runtime opened {path.name} on {', '.join(session.get_providers())} "
                "instead; ",
                *_INSTALL_CUDA,
                " and see mafsar doctor",
            )
        return session

    def _choose_device(self, device: str) -> tuple[str, str]:
        """The device, and why it was chosen."""
        check_device(device)
        if device == "cpu":
            return "cpu", "as requested"
        if self.precision == "int8":
            # CUDA has no int8 kernels: nodes would run on the CPU, with copies in between.
            if device == "auto":
                return "cpu", "int8 is for CPUs"
            raise UnavailableError(
                option(device=device, precision="int8"),
                ": int8 graphs are for CPUs; use ",
                option(device="cpu"),
                ", or ",
                option(precision="fp16"),
            )
        _, _, index = device.partition(":")
        if device != "auto":
            chosen = f"cuda:{index or 0}"
            missing = cuda_missing()
            if missing is not None:
                raise UnavailableError(
                    option(device=device), ": ", missing, "; or use ", option(device="cpu")
                )
            self._sessions["query"] = self._open("query", chosen)
            return chosen, "as requested"
        missing = cuda_missing()
        if missing is not None:
            return "cpu", missing
        try:
            self._sessions["query"] = self._open("query", "cuda:0")
        except UnavailableError:
            return "cpu", Message.of("ONNX Runtime cannot use the GPU here; ", *_INSTALL_CUDA)
        return "cuda:0", "a GPU is here"


def cuda_missing() -> Message | None:
    """Why ONNX Runtime cannot use CUDA on this machine, and what would help; or None."""
    if not has_cuda_driver():
        return Message.of("no GPU driver here")
    import onnxruntime

    if _CUDA not in onnxruntime.get_available_providers():
        return Message.of("a GPU is here, but this ONNX Runtime has no CUDA; ", *_INSTALL_CUDA)
    return None


def available_threads() -> int:
    """OMP_NUM_THREADS, as for torch and the kernels, else the cores that this process may use."""
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if first.isdigit() and int(first) > 0:
        return int(first)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def thread_waits(version: str) -> dict[str, str]:
    """Session options for how threads wait for the next node.

    They spin for a short time, because a node of a small graph takes less time than waking a
    thread, but not between runs, where they would take cores from the decoder and other programs.

    Args:
        version: ONNX Runtime's. Before 1.26 the spin time could not be set, so threads do not spin.
    """
    spins = tuple(int(part) for part in version.split(".")[:2]) >= _BRIEF_SPIN
    entries = {"session.intra_op.allow_spinning": str(int(spins))}
    if spins:
        entries["session.intra_op.spin_duration_us"] = str(_SPIN_MICROSECONDS)
        entries["session.force_spinning_stop"] = "1"
    return entries


def has_cuda_driver() -> bool:
    """Whether a CUDA driver with at least one device can be loaded."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
        count = ctypes.c_int(0)
        return (
            driver.cuInit(0) == 0
            and driver.cuDeviceGetCount(ctypes.byref(count)) == 0
            and (count.value > 0)
        )
    except (OSError, AttributeError):
        return False

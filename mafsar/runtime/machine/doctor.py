"""What works here, what does not, and the command that fixes it."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mafsar.errors import MafsarError
from mafsar.kernels import OpStatus
from mafsar.model.names import SHIPPED_BUNDLE
from mafsar.runtime.cache.bundles import kept_bundles
from mafsar.runtime.cache.features import FeatureCache
from mafsar.runtime.engines.bundle import Bundle
from mafsar.runtime.engines.onnx_encoder import cuda_missing, has_cuda_driver
from mafsar.runtime.machine.check import Check, Status
from mafsar.runtime.machine.jetson import examine_jetson
from mafsar.version import __version__

_BASE = ("numpy", "av", "pillow", "safetensors", "tokenizers", "ftfy", "typer", "rich")
_TRAIN = ("torch", "torchvision", "open_clip_torch", "onnx", "onnxscript")
_LONGEST_IMPORT_S = 60.0
_LEAST_FREE_BYTES = 1 << 30


def examine() -> list[Check]:
    """Runs all checks; one that raises becomes a failed check."""
    looks: tuple[Callable[[], list[Check]], ...] = (
        _python,
        _native,
        _base_packages,
        _onnxruntime,
        _gpu,
        _train_packages,
        _tensorrt,
        _openvino,
        examine_jetson,
        _codecs,
        _cache,
        _starter,
    )
    checks: list[Check] = []
    for look in looks:
        try:
            checks += look()
        except Exception as error:  # noqa: BLE001 - the report must reach its end
            checks.append(Check(look.__name__.strip("_"), "fail", repr(error)))
    return checks


def _python() -> list[Check]:
    found = f"{platform.python_version()} ({sys.executable})"
    old = sys.version_info < (3, 10)
    fix = "install Python 3.10 or newer" if old else None
    system = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    tried = platform.system() == "Linux"
    return [
        Check("mafsar", "ok", __version__),
        Check("python", "fail" if old else "ok", found, fix),
        Check(
            "platform",
            "ok" if tried else "warn",
            system if tried else f"{system}; only Linux is tested",
            None if tried else "use Linux, or WSL2 on Windows",
        ),
    ]


def _native() -> list[Check]:
    from mafsar import kernels

    states = kernels.status()
    slow = [state.name for state in states if state.backend != "native"]
    if slow:
        fix = "install a C++17 compiler (apt install g++), pip install --force-reinstall mafsar"
        summary = Check(
            "native kernels", "warn", f"slower reference code for {', '.join(slow)}", fix
        )
    else:
        summary = Check("native kernels", "ok", f"for all {len(states)} ops")
    return [summary, *_gpu_kernels(), *(_op(state) for state in states)]


def _gpu_kernels() -> list[Check]:
    """A line for each GPU on which training and matching fall back to torch."""
    from mafsar.kernels.dispatch import cuda_problems

    return [
        Check(
            "gpu kernels",
            "warn",
            f"GPU {index}: {problem}; slower reference code there",
            "update the NVIDIA driver; a chip older than 7.5 has no kernels",
        )
        for index, problem in cuda_problems().items()
    ]


def _op(state: OpStatus) -> Check:
    works = "" if state.backend == "native" else "reference code: "
    status: Status = "ok" if state.backend == "native" else "warn"
    return Check(f"op {state.name}", status, f"{works}{state.detail}", detailed=True)


def _base_packages() -> list[Check]:
    return [_package(name, missing="fail", fix=f"pip install {name}") for name in _BASE]


def _package(name: str, *, missing: Status, fix: str) -> Check:
    found = _version(name)
    if found is None:
        return Check(name, missing, "not installed", fix)
    return Check(name, "ok", found)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _onnxruntime() -> list[Check]:
    names = [name for name in ("onnxruntime", "onnxruntime-gpu") if _version(name)]
    wanted = "onnxruntime-gpu" if _on_x86_linux() else "onnxruntime"
    if not importlib.util.find_spec("onnxruntime"):
        return [Check("onnxruntime", "fail", "not installed", f"pip install {wanted}")]
    import onnxruntime

    providers = [
        name.removesuffix("ExecutionProvider") for name in onnxruntime.get_available_providers()
    ]
    detail = (
        f"{' + '.join(names) or 'onnxruntime'} {onnxruntime.__version__}: {', '.join(providers)}"
    )
    if len(names) > 1:
        # They share one folder: whichever was installed last has overwritten the other.
        fix = f"pip uninstall -y onnxruntime onnxruntime-gpu && pip install {wanted}"
        return [Check("onnxruntime", "fail", f"{detail}; both are installed", fix)]
    return [Check("onnxruntime", "ok", detail)]


def _on_x86_linux() -> bool:
    return platform.system() == "Linux" and platform.machine() == "x86_64"


def _gpu() -> list[Check]:
    if not has_cuda_driver():
        return [Check("gpu", "ok", "no CUDA driver with a device; everything runs on the CPU")]
    missing = cuda_missing()
    if missing is not None and platform.machine() == "aarch64":
        detail = "a CUDA driver with a device; ONNX Runtime's package for aarch64 has no CUDA"
        return [Check("gpu", "ok", detail, "mafsar export NAME.mafsar --engine trt")]
    if missing is not None:
        return [Check("gpu", "warn", missing, "pip install 'mafsar[cuda]'")]
    return [Check("gpu", "ok", "a CUDA driver with a device, and ONNX Runtime has CUDA")]


def _train_packages() -> list[Check]:
    found = {name: _version(name) for name in _TRAIN}
    missing = [name for name, found_version in found.items() if found_version is None]
    if missing:
        detail = f"not installed: {', '.join(missing)}; needed for CLIP by name and training only"
        return [Check("train extra", "warn", detail, "pip install 'mafsar[train]'")]
    detail = ", ".join(f"{name} {found_version}" for name, found_version in found.items())
    return [Check("train extra", "ok", detail)]


def _tensorrt(system: Path = Path("/usr/lib")) -> list[Check]:
    found = {
        name: spec
        for name in ("tensorrt", "tensorrt_rtx")
        if (spec := importlib.util.find_spec(name)) is not None
    }
    # JetPack installs it for the system's Python; a plain virtual environment does not see it.
    installed = sorted(system.glob("python3*/dist-packages/tensorrt"))
    if installed and "tensorrt" not in found:
        detail = f"{installed[-1]} is hidden from this Python"
        # JetPack's module is compiled for one Python and lies in that one's folder.
        own = installed[-1].parent.parent.name
        fix = f"make the environment with: {own} -m venv --system-site-packages .venv"
        return [Check("tensorrt", "warn", detail, fix)]
    if installed and platform.machine() == "aarch64":
        # The packages of other platforms know nothing of a Jetson's GPU.
        origin = Path(found["tensorrt"].origin or "")
        if not origin.is_relative_to(system):
            detail = f"{origin.parent} hides the system's {installed[-1]}"
            return [Check("tensorrt", "warn", detail, "pip uninstall -y tensorrt")]
    for name, spec in found.items():
        # In a process of its own: a library that does not fit can end it.
        words = [sys.executable, "-c", f"import {name}"]
        try:
            done = subprocess.run(
                words, capture_output=True, text=True, check=False, timeout=_LONGEST_IMPORT_S
            )
            reason = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
            sound = done.returncode == 0
        except subprocess.TimeoutExpired:
            reason, sound = f"not finished after {_LONGEST_IMPORT_S:g} s", False
        if not sound:
            fix = f"install it again: pip install --force-reinstall {name}"
            if Path(spec.origin or "").is_relative_to(system):
                fix = "sudo apt install --reinstall python3-libnvinfer libnvinfer10"
            return [Check("tensorrt", "warn", f"{name} cannot be loaded ({reason})", fix)]
    if found:
        details = [f"{name} {_version(name) or 'of the system'}" for name in found]
        return [Check("tensorrt", "ok", ", ".join(details))]
    return [Check("tensorrt", "ok", "not installed; only --engine trt needs it")]


def _openvino() -> list[Check]:
    found = _version("openvino")
    if found is None:
        return [Check("openvino", "ok", "not installed; only --engine openvino needs it")]
    detail = f"openvino {found}; used by itself where mafsar bench --engine onnx,openvino finds it faster"
    return [Check("openvino", "ok", detail)]


def _codecs() -> list[Check]:
    import av

    codecs = set(av.codecs_available)
    wanted = {"h264": "H.264", "hevc": "H.265", "vp9": "VP9", "av1": "AV1", "mpeg4": "MPEG-4"}
    missing = [title for name, title in wanted.items() if name not in codecs]
    detail = ", ".join(title for name, title in wanted.items() if name in codecs)
    library = ".".join(map(str, av.library_versions.get("libavcodec", ())))
    detail = f"libavcodec {library} decodes {detail}"
    if missing:
        fix = "pip install --force-reinstall av"
        return [Check("codecs", "warn", f"{detail}; not {', '.join(missing)}", fix)]
    return [Check("codecs", "ok", detail)]


def _cache() -> list[Check]:
    info = FeatureCache().info()
    folder = info.path
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    kept = kept_bundles()
    size = (info.size_bytes + kept.size_bytes) / 1e6
    detail = (
        f"{info.path}: {info.entries} entries, {len(kept.names)} bundles, {size:.1f} MB of 5 GB"
    )
    if not os.access(folder, os.W_OK):
        return [
            Check(
                "cache",
                "warn",
                f"{detail}; not writable",
                "set MAFSAR_CACHE to a folder that you can write to",
            )
        ]
    free = shutil.disk_usage(folder).free
    if free < _LEAST_FREE_BYTES:
        return [Check("cache", "warn", f"{detail}; {free / 1e6:.0f} MB free", "mafsar cache clear")]
    return [Check("cache", "ok", detail)]


def _starter() -> list[Check]:
    path = SHIPPED_BUNDLE
    try:
        bundle = Bundle.open(path)
    except MafsarError as error:
        what, _, fix = str(error).partition("; ")
        return [Check("starter tiny", "fail", what, fix or None)]
    size = sum(int(entry["bytes"]) for entry in bundle.manifest["files"].values())
    return [Check("starter tiny", "ok", f"{size / 1e6:.1f} MB, all sha256 match")]

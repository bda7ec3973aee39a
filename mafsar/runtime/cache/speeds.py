"""Times of engines on this machine, as `mafsar bench` measured them; `engine="auto"` reads them.

Beside them the cache keeps what TensorRT measured while it built engines (`mafsar.export.engines`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mafsar.files import is_plain_folder, own_files, write_text
from mafsar.runtime.cache.features import cache_folder

_PACKAGES = ("onnxruntime", "onnxruntime-gpu", "openvino")
_MOST = 200  # entries; the oldest are dropped
# The files, and the `.part` that a killed writer leaves.
_OWN = r"speeds\.json|\.speeds\.json\.\d+-[0-9a-f]{8}\.part"
_TIMING = r"(trt|rtx)[\w.+-]*-sm\d+\.timing"
_OWN_TIMING = rf"{_TIMING}|\.{_TIMING}\.\d+-[0-9a-f]{{8}}\.part"


def record_speeds(
    weights_sha256: str, precision: str, threads: int, milliseconds: Mapping[str, float]
) -> None:
    """Keeps how long engines took for one clip on the CPU.

    Args:
        weights_sha256: Of the model.
        precision: "fp32", "fp16" or "int8".
        threads: Of each engine.
        milliseconds: Median time per call at batch size 1, by engine, measured in turns.
    """
    entries = _read()
    entries.pop(key := _key(weights_sha256, precision, threads), None)
    entries[key] = dict(milliseconds)
    kept = dict(list(entries.items())[-_MOST:])
    with contextlib.suppress(OSError):  # a cache that cannot be written keeps nothing
        write_text(_file(), json.dumps(kept, indent=1) + "\n")


def measured_speeds(weights_sha256: str, precision: str, threads: int) -> dict[str, float]:
    """The milliseconds of `record_speeds` by engine; {} if this was not measured here."""
    return _read().get(_key(weights_sha256, precision, threads), {})


def clear_measured() -> None:
    """Removes what was measured on this machine; other files and links stay."""
    cache = cache_folder()
    builds = cache / "tensorrt"
    # The folder of the whole cache may be a link, to another disk; those in it may not.
    for path, _ in (*own_files(cache.resolve(), _OWN), *own_files(builds, _OWN_TIMING)):
        path.unlink(missing_ok=True)
    if is_plain_folder(builds):
        with contextlib.suppress(OSError):  # not empty
            builds.rmdir()


def processor_name(info: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's model as Linux names it, else its architecture."""
    with contextlib.suppress(OSError):
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.machine()


def _key(weights_sha256: str, precision: str, threads: int) -> str:
    """A figure holds for one model, one processor and the installed versions."""
    facts: dict[str, object] = {
        "weights": weights_sha256,
        "precision": precision,
        "threads": threads,
        "processor": processor_name(),
    }
    for package in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            facts[package] = version(package)
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def _file() -> Path:
    return cache_folder() / "speeds.json"


def _read() -> dict[str, dict[str, float]]:
    """All entries; a file that is missing or damaged has none."""
    try:
        found = json.loads(_file().read_text(encoding="utf-8"))
        return {
            str(key): {str(name): float(value) for name, value in entry.items()}
            for key, entry in found.items()
        }
    except (OSError, ValueError, AttributeError, TypeError):
        return {}

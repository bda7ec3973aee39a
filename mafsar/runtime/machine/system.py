"""What a measured figure depends on: processor, board, GPU, driver, versions, memory (no torch)."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mafsar.runtime.cache.speeds import processor_name
from mafsar.version import __version__

_STATUS, _MEMINFO = Path("/proc/self/status"), Path("/proc/meminfo")


def system_facts() -> dict[str, str]:
    """Processor, power mode, driver and versions: what a figure depends on."""
    facts = {
        "processor": processor_name(),
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "mafsar": __version__,
    }
    board = _read("/proc/device-tree/model")
    governor = _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    driver = _first_line("/proc/driver/nvidia/version", "NVRM version")
    gpus = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    found = {
        "board": board,
        "gpu": ", ".join(_first_line(str(path), "Model") for path in gpus),
        "driver": driver,
        "governor": governor,
        "power_mode": _power_mode(),
    }
    facts |= {name: value for name, value in found.items() if value}
    packages = (
        "numpy", "onnxruntime-gpu", "onnxruntime", "openvino", "tensorrt", "tensorrt-rtx", "torch"
    )  # fmt: skip
    for package in packages:
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            continue
    return facts


def peak_bytes() -> int:
    """Most memory that this program has held at once.

    Not `ru_maxrss` where Linux says better: a child's begins with what its parent held when it was
    started, so a small builder started by a large exporter would report the exporter.
    """
    found = read_sizes(_STATUS).get("VmHWM")
    if found is not None:
        return found
    usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return usage if sys.platform == "darwin" else usage * 1024


def read_sizes(path: Path = _MEMINFO) -> dict[str, int]:
    """Sizes by name of a file of `Name:   123 kB` lines; empty where there is no such file."""
    sizes = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    for line in lines:
        name, _, rest = line.partition(":")
        words = rest.split()
        if len(words) == 2 and words[1] == "kB" and words[0].isdigit():
            sizes[name] = int(words[0]) * 1024
    return sizes


def _power_mode() -> str:
    """A Jetson's, as `MAXN`."""
    tool = shutil.which("nvpmodel")
    if tool is None:
        return ""
    try:
        done = subprocess.run([tool, "-q"], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    lines = [line for line in done.stdout.splitlines() if "Power Mode" in line]
    return lines[0].partition(":")[2].strip() if lines else ""


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip("\0\n ")
    except OSError:
        return ""


def _first_line(path: str, key: str) -> str:
    lines = (line for line in _read(path).splitlines() if line.startswith(key))
    return next(lines, "").partition(":")[2].strip()

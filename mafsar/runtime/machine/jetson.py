"""Checks of a Jetson board: JetPack, TensorRT, power, heat, memory, cameras.

Only files are read, so that everything can be tested on copies of them; nothing needs root.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from mafsar.runtime.machine.check import Check
from mafsar.runtime.machine.system import read_sizes

_JETPACKS = {35: "5", 36: "6", 38: "7", 39: "7"}  # by the major number of L4T
_LEAST_TENSORRT = (10, 3)
# A build of ViT-B/32's fp32 engines took 1.6 GB in all; the rest is the GPU's, which shares it.
_LEAST_FREE_BYTES = 2_500_000_000
_SMALL_BOARD_BYTES = 9_000_000_000
_HOT_CELSIUS = 90.0
_SWAP_FILE = (
    "sudo fallocate -l 8G /swapfile && sudo chmod 600 /swapfile && sudo mkswap /swapfile && "
    "sudo swapon /swapfile"
)
_FIX_CSI = "sudo /opt/nvidia/jetson-io/jetson-io.py"


def examine_jetson(root: Path = Path("/")) -> list[Check]:
    """Checks a board.

    Args:
        root: Where its file system begins.

    Returns:
        One check per subject, each with the command that fixes the problem; empty if this is not a
        Jetson.
    """
    model = _text(root / "proc/device-tree/model")
    release = _release(root)
    if release is None and "Jetson" not in model:
        return []
    packages = _packages(root)
    return [
        _board(model, release, packages),
        _tensorrt(packages),
        _power_mode(root),
        _clocks(root),
        _throttling(root),
        _memory(root),
        _cameras(root),
    ]


def _board(model: str, release: tuple[int, str] | None, packages: dict[str, str]) -> Check:
    if release is None:
        detail = f"{model}, no /etc/nv_tegra_release: not NVIDIA's system"
        return Check("jetson", "warn", detail, "flash JetPack 6.2 (docs/jetson.md)")
    major, revision = release
    installed = packages.get("nvidia-jetpack", "").partition("+")[0]
    jetpack = installed or _JETPACKS.get(major, "unknown")
    detail = f"{model or 'Jetson'}, L4T {major}.{revision}, JetPack {jetpack}"
    if major < 36:
        detail += ": its TensorRT is older than 10.3, only --engine onnx works"
        return Check("jetson", "warn", detail, "flash JetPack 6.2 (docs/jetson.md)")
    if not installed:
        detail += ": the flashed system alone, without CUDA and TensorRT"
        return Check("jetson", "warn", detail, "sudo apt update && sudo apt install nvidia-jetpack")
    return Check("jetson", "ok", detail)


def _tensorrt(packages: dict[str, str]) -> Check:
    """TensorRT of the system; another check looks at whether this Python sees it."""
    name = "jetson tensorrt"
    library = next(
        (
            version
            for package, version in packages.items()
            if re.fullmatch(r"libnvinfer\d+", package)
        ),
        None,
    )
    if library is None:
        return Check(name, "warn", "not installed", "sudo apt update && sudo apt install tensorrt")
    version = library.partition("-")[0]
    if "python3-libnvinfer" not in packages:
        fix = "sudo apt install python3-libnvinfer"
        return Check(name, "warn", f"{version}, without its Python module", fix)
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers < _LEAST_TENSORRT:
        detail = f"{version}, 10.3 or newer is needed"
        return Check(name, "warn", detail, "flash JetPack 6.2 (docs/jetson.md)")
    return Check(name, "ok", library)


def _power_mode(root: Path) -> Check:
    name = "power mode"
    modes, mode = _modes(root)
    if not modes or mode is None:
        return Check(name, "warn", "cannot be read", "sudo nvpmodel -q")
    detail = f"{modes.get(mode, 'unknown')} (mode {mode} of {len(modes)})"
    best = max(modes, key=lambda number: _rank(modes[number]))
    if mode != best:
        detail += f"; the fastest is {modes[best]}, where power supply and cooling allow it"
        return Check(name, "warn", detail, f"sudo nvpmodel -m {best}")
    return Check(name, "ok", detail)


def _modes(root: Path) -> tuple[dict[int, str], int | None]:
    """The power modes that the board has, by number, and the one it is in."""
    entries = re.findall(
        r"<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)\s*>", _text(root / "etc/nvpmodel.conf")
    )
    found = re.search(r"pmode:(\d+)", _text(root / "var/lib/nvpmodel/status"))
    modes = {int(number): title for number, title in entries}
    return modes, None if found is None else int(found.group(1))


def _lower_mode(root: Path) -> str:
    """Advice on the mode that uses the least power, unless it is the present one."""
    modes, mode = _modes(root)
    least = min(modes, key=lambda number: _rank(modes[number]), default=mode)
    return "" if least == mode else f", or a lower mode: sudo nvpmodel -m {least}"


def _rank(title: str) -> float:
    """Mode numbers are not ordered by power; names tell it."""
    if title.startswith("MAXN"):
        return 1000.0 + ("SUPER" in title)
    watts = re.search(r"(\d+)W", title)
    return float(watts.group(1)) if watts else 0.0


def _clocks(root: Path) -> Check:
    processors = sorted((root / "sys/devices/system/cpu").glob("cpu[0-9]*"))
    running = [cpu for cpu in processors if _text(cpu / "online") != "0"]  # cpu0 may have no file
    parts, locked = [f"{len(running)} of {len(processors)} cores"], []
    devices = (root / "sys/class/devfreq").glob("*")
    graphics = [device for device in devices if re.search(r"\.g|^gpu", device.name)]
    folders = [(cpu / "cpufreq", "scaling_", 1e6, "GHz") for cpu in running[:1]]
    folders += [(gpu, "", 1e9, "GHz GPU") for gpu in sorted(graphics)]
    for folder, prefix, unit, what in folders:
        now, least, most = (
            _number(folder / f"{prefix}{which}_freq") for which in ("cur", "min", "max")
        )
        if now is not None and most is not None:
            parts.append(f"{now / unit:.2f} of {most / unit:.2f} {what}")
            locked.append(least == most)
    detail = ", ".join(parts)
    if locked and all(locked):
        return Check("clocks", "ok", f"{detail}, locked")
    detail += ", following the load; lock them for figures to compare"
    return Check("clocks", "ok", detail, "sudo jetson_clocks")


def _throttling(root: Path) -> Check:
    alerts = []
    for device in sorted((root / "sys/class/thermal").glob("cooling_device*")):
        kind = _text(device / "type")
        if kind.endswith("-alert") and (_number(device / "cur_state") or 0) > 0:
            alerts.append(kind)
    hottest, where = _hottest(root)
    currents = _over_currents(root)
    detail = f"{hottest:.0f} °C at {where}" if where else "no temperature can be read"
    if currents:
        detail += ", over-current events since start: " + ", ".join(
            f"{name} {count}" for name, count in currents.items()
        )
    if alerts or hottest >= _HOT_CELSIUS:
        # The fan at its fastest; a blocked or missing one is the usual reason.
        state = f"throttled now ({', '.join(alerts)})" if alerts else "close to throttling"
        return Check("throttling", "warn", f"{state}, {detail}", "sudo jetson_clocks --fan")
    # oc3 counts peaks too short to matter, and rises under load on every board.
    if currents.get("oc1") or currents.get("oc2"):
        return Check(
            "throttling",
            "warn",
            f"{detail}: the power supply is too weak for this mode",
            "use the supply that came with the board" + _lower_mode(root),
        )
    return Check("throttling", "ok", detail)


def _hottest(root: Path) -> tuple[float, str]:
    zones = [
        (number / 1000, _text(zone / "type"))
        for zone in (root / "sys/class/thermal").glob("thermal_zone*")
        if (number := _number(zone / "temp")) is not None  # a part without power gives none
    ]
    return max(zones, default=(0.0, ""))


def _over_currents(root: Path) -> dict[str, int]:
    counts = {}
    for file in sorted((root / "sys/class/hwmon").glob("hwmon*/oc*_event_cnt")):
        count = _number(file)
        if count is not None:
            counts[file.name.partition("_")[0]] = count
    return counts


def _memory(root: Path) -> Check:
    sizes = read_sizes(root / "proc/meminfo")
    total, free = sizes.get("MemTotal", 0), sizes.get("MemAvailable", 0)
    swaps = {
        words[0]: int(words[2]) * 1024
        for line in _text(root / "proc/swaps").splitlines()[1:]
        if len(words := line.split()) >= 3 and words[2].isdigit()
    }
    packed = sum(size for path, size in swaps.items() if "zram" in path)
    on_disk = sum(swaps.values()) - packed
    detail = (
        f"{free / 1e9:.1f} of {total / 1e9:.1f} GB free (the GPU shares it), swap: "
        f"{on_disk / 1e9:.1f} GB on disk, {packed / 1e9:.1f} GB zram"
    )
    if free < _LEAST_FREE_BYTES:
        detail += "; building an engine needs more, and the desktop uses most of a GB"
        return Check("memory", "warn", detail, "sudo systemctl isolate multi-user.target")
    if total < _SMALL_BOARD_BYTES and not on_disk:
        return Check("memory", "warn", f"{detail}; building needs some on disk", _SWAP_FILE)
    return Check("memory", "ok", detail)


def _cameras(root: Path) -> Check:
    found = {
        device.name: _text(device / "name")
        for device in sorted((root / "sys/class/video4linux").glob("video*"))
    }
    if not found:
        detail = "none; a CSI camera must be configured once, USB needs nothing"
        return Check("cameras", "ok", detail, _FIX_CSI)
    detail = ", ".join(f"/dev/{device}: {title}" for device, title in found.items())
    # The user has to be in the group of the devices.
    closed = [name for name in found if not os.access(root / "dev" / name, os.R_OK | os.W_OK)]
    if closed:
        fix = "sudo usermod -aG video $USER, then log in again"
        return Check("cameras", "warn", f"{detail}; no access to {', '.join(closed)}", fix)
    if any(title.startswith("vi-output") for title in found.values()):  # CSI, read through Argus
        missing = _missing_for_csi(root)
        if missing is not None:
            what, fix = missing
            return Check("cameras", "warn", f"{detail}; CSI: {what}", fix)
    return Check("cameras", "ok", detail)


def _missing_for_csi(root: Path) -> tuple[str, str] | None:
    """What csi://N needs and does not have, and the command that installs it."""
    if not (root / "usr/bin/gst-launch-1.0").exists():
        return "gst-launch-1.0 is not installed", "sudo apt install gstreamer1.0-tools"
    folder = root / "usr/lib/aarch64-linux-gnu/gstreamer-1.0"
    if not (folder / "libgstnvarguscamerasrc.so").exists():
        return "nvarguscamerasrc is not installed", "sudo apt install nvidia-l4t-gstreamer"
    if not (root / "tmp/argus_socket").exists():
        return "the camera service does not run", "sudo systemctl restart nvargus-daemon"
    return None


def _release(root: Path) -> tuple[int, str] | None:
    """(36, "4.3") of `# R36 (release), REVISION: 4.3, …`."""
    text = _text(root / "etc/nv_tegra_release")
    found = re.match(r"# R(\d+) \(release\), REVISION: ([\d.]+)", text)
    return (int(found.group(1)), found.group(2)) if found else None


def _packages(root: Path) -> dict[str, str]:
    """Versions of NVIDIA's packages that dpkg has as installed."""
    versions = {}
    for entry in _text(root / "var/lib/dpkg/status").split("\n\n"):
        fields = dict(re.findall(r"^(Package|Status|Version): (.*)$", entry, re.MULTILINE))
        name = fields.get("Package", "")
        wanted = name == "nvidia-jetpack" or "nvinfer" in name
        if wanted and fields.get("Status", "").endswith(" installed"):
            versions[name] = fields.get("Version", "")
    return versions


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if re.fullmatch(r"-?\d+", text) else None


def _text(path: Path) -> str:
    """A small file's text; empty where it cannot be read, as sensors of idle parts cannot."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0 \n")
    except OSError:
        return ""

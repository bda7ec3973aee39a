"""What `mafsar doctor` says of a Jetson, on files in the form that boards of that kind show.

The files are as NVIDIA's documentation and public reports print them; no board was at hand.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mafsar.runtime.machine import doctor
from mafsar.runtime.machine.check import Check
from mafsar.runtime.machine.jetson import examine_jetson

BOARD = Path(__file__).with_name("boards") / "orin-nano-super.txt"


@pytest.fixture
def board(tmp_path: Path) -> Path:
    """The root folder of a board that is as it should be."""
    for part in BOARD.read_text(encoding="utf-8").split("=== ")[1:]:
        name, _, text = part.partition("\n")
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text.replace("\\0", "\0"), encoding="utf-8")
    return tmp_path


@pytest.fixture
def seen(board: Path) -> Callable[[str], Check]:
    """The check of a name, as the board is now."""

    def look(name: str) -> Check:
        (check,) = [check for check in examine_jetson(board) if check.name == name]
        return check

    return look


def test_a_board_in_order(board: Path) -> None:
    checks = {check.name: check for check in examine_jetson(board)}
    assert {name: check.status for name, check in checks.items()} == dict.fromkeys(
        ("jetson", "jetson tensorrt", "power mode", "clocks", "throttling", "memory", "cameras"),
        "ok",
    )
    assert checks["jetson"].detail == (
        "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super, L4T 36.4.3, JetPack 6.2"
    )
    assert checks["jetson tensorrt"].detail == "10.3.0.30-1+cuda12.5"
    assert checks["power mode"].detail == "MAXN_SUPER (mode 2 of 4)"
    assert checks["clocks"].detail == (
        "6 of 6 cores, 0.73 of 1.73 GHz, 0.31 of 1.02 GHz GPU, following the load; "
        "lock them for figures to compare"
    )
    assert checks["clocks"].fix == "sudo jetson_clocks"
    assert checks["throttling"].detail == (
        "52 °C at tj-thermal, over-current events since start: oc1 0, oc2 0, oc3 179"
    )
    assert checks["memory"].detail == (
        "5.6 of 8.0 GB free (the GPU shares it), swap: 8.6 GB on disk, 1.3 GB zram"
    )
    assert checks["cameras"].detail == "/dev/video0: vi-output, imx219 9-0010"


def test_no_jetson_no_lines(tmp_path: Path) -> None:
    assert examine_jetson(tmp_path) == []
    model = tmp_path / "proc/device-tree/model"
    model.parent.mkdir(parents=True)
    model.write_bytes(b"Raspberry Pi 5 Model B Rev 1.0\0")
    assert examine_jetson(tmp_path) == []
    model.write_bytes(b"NVIDIA Jetson AGX Orin Developer Kit\0")
    checks = examine_jetson(tmp_path)  # another system on a Jetson: nothing can be read
    assert checks[0].detail.endswith("not NVIDIA's system")
    assert {check.status for check in checks} == {"warn", "ok"}


@pytest.mark.parametrize(
    ("file", "old", "new", "name", "says", "fix"),
    [
        (
            "etc/nv_tegra_release", "R36 (release), REVISION: 4.3", "R35 (release), REVISION: 4.1",
            "jetson", "L4T 35.4.1, JetPack 6.2: its TensorRT is older", "flash JetPack 6.2",
        ),
        (
            "var/lib/dpkg/status", "Package: nvidia-jetpack", "Package: other",
            "jetson", "JetPack 6: the flashed system alone", "sudo apt install nvidia-jetpack",
        ),
        (
            "var/lib/dpkg/status", "Package: libnvinfer10", "Package: other",
            "jetson tensorrt", "not installed", "sudo apt install tensorrt",
        ),
        (
            "var/lib/dpkg/status", "Package: python3-libnvinfer", "Package: other",
            "jetson tensorrt", "without its Python module", "sudo apt install python3-libnvinfer",
        ),
        (
            "var/lib/dpkg/status", "Version: 10.3.0.30", "Version: 8.6.2.3",
            "jetson tensorrt", "8.6.2.3, 10.3 or newer is needed", "flash JetPack 6.2",
        ),
        (
            "var/lib/nvpmodel/status", "pmode:0002", "pmode:0000 fmode:quiet",
            "power mode", "15W (mode 0 of 4); the fastest is MAXN_SUPER", "sudo nvpmodel -m 2",
        ),
        (
            "var/lib/nvpmodel/status", "pmode:0002", "",
            "power mode", "cannot be read", "sudo nvpmodel -q",
        ),
        (
            "sys/class/thermal/cooling_device3/cur_state", "0", "1",
            "throttling", "throttled now (gpu-throttle-alert), 52 °C", "sudo jetson_clocks --fan",
        ),
        (
            "sys/class/thermal/thermal_zone8/temp", "51718", "97250",
            "throttling", "close to throttling, 97 °C at tj-thermal", "sudo jetson_clocks --fan",
        ),
        (
            "sys/class/hwmon/hwmon3/oc1_event_cnt", "0", "3",
            "throttling", "power supply is too weak", "a lower mode: sudo nvpmodel -m 3",
        ),
        (
            "proc/meminfo", "MemAvailable:    5516368", "MemAvailable:    1516368",
            "memory", "1.6 of 8.0 GB free", "sudo systemctl isolate multi-user.target",
        ),
        (
            "proc/swaps", "/swapfile   ", "/dev/zram2  ",
            "memory", "0.0 GB on disk", "sudo swapon /swapfile",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_command(
    file: str, old: str, new: str, name: str, says: str, fix: str, board: Path, seen
) -> None:
    text = (board / file).read_text(encoding="utf-8")
    assert old in text
    (board / file).write_text(text.replace(old, new), encoding="utf-8")
    check = seen(name)
    assert check.status == "warn"
    assert says in check.detail
    assert fix in (check.fix or "")


def test_locked_clocks_and_cores_that_are_off(board: Path, seen) -> None:
    (board / "sys/devices/system/cpu/cpu5/online").write_text("0\n")
    for folder, name in (("devices/system/cpu/cpu0/cpufreq", "scaling_min_freq"),
                         ("class/devfreq/17000000.gpu", "min_freq")):  # fmt: skip
        most = board / "sys" / folder / name.replace("min", "max")
        (board / "sys" / folder / name).write_text(most.read_text())
    check = seen("clocks")
    assert check.detail == "5 of 6 cores, 0.73 of 1.73 GHz, 0.31 of 1.02 GHz GPU, locked"
    assert check.fix is None


@pytest.mark.parametrize(
    ("missing", "says", "fix"),
    [
        ("sys/class/video4linux/video0/name", "none; a CSI camera", "jetson-io.py"),
        ("usr/bin/gst-launch-1.0", "gst-launch-1.0 is not", "apt install gstreamer1.0-tools"),
        (
            "usr/lib/aarch64-linux-gnu/gstreamer-1.0/libgstnvarguscamerasrc.so",
            "nvarguscamerasrc is not installed",
            "sudo apt install nvidia-l4t-gstreamer",
        ),
        ("tmp/argus_socket", "camera service does not run", "systemctl restart nvargus-daemon"),
    ],
)
def test_cameras(missing: str, says: str, fix: str, board: Path, seen) -> None:
    (board / missing).unlink()
    if missing.endswith("name"):
        (board / missing).parent.rmdir()
    check = seen("cameras")
    assert says in check.detail
    assert fix in (check.fix or "")


def test_cameras_of_another_group(board: Path, seen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mafsar.runtime.machine.jetson.os.access", lambda *_: False)
    check = seen("cameras")
    assert check.detail.endswith("; no access to video0")
    assert (check.fix or "").startswith("sudo usermod -aG video $USER")
    (board / "sys/class/video4linux/video0/name").write_text("HD Pro Webcam C920\n")
    monkeypatch.undo()
    assert seen("cameras").status == "ok"  # USB needs no Argus


def test_a_venv_that_hides_tensorrt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system = tmp_path / "lib"
    hidden = system / "python3.10/dist-packages/tensorrt"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").write_text("")
    specs: dict[str, object] = {}
    monkeypatch.setattr("mafsar.runtime.machine.doctor.importlib.util.find_spec", specs.get)
    monkeypatch.setattr("mafsar.runtime.machine.doctor.platform.machine", lambda: "aarch64")
    (check,) = doctor._tensorrt(system)
    assert (check.status, check.detail) == ("warn", f"{hidden} is hidden from this Python")
    assert check.fix is not None
    assert check.fix.endswith("python3.10 -m venv --system-site-packages .venv")

    class Spec:
        origin = str(tmp_path / "venv/tensorrt/__init__.py")

    specs["tensorrt"] = Spec
    (check,) = doctor._tensorrt(system)
    assert check.fix == "pip uninstall -y tensorrt"
    Spec.origin = str(hidden / "__init__.py")
    monkeypatch.setenv("PYTHONPATH", str(hidden.parent))
    (hidden / "__init__.py").write_text("raise ImportError('libnvinfer.so.10: cannot open')")
    (check,) = doctor._tensorrt(system)
    assert check.status == "warn"
    assert "tensorrt cannot be loaded (ImportError: libnvinfer.so.10: cannot open)" in check.detail
    assert check.fix == "sudo apt install --reinstall python3-libnvinfer libnvinfer10"
    (hidden / "__init__.py").write_text("")
    assert doctor._tensorrt(system)[0].status == "ok"
    assert doctor._tensorrt(tmp_path / "none")[0].status == "ok"


def test_a_tensorrt_whose_import_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tensorrt.py").write_text("import time; time.sleep(20)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(doctor, "_LONGEST_IMPORT_S", 0.5)
    (check,) = doctor._tensorrt(tmp_path / "none")
    assert check.status == "warn"
    assert "cannot be loaded (not finished after 0.5 s)" in check.detail

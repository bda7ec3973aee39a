"""Where the TensorRT runner looks for the CUDA runtime."""

from __future__ import annotations

from pathlib import Path

import pytest

from mafsar.errors import UnavailableError
from mafsar.runtime.engines import cuda_driver
from mafsar.runtime.engines.cuda_driver import candidates


def test_the_system_s_runtime_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site/nvidia/cu13/lib/libcudart.so.13"
    system = tmp_path / "usr/local/cuda/targets/aarch64-linux/lib/libcudart.so.12"
    for file in (package, system):
        file.parent.mkdir(parents=True)
        file.touch()

    class Spec:
        submodule_search_locations = (str(tmp_path / "site/nvidia"),)

    monkeypatch.setattr(
        "mafsar.runtime.engines.cuda_driver.importlib.util.find_spec", lambda _: Spec
    )
    found = list(candidates(tmp_path))
    assert found[0] == "libcudart.so"
    assert found[-2:] == [str(system), str(package)]
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/nv_tegra_release").touch()
    assert list(candidates(tmp_path)) == found[:-1]  # a Jetson's own, and no package's


class Library:
    """A CUDA runtime over a driver."""

    def __init__(self, runtime: int, driver: int) -> None:
        self.runtime, self.driver = runtime, driver

    def cudaRuntimeGetVersion(self, value: object) -> int:
        value._obj.value = self.runtime  # type: ignore[attr-defined]
        return 0

    def cudaDriverGetVersion(self, value: object) -> int:
        value._obj.value = self.driver  # type: ignore[attr-defined]
        return 0


def test_the_runtime_fits_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"a.13": Library(13000, 12080), "b.12": Library(12060, 12080)}
    monkeypatch.setattr(cuda_driver, "candidates", lambda: iter(["gone", *found]))

    def load(name: str) -> Library:
        if name not in found:
            raise OSError(name)
        return found[name]

    monkeypatch.setattr(cuda_driver.ctypes, "CDLL", load)
    assert cuda_driver._load() is found["b.12"]
    del found["b.12"]
    with pytest.raises(UnavailableError, match=r"a\.13 is CUDA 13, the driver CUDA 12; update"):
        cuda_driver._load()
    found["a.13"].driver = 0  # not known: taken as it is
    assert cuda_driver._load() is found["a.13"]

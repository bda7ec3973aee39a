"""Where the TensorRT runner looks for the CUDA runtime."""

from __future__ import annotations

from pathlib import Path

import pytest

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

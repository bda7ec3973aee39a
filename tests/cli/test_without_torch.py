"""The verbs of an edge device with torch blocked; `make test-edge` does without it altogether."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mafsar.model.names import SHIPPED_BUNDLE
from mafsar.video import write_video

CODE = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "torchvision", "open_clip", "onnx", "onnx_ir", "onnxscript"}:
            raise ImportError(name + " is blocked in this test")
sys.meta_path.insert(0, Block())
from mafsar.cli.app import build_app
app = build_app()
for line in (
    "enroll support -o bank.safetensors",
    "match bank.safetensors support/left/0.mp4 --keep-query",
    "bank list bank.safetensors",
    "eval tiny --data support --way 2 --episodes 20",
    "info tiny",
    "bench tiny --runs 2",
    "doctor",
    "cache info",
):
    status = app(line.split(), standalone_mode=False)
    assert not status, f"{line}: {status}"
assert "torch" not in sys.modules
"""


@pytest.mark.skipif(not SHIPPED_BUNDLE.exists(), reason="the shipped model is not in this checkout")
def test_the_verbs_of_an_edge_device(tmp_path: Path) -> None:
    square = np.full((16, 16, 3), 255, np.uint8)
    for name, step in (("left", -4), ("right", 4)):
        for clip in range(2):
            frames = np.full((16, 96, 128, 3), 40 + 20 * clip, np.uint8)
            for index, frame in enumerate(frames):
                x = 56 + step * (index - 8)
                frame[40:56, x : x + 16] = square
            path = tmp_path / "support" / name / f"{clip}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_video(path, frames, fps=8.0)
    done = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "bank.safetensors").is_file()

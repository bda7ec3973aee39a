"""Every verb of an edge device as a user types it, where torch is not installed.

    verbs.py MAFSAR [onnxruntime==VERSION]

Run by `make test-edge` with the Python of an environment that has the base dependencies only.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

MAFSAR = sys.argv[1]
ABSENT = ("torch", "torchvision", "open_clip", "onnx", "onnx_ir", "onnxscript", "tensorrt")


def mafsar(*words: str, code: int = 0) -> tuple[str, str]:
    """Runs a verb, checks its exit code and says that it ran."""
    done = subprocess.run([MAFSAR, *words], capture_output=True, text=True, check=False)
    line = f"mafsar {' '.join(words)}"
    if done.returncode != code:
        raise SystemExit(f"{line}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    sys.stderr.write(f"ok  {line}\n")
    return done.stdout, done.stderr


def wanted(holds: bool, what: str) -> None:
    if not holds:
        raise SystemExit(f"error: {what}")


def clips() -> tuple[Path, Path]:
    """Rendered class folders and a query."""
    from mafsar.synthetic import class_names, render_video

    for index, name in enumerate(class_names("test")[:3]):
        for clip in range(2):
            path = Path("support") / f"class{index}" / f"{clip}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            render_video(name, path, seed=100 * index + clip)
    return Path("support"), Path("support/class0/0.mp4")


def main() -> None:
    present = [name for name in ABSENT if importlib.util.find_spec(name)]
    wanted(not present, f"this environment has {', '.join(present)}")
    import onnxruntime

    from mafsar.model.names import SHIPPED_BUNDLE

    if len(sys.argv) > 2:
        asked = sys.argv[2].partition("==")[2].rstrip("*")
        wanted(onnxruntime.__version__.startswith(asked), f"ONNX Runtime {onnxruntime.__version__}")
    support, query = clips()
    bundle = Path("own.mafsar")
    shutil.copytree(SHIPPED_BUNDLE, bundle)
    model = ("--model", str(bundle))

    answers = [json.loads(line) for line in mafsar("match", str(support), str(query), *model,
               "--keep-query", "--threshold", "off", "--json")[0].splitlines()]  # fmt: skip
    wanted(answers[0]["label"] == "class0", f"a clip among its own support is {answers}")
    wanted(answers[0]["engine"] == "onnx", f"the engine is {answers[0]['engine']}")
    mafsar("enroll", str(support), "-o", "bank.safetensors", *model, "--report", "enroll.html")
    mafsar("match", "bank.safetensors", str(query), "--keep-query")
    watched = mafsar("watch", "bank.safetensors", str(query), "--json")[0].splitlines()
    wanted(json.loads(watched[-1])["state"] == "ended", f"watching ends with {watched[-1]}")
    mafsar(
        "record", str(query), "recorded/class0", "--seconds", "1", "--count", "1", "--delay", "0"
    )
    listed = mafsar("bank", "list", "bank.safetensors", "--json")[0]
    wanted(json.loads(listed)["clips"] is not None, "the bank lists no clips")
    mafsar("bank", "remove", "bank.safetensors", "--class", "class2")
    scored = json.loads(mafsar("eval", str(bundle), "--data", str(support), "--way", "3",
                        "--episodes", "50", "--json")[0])  # fmt: skip
    wanted(scored["episodes"] == 50, f"eval scored {scored['episodes']} episodes")
    for thing in (str(bundle), "bank.safetensors", str(query), "vit-b-32"):
        mafsar("info", thing)
    mafsar("bench", str(bundle), "--runs", "3")
    lines = [json.loads(line) for line in mafsar("doctor", "--json")[0].splitlines()]
    wanted(not [line for line in lines if line["status"] == "fail"], "doctor finds faults")
    mafsar("cache", "info")
    mafsar("cache", "clear")
    # From here on the user is told what is missing, in one line.
    for words, says in (
        (("export", str(bundle), "--engine", "trt"), "no TensorRT is installed"),
        (("export", str(bundle), "--precision", "fp16"), "pip install 'mafsar[graphs]'"),
        (("match", str(support), str(query), "--model", "vit-b-32:random"), "mafsar[train]"),
        (("watch", "bank.safetensors", str(query), "--mqtt", "mqtt://127.0.0.1"), "mafsar[mqtt]"),
    ):
        told = mafsar(*words, code=1)[1]
        line = told.splitlines()[-1]
        wanted(line.startswith("error: ") and says in line, f"{' '.join(words)} says {told}")
    subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "check"],
        check=len(sys.argv) < 3,
    )
    sys.stderr.write(f"the edge half works on Python {sys.version.split()[0]} without torch, ")
    sys.stderr.write(f"ONNX Runtime {onnxruntime.__version__}\n")


if __name__ == "__main__":
    main()

"""Kills enroll, add, train, export and pack at random moments, and lets them run again.

    python tests/faults/kill.py [VERB …] [--kills N] [--seed S] [--write docs/reliability.md]

After each SIGKILL the files must be those from before, the finished ones, or ones that are refused
as unfinished; and the same call again must end with the result of a run that nobody killed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OLD_FILES = Path(__file__).parents[1] / "compat" / "files-0.1.0.zip"
BEGIN, END = "<!-- kills: made by `make kill` -->", "<!-- kills: end -->"


@dataclass(frozen=True)
class Verb:
    """What is killed.

    Attributes:
        run: Does the work in the working folder; the second argument says whether it was killed
            before.
        state: What is there: "none", "before", "unfinished" or "whole"; raises where half a file
            is taken for a whole one.
        result: The finished work as a value that can be compared.
    """

    run: Callable[[bool], None]
    state: Callable[[], str]
    result: Callable[[], Any]


def enroll_run(again: bool) -> None:
    import mafsar

    model = mafsar.load_model("small.mafsar", engine="onnx", device="cpu", threads=1)
    mafsar.enroll("clips", model).save("bank.safetensors", overwrite=again)


def bank_state(name: str, whole: int) -> str:
    from mafsar.runtime.bank.bank import read_bank

    if not Path(name).exists():
        return "none"
    return "whole" if len(read_bank(name)) == whole else "before"


def bank_result(name: str) -> Any:
    from mafsar.runtime.bank.bank import read_bank

    bank = read_bank(name)
    return bank.labels, [clip.identity for clip in bank.clips], bank.query.tobytes()


def add_run(again: bool) -> None:
    import mafsar

    del again
    model = mafsar.load_model("small.mafsar", engine="onnx", device="cpu", threads=1)
    held = mafsar.read_bank("held.safetensors")
    mafsar.enroll("more", model, add_to=held).save("held.safetensors", overwrite=True)


def train_run(again: bool) -> None:
    import mafsar

    if again and Path("trained/config.toml").is_file():
        mafsar.train(out="trained", resume=True)
    else:
        mafsar.train(config="run/config.toml", out="trained", overwrite=again)


def train_state() -> str:
    from mafsar.model.sources import load_trained
    from mafsar.training.checkpoint import last_checkpoint
    from mafsar.training.run_log import read_metrics

    run = Path("trained")
    if not run.exists():
        return "none"
    read_metrics(run)
    if (run / "adapters.safetensors").exists():
        load_trained(run)
    checkpoint = last_checkpoint(run)
    if checkpoint is not None:
        load_trained(checkpoint)
    return "whole" if checkpoint is not None and checkpoint.name.endswith("3") else "unfinished"


def train_result() -> Any:
    from safetensors import safe_open

    from mafsar.training.run_log import read_metrics

    volatile = ("seconds", "wait_share")
    lines = [
        {name: value for name, value in line.items() if name not in volatile}
        for line in read_metrics(Path("trained"))
    ]
    with safe_open("trained/adapters.safetensors", framework="numpy") as file:
        tensors = {name: file.get_tensor(name).tobytes() for name in sorted(file.keys())}
        config = json.loads(file.metadata()["config"])
    del config["name"]  # an absolute path
    return tensors, config, lines


def export_run(again: bool) -> None:
    import mafsar

    mafsar.export_model("small.mafsar", "new.mafsar", precision="fp16", overwrite=again, quiet=True)


def export_state() -> str:
    from mafsar.runtime.engines.bundle import Bundle

    if not Path("new.mafsar").exists():
        return "none"
    return "whole" if "fp16" in Bundle.open(Path("new.mafsar")).precisions() else "before"


def export_result() -> Any:
    from mafsar.runtime.engines.bundle import Bundle

    return {k: v["sha256"] for k, v in Bundle.open(Path("new.mafsar")).manifest["files"].items()}


def pack_run(again: bool) -> None:
    from mafsar.data import pack as module
    from mafsar.data.folders import read_own
    from mafsar.data.store import StoreSettings

    del again
    module.COMMIT_SECONDS = 0.0
    module.pack(read_own(Path("clips")), Path("store.sqlite"), StoreSettings(8, 64, 90), workers=1)


def pack_state() -> str:
    from mafsar.data.store import Store
    from mafsar.errors import InputError, MismatchError

    if not Path("store.sqlite").exists():
        return "none"
    try:
        Store(Path("store.sqlite")).catalogue()
    except MismatchError:
        return "unfinished"
    except InputError:  # of no bytes yet, or of tables that were not committed
        return "unfinished"
    return "whole"


def pack_result() -> Any:
    from mafsar.data.store import Store

    store = Store(Path("store.sqlite"))
    return [(clip.name, store.read(clip, range(8))) for clip in store.catalogue().clips]


VERBS = {
    "enroll": Verb(
        enroll_run,
        lambda: bank_state("bank.safetensors", 11),
        lambda: bank_result("bank.safetensors"),
    ),
    "enroll --add": Verb(
        add_run,
        lambda: bank_state("held.safetensors", 12),
        lambda: bank_result("held.safetensors"),
    ),
    "train": Verb(train_run, train_state, train_result),
    "export": Verb(export_run, export_state, export_result),
    "data pack": Verb(pack_run, pack_state, pack_result),
}


def prepare(folder: Path) -> None:
    """What every run starts from."""
    with zipfile.ZipFile(OLD_FILES) as archive:
        archive.extractall(folder)
    (folder / "more" / "nod").mkdir(parents=True)
    shutil.move(folder / "clips" / "up" / "1", folder / "more" / "nod" / "1")
    shutil.copytree(folder / "more" / "nod" / "1", folder / "clips" / "up" / "1")
    for picture in (folder / "more" / "nod" / "1").iterdir():  # other content: the last two swapped
        if picture.stem == "2":
            other = picture.with_name(f"3{picture.suffix}")
            aside = picture.with_name("aside")
            picture.rename(aside)
            other.rename(picture)
            aside.rename(other)
            break
    shutil.rmtree(folder / "cache")


def in_child(work: Callable[[], None], folder: Path, seconds: float | None) -> tuple[str, float]:
    """Runs work in a child that is killed after some time; how it ended, and how long it took."""
    began = time.perf_counter()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.chdir(folder)
            os.environ["MAFSAR_CACHE"] = str(folder / "cache")
            for stream in (1, 2) if seconds is not None else (1,):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
            work()
            code = 0
        except BaseException:  # noqa: BLE001 - a child must not go on as its parent
            traceback.print_exc()
        finally:
            os._exit(code)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    took = time.perf_counter() - began
    if os.WIFSIGNALED(status):
        return "killed", took
    return ("done" if os.WEXITSTATUS(status) == 0 else "failed"), took


def check(verb: Verb, folder: Path, expected: Path | None) -> str:
    """The state that a killed run left; with `expected`, the finished result is compared instead."""
    out = folder / "said.txt"

    def look() -> None:
        if expected is None:
            out.write_text(verb.state())
            return
        mine = verb.result()
        os.chdir(expected)
        out.write_text("same" if mine == verb.result() else "another result")

    ended, _ = in_child(look, folder, None)
    return out.read_text() if ended == "done" else "unreadable"


def kill(name: str, kills: int, seed: int) -> Counter[str]:
    """Kills one verb so many times."""
    verb, counts = VERBS[name], Counter[str]()
    rng = random.Random(f"{name} {seed}")
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        prepare(root / "start")
        if name == "enroll --add":
            shutil.copy(root / "start" / "on.safetensors", root / "start" / "held.safetensors")
        if name == "export":
            # What is added to: a bundle of fp32 alone, made once.
            in_child(lambda: _fp32_alone(), root / "start", None)
        shutil.copytree(root / "start", root / "whole")
        took = 0.0
        for _ in range(2):  # the second time with warm files
            shutil.rmtree(root / "whole")
            shutil.copytree(root / "start", root / "whole")
            ended, took = in_child(lambda: verb.run(False), root / "whole", None)
            if ended != "done":
                raise SystemExit(f"{name}: does not run at all")
        for number in range(kills):
            folder = root / f"k{number}"
            shutil.copytree(root / "start", folder)
            ended, _ = in_child(lambda: verb.run(False), folder, rng.uniform(0.02, 1.05) * took)
            counts["kills"] += ended == "killed"
            counts["finished before"] += ended == "done"
            state = check(verb, folder, None)
            counts[state] += 1
            after, _ = in_child(lambda: verb.run(True), folder, None)
            end = check(verb, folder, root / "whole") if after == "done" else "does not run again"
            counts[end] += 1
            if ended == "failed" or state == "unreadable" or end != "same":
                counts["wrong"] += 1
                sys.stderr.write(f"{name}, kill {number}: {ended}, {state}, then {end}\n")
            shutil.rmtree(folder)
    return counts


def _fp32_alone() -> None:
    import mafsar

    shutil.move("small.mafsar", "both.mafsar")
    mafsar.export_model("both.mafsar", "small.mafsar", precision="fp32", quiet=True)


def table(results: dict[str, Counter[str]]) -> str:
    lines = [
        "| run | kills | as before | unfinished | whole | same result when run again | wrong |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for name, count in results.items():
        lines.append(
            f"| `{name}` | {count['kills']} | {count['none'] + count['before']} | {count['unfinished']} "
            f"| {count['whole']} | {count['same']} | {count['wrong']} |"
        )
    total = sum(results.values(), Counter[str]())
    lines.append(
        f"| all | {total['kills']} | {total['none'] + total['before']} | {total['unfinished']} | {total['whole']} "
        f"| {total['same']} | {total['wrong']} |"
    )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("verbs", nargs="*", metavar="VERB", help=", ".join(VERBS))
    parser.add_argument("--kills", type=int, default=40, help="of each verb")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", type=Path, help="the page whose table is replaced")
    said = parser.parse_args()
    import torch

    import mafsar
    import mafsar.training.loop  # once, here: the children share it

    torch.set_num_threads(1)
    del mafsar
    results = {}
    for name in said.verbs or VERBS:
        results[name] = kill(name, said.kills, said.seed)
        sys.stderr.write(f"{name}: {dict(results[name])}\n")
    text = table(results)
    sys.stdout.write(f"{text}\n")
    if said.write is not None:
        page = said.write.read_text(encoding="utf-8")
        before, _, rest = page.partition(BEGIN)
        machine = (
            f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores"
        )
        after = rest.partition(END)[2]
        said.write.write_text(f"{before}{BEGIN}\n{text}\n\nMeasured with {machine}.\n{END}{after}")
    return int(any(count["wrong"] for count in results.values()))


if __name__ == "__main__":
    sys.exit(main())

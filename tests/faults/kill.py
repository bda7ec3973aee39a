"""Kills enroll, add, train, export, pack and watch at random moments, and lets them run again.

    python tests/faults/kill.py [VERB …] [--kills N] [--seed S] [--kept FILE] [--write docs/reliability.md]

After each SIGKILL the files must be those from before, the finished ones, or ones that are refused
as unfinished; and the same call again must end with the result of a run that nobody killed. What
became of each kill is kept in a file, from which the next run goes on.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
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
from collections.abc import Callable, Iterable, Iterator, Mapping
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


def watch_run(again: bool) -> None:
    from mafsar.cli.app import build_app

    if again:  # what it appends to
        Path("before.json").write_text(json.dumps(len(_lines())))
    words = ["watch", "on.safetensors", "long.mp4", "--model", "small.mafsar", "--engine", "onnx"]
    words += ["--jsonl", "events.jsonl", "--threshold", "off", "--window", "1", "--stride", "0.25"]
    build_app("watch")([*words, "--quiet"], standalone_mode=False)


def _lines() -> list[Any]:
    """The events of the log; a line that a kill has cut may only be the last one."""
    path = Path("events.jsonl")
    if not path.exists():
        return []
    *whole, last = path.read_text().split("\n")
    found = [json.loads(line) for line in whole]
    with contextlib.suppress(ValueError):
        found.append(json.loads(last))
    return [line for line in found if line["event"] != "status"]


def watch_state() -> str:
    if not Path("events.jsonl").exists():
        return "none"
    open_now = {}
    for event in _lines():
        open_now[event["id"]] = event["event"] == "start"
    return "unfinished" if not open_now or any(open_now.values()) else "whole"


def watch_result() -> Any:
    before = Path("before.json")
    lines = _lines()[json.loads(before.read_text()) if before.exists() else 0 :]
    volatile = ("id", "time")
    return [{k: v for k, v in line.items() if k not in volatile} for line in lines]


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
    "watch": Verb(watch_run, watch_state, watch_result),
}
KILLS = 34  # of each verb; runs that were done before their moment are not counted


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
    _film(folder / "clips", folder / "long.mp4")


def _film(clips: Path, path: Path) -> None:
    """All clips after each other, what is watched."""
    import numpy as np
    from PIL import Image

    from mafsar.video import write_video

    places = sorted(clips.glob("*/*/*.*"))
    pictures = [np.asarray(Image.open(place).convert("RGB").resize((64, 64))) for place in places]
    write_video(path, [picture for picture in pictures for _ in range(2)], 8)


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
        ended = os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT | os.WNOHANG)
        while ended is None and time.perf_counter() - began < seconds:
            time.sleep(0.001)
            ended = os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT | os.WNOHANG)
        if ended is None:
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


def kill(name: str, numbers: Iterable[int], seed: int) -> Iterator[tuple[int, dict[str, str]]]:
    """Kills one verb once for each number; yields how it ended, what was there, what became of it."""
    verb = VERBS[name]
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        prepare(root / "start")
        if name == "enroll --add":
            shutil.copy(root / "start" / "on.safetensors", root / "start" / "held.safetensors")
        if name == "export":
            # What is added to: a bundle of fp32 alone, made once.
            in_child(lambda: _fp32_alone(), root / "start", None)
        shutil.copytree(root / "start", root / "whole")
        took = float("inf")
        for _ in range(2):  # the second time with warm files
            shutil.rmtree(root / "whole")
            shutil.copytree(root / "start", root / "whole")
            ended, seconds = in_child(lambda: verb.run(False), root / "whole", None)
            took = min(took, seconds)
            if ended != "done":
                raise SystemExit(f"{name}: does not run at all")
        for number in numbers:
            folder = root / f"k{number}"
            shutil.copytree(root / "start", folder)
            moment = random.Random(f"{name} {seed} {number}").uniform(0.02, 1.05) * took
            ended, seconds = in_child(lambda: verb.run(False), folder, moment)
            if ended == "done":  # quicker than before: the machine has more time for it now
                took = min(took, seconds)
            state = check(verb, folder, None)
            after, _ = in_child(lambda: verb.run(True), folder, None)
            end = check(verb, folder, root / "whole") if after == "done" else "does not run again"
            shutil.rmtree(folder)
            yield number, {"ended": ended, "state": state, "end": end}


def is_wrong(found: dict[str, str]) -> bool:
    """Whether a kill left something half, or could not be made good by another run."""
    return found["ended"] == "failed" or found["state"] == "unreadable" or found["end"] != "same"


def _fp32_alone() -> None:
    import mafsar

    shutil.move("small.mafsar", "both.mafsar")
    mafsar.export_model("both.mafsar", "small.mafsar", precision="fp32", quiet=True)


def table(kept: Mapping[str, Mapping[str, dict[str, str]]]) -> str:
    """The table of docs/reliability.md."""
    lines = [
        "| run | kills | finished before | as before | unfinished | whole | same result when run again | wrong |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    total: Counter[str] = Counter()
    for name, found in kept.items():
        count = Counter(value for each in found.values() for value in each.values())
        count["wrong"] = sum(map(is_wrong, found.values()))
        total += count
        lines.append(_row(f"`{name}`", count))
    return "\n".join([*lines, _row("all", total)])


def _row(name: str, count: Counter[str]) -> str:
    before = count["none"] + count["before"]
    numbers = (count["killed"], count["done"], before, count["unfinished"], count["whole"])
    return f"| {name} | {' | '.join(map(str, (*numbers, count['same'], count['wrong'])))} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("verbs", nargs="*", metavar="VERB", help=", ".join(VERBS))
    parser.add_argument("--kills", type=int, default=KILLS, help="of each verb")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--kept", type=Path, help="file of the kills so far, which are not repeated"
    )
    parser.add_argument("--minutes", type=float, default=1e9, help="stop then; go on with --kept")
    parser.add_argument("--write", type=Path, help="the page whose table is replaced")
    said = parser.parse_args()
    import torch

    import mafsar
    import mafsar.cli.watch
    import mafsar.training.loop  # once, here: the children share it

    torch.set_num_threads(1)
    del mafsar
    until = time.monotonic() + 60 * said.minutes
    kept: dict[str, dict[str, dict[str, str]]] = {}
    if said.kept is not None and said.kept.exists():
        kept = json.loads(said.kept.read_text())
    for name in said.verbs or VERBS:
        found = kept.setdefault(name, {})
        if _killed(found) >= said.kills:
            continue
        for number, what in kill(name, itertools.count(len(found)), said.seed):
            found[str(number)] = what
            if said.kept is not None:
                said.kept.write_text(json.dumps(kept))
            if is_wrong(what):
                sys.stderr.write(f"{name}, kill {number}: {what}\n")
            if _killed(found) >= said.kills or time.monotonic() > until:
                break
    missing = sum(max(0, said.kills - _killed(kept.get(name, {}))) for name in said.verbs or VERBS)
    text = table(kept)
    sys.stdout.write(f"{text}\n")
    if missing:
        sys.stderr.write(f"{missing} kills are left; run the same again with --kept\n")
    elif said.write is not None:
        write(said.write, text)
    return int(any(is_wrong(what) for found in kept.values() for what in found.values()))


def _killed(found: Mapping[str, dict[str, str]]) -> int:
    return sum(each["ended"] == "killed" for each in found.values())


def write(path: Path, text: str) -> None:
    """Puts a table between its marks in a page."""
    before, _, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    machine = f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores"
    path.write_text(
        f"{before}{BEGIN}\n{text}\n\nMeasured with {machine}.\n{END}{rest.partition(END)[2]}",
        "utf-8",
    )


if __name__ == "__main__":
    sys.exit(main())

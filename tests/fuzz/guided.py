"""Fuzzing led by coverage: libFuzzer for the native code, atheris for the parsers.

    python tests/fuzz/guided.py [TARGET …] [--runs N] [--seconds S]
    python tests/fuzz/guided.py --again TARGET FILE

A target takes bytes, which its fuzzer changes where that reaches new code. `csrc/tests/fuzz.cpp` is
built by clang with the address and undefined behaviour sanitizers; the parsers run in Python under
atheris. What a host lacks is said. An input that fails is kept in `build/fuzz`.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import mmap
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CSRC = ROOT / "csrc"
KEPT = ROOT / "build" / "fuzz"
INSTRUMENTED = ("mafsar.documents", "mafsar.data", "mafsar.runtime", "mafsar.training", "tomllib")
NATIVE = "native code"
NATIVE_WHAT = (
    "Launchers of the native module with any sizes, lengths and values, under ASan and UBSan"
)
RUNS = 4000
Parse = Callable[[bytes], object]
sys.path[:0] = [str(HERE), str(CSRC / "tests")]


def bank(folder: Path) -> tuple[Parse, list[bytes]]:
    """Banks: a whole file's bytes."""
    from doors import old_files

    from mafsar.runtime.bank.bank import read_bank

    old = old_files(folder)
    path = folder / "in.safetensors"
    whole = [(old / f"{name}.safetensors").read_bytes() for name in ("on", "off")]
    return lambda data: read_bank(_put(path, data)), whole


def bank_document(folder: Path) -> tuple[Parse, list[bytes]]:
    """What a bank says of itself: JSON."""
    from doors import old_files
    from safetensors import safe_open

    from mafsar.documents import parse_json
    from mafsar.runtime.bank.layout import check_document

    with safe_open(old_files(folder) / "on.safetensors", framework="numpy") as file:
        whole = file.metadata()["mafsar"].encode()
    return lambda data: check_document(parse_json(_text(data), "bank")), [whole]


def manifest(folder: Path) -> tuple[Parse, list[bytes]]:
    """A bundle's manifest."""
    from doors import old_files

    from mafsar.documents import parse_json
    from mafsar.runtime.engines.bundle import spec_of
    from mafsar.runtime.engines.manifest import check_manifest

    def parse(data: bytes) -> None:
        document = parse_json(_text(data), "bundle.json")
        check_manifest(document)
        spec_of(folder, document)

    return parse, [(old_files(folder) / "small.mafsar" / "bundle.json").read_bytes()]


def clip_list(folder: Path) -> tuple[Parse, list[bytes]]:
    """Lists of clips; the first byte chooses the kind."""
    from mafsar.data.clip_lists import read_clip_list

    endings = ("csv", "tsv", "txt", "jsonl")
    (folder / "a.mp4").touch()

    def parse(data: bytes) -> None:
        kind = endings[data[0] % len(endings)] if data else "csv"
        read_clip_list(_put(folder / f"in.{kind}", data[1:]))

    whole = [b"\0path,label,start,end\na.mp4,x,0,1\n", b"\1a.mp4\tx\n", b"\2a.mp4 3 1\n"]
    return parse, [*whole, b'\3{"file_name": "a.mp4", "label": "x"}\n']


def configuration(folder: Path) -> tuple[Parse, list[bytes]]:
    """A configuration of training: TOML."""
    from mafsar.training.config import TrainConfig, build_config, to_toml

    path = folder / "in.toml"
    return lambda data: build_config(_put(path, data)), [to_toml(TrainConfig(data="a")).encode()]


def split(folder: Path) -> tuple[Parse, list[bytes]]:
    """The classes of each part: JSON."""
    from mafsar.data.splits import read_split

    path = folder / "in.json"
    whole = b'{"train": ["a", "b"], "val": ["c"], "test": {"classes": ["d"]}}'
    return lambda data: read_split(_put(path, data)), [whole]


def store(folder: Path) -> tuple[Parse, list[bytes]]:
    """A packed data set: a SQLite file's bytes."""
    from doors import pictures

    from mafsar.data.folders import read_own
    from mafsar.data.pack import pack
    from mafsar.data.store import Store, StoreSettings
    from mafsar.video import write_video

    for label in ("a", "b"):
        write_video(folder / "data" / label / "0.mp4", pictures(0, 2), 10)
    whole = folder / "whole.sqlite"
    pack(read_own(folder / "data"), whole, StoreSettings(1, 32, 30), workers=1)
    path = folder / "in.sqlite"

    def parse(data: bytes) -> None:
        opened = Store(_put(path, data))
        try:
            opened.catalogue()
        finally:
            opened.close()

    return parse, [whole.read_bytes()]


def run_log(folder: Path) -> tuple[Parse, list[bytes]]:
    """A run's log and settings; the first byte chooses the file."""
    from doors import old_files

    from mafsar.training.run_folder import saved_config
    from mafsar.training.run_log import read_metrics

    whole = old_files(folder) / "run"
    run = folder / "a-run"
    shutil.copytree(whole, run)

    def parse(data: bytes) -> None:
        if data[:1] == b"\0":
            _put(run / "config.toml", data[1:])
            saved_config(run)
        else:
            _put(run / "metrics.jsonl", data[1:])
            read_metrics(run)

    named = ((b"\0", "config.toml"), (b"\1", "metrics.jsonl"))
    return parse, [first + (whole / name).read_bytes() for first, name in named]


PARSERS: dict[str, Callable[[Path], tuple[Parse, list[bytes]]]] = {
    "bank": bank, "bank document": bank_document, "manifest": manifest, "clip list": clip_list,
    "configuration": configuration, "split": split, "store": store, "run log": run_log,
}  # fmt: skip
TARGETS = (NATIVE, *PARSERS)


def missing(target: str) -> str:
    """What this host lacks for a target, or nothing."""
    if target != NATIVE:
        has = importlib.util.find_spec("atheris") is not None
        return "" if has else "atheris is not available on this host: pip install atheris"
    if not shutil.which("clang++"):
        return "clang is not available on this host: sudo apt-get install clang"
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "empty.cpp"
        source.write_text(
            'extern "C" int LLVMFuzzerTestOneInput(const char*, unsigned long) { return 0; }\n'
        )
        flags = ("-fsanitize=fuzzer,address,undefined", "-o", str(source.with_suffix("")))
        tried = subprocess.run(["clang++", *flags, source], capture_output=True, check=False)
    if tried.returncode == 0:
        return ""
    return "clang has no libFuzzer on this host: sudo apt-get install libclang-rt-dev"


def build(folder: Path) -> Path:
    """The native target."""
    from kernel_build import common_flags, compile_kernels

    checks = "address,undefined"
    flags = ["-std=c++17", "-O1", "-g", "-fno-sanitize-recover=all", "-pthread"]
    instrumented = [*flags, f"-fsanitize=fuzzer-no-link,{checks}"]
    objects = compile_kernels("clang++", instrumented, folder)
    program = folder / "fuzz"
    own = [
        *common_flags(),
        f"-fsanitize=fuzzer,{checks}",
        CSRC / "tests" / "fuzz.cpp",
        *objects,
        "-o",
        program,
    ]
    subprocess.run(["clang++", *flags, *own], check=True)
    return program


def run(target: str, runs: int, seconds: int) -> dict[str, Any]:
    """Runs a target: counts by end, the failures, the longest input in seconds, the peak in bytes."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        KEPT.mkdir(parents=True, exist_ok=True)
        command = [str(build(folder))] if target == NATIVE else [sys.executable, __file__]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MAFSAR_CACHE": f"{folder}/cache"}
        if target != NATIVE:
            command += ["--worker", target, str(folder)]
        command += [
            f"-runs={runs}", f"-max_total_time={seconds}", "-seed=1", "-timeout=10",
            "-rss_limit_mb=1024", "-print_final_stats=1", f"-artifact_prefix={KEPT}/",
        ]  # fmt: skip
        if target == NATIVE:
            command += ["-max_len=400", "-len_control=0"]
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False, cwd=folder,
            env=environment,
        )  # fmt: skip
        tried = _stat(done.stderr, "number_of_executed_units")
        refused = 0
        counts = folder / "counts"
        if counts.exists():
            refused = int.from_bytes(counts.read_bytes()[:8], "little")
    failures = []
    if done.returncode != 0:
        kind = {70: "hung", 71: "memory"}.get(done.returncode, "raised")
        said = [
            line for line in done.stderr.splitlines() if re.search(r"Error|SUMMARY|ERROR", line)
        ]
        kept = re.findall(r"written to (\S+)", done.stderr)
        failures.append((kind, f"{' | '.join(said)[:600]} {' '.join(kept)}"))
    return {
        "tried": tried, "answer": tried - refused - len(failures), "refused": refused,
        "failures": failures, "longest": _stat(done.stderr, "slowest_unit_time_sec"),
        "peak": _stat(done.stderr, "peak_rss_mb") << 20,
    }  # fmt: skip


def _stat(text: str, name: str) -> int:
    found = re.findall(rf"stat::{name}:\s+(\d+)", text)
    return int(found[-1]) if found else 0


def work(target: str, folder: Path, arguments: list[str]) -> None:
    """The process of a parser: atheris calls it until its runs or seconds are over."""
    import atheris

    with atheris.instrument_imports(include=list(INSTRUMENTED)), _quiet():
        parse, whole = PARSERS[target](folder)
    from mafsar.errors import MafsarError

    corpus = folder / "corpus"
    corpus.mkdir()
    for number, data in enumerate(whole):
        (corpus / str(number)).write_bytes(data)
    with (folder / "counts").open("w+b") as file:
        file.write(bytes(8))
        file.flush()
        count = mmap.mmap(file.fileno(), 8)

    def one(data: bytes) -> None:
        try:
            parse(data)
        except MafsarError as error:
            said = str(error)
            if "\n" in said or len(said) > 4000:
                raise ValueError(f"more than one line: {said[:300]}") from error
            count[:8] = (int.from_bytes(count[:8], "little") + 1).to_bytes(8, "little")

    longest = str(max(4096, 2 * max(map(len, whole))))
    atheris.Setup([sys.argv[0], *arguments, f"-max_len={longest}", str(corpus)], one)
    atheris.Fuzz()


@contextlib.contextmanager
def _quiet() -> Any:
    with open(os.devnull, "w") as nothing, contextlib.redirect_stdout(nothing):  # noqa: PTH123
        yield


def _put(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def _text(data: bytes) -> str:
    from mafsar.errors import InputError

    try:
        return data.decode()
    except UnicodeDecodeError:
        raise InputError("not UTF-8") from None  # as `read_text` says


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--runs", type=int, default=RUNS, help="most inputs of each target")
    parser.add_argument("--seconds", type=int, default=60, help="most time of each target")
    parser.add_argument("--again", nargs=2, metavar=("TARGET", "FILE"), help="one parser's input")
    said = parser.parse_args()
    if said.again:
        with tempfile.TemporaryDirectory() as folder:
            parse, _ = PARSERS[said.again[0]](Path(folder))
            sys.stdout.write(f"{parse(Path(said.again[1]).read_bytes())!r}\n")
        return 0
    failed = 0
    for target in said.targets or TARGETS:
        lack = missing(target)
        result = lack or run(target, said.runs, said.seconds)
        failed += bool(not lack and result["failures"])
        sys.stdout.write(f"{target}: {result}\n")
        sys.stdout.flush()
    return int(failed > 0)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        work(sys.argv[2], Path(sys.argv[3]), sys.argv[4:])
    else:
        sys.exit(main())

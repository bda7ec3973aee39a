"""What the compiler made of the CUDA kernels: registers, local memory, asynchronous copies, matrix units.

    python benchmarks/machine_code.py [--chips 75,80,90] [--write]

Compiles csrc/cuda with nvcc for each chip, without a GPU, and counts instructions in the machine
code. Needs nvcc and c++filt on PATH, and cuobjdump and nvdisasm from there or from the `triton` that
comes with torch. Spilled values and a product in half precision that is streamed without asynchronous
copies or matrix units end the program with 1.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
CHIPS = ("75", "80", "86", "87", "89", "90", "120")  # csrc/cuda/architectures.cmake
FILES = ("adapter", "match")
OUT = Path(__file__).parent / "results" / "machine-code.md"
# Of the enums Along and Prepare, in the order of a form's template arguments.
ALONG, PREPARE = ("depth", "rows"), ("", "norm", "gelu")
FORM = re.compile(
    r"StreamedForm<\((?:\w+::)*Along\)(\d), \((?:\w+::)*Prepare\)(\d), "
    r"\((?:\w+::)*Along\)(\d), \((?:\w+::)*Prepare\)(\d), (true|false)>"
)


@dataclass
class Kernel:
    """One kernel on one chip.

    Attributes:
        name: As in a table: `product x Wᵀ, norm, deep, float16`.
        registers: Registers of a thread.
        local: Instructions that read or write local memory.
        copies: Asynchronous copies from global to shared memory (LDGSTS).
        matrix: Instructions of the matrix units (HMMA).
        size: All instructions.
    """

    name: str
    registers: int = 0
    local: int = 0
    copies: int = 0
    matrix: int = 0
    size: int = 0


def tool(name: str) -> str:
    """Path of a CUDA tool, on PATH or beside triton."""
    found = shutil.which(name)
    spec = importlib.util.find_spec("triton")
    if found is None and spec is not None and spec.origin is not None:
        beside = Path(spec.origin).parent / "backends" / "nvidia" / "bin" / name
        found = str(beside) if beside.exists() else None
    if found is None:
        raise SystemExit(f"error: {name} is missing: install the CUDA toolkit or torch")
    return found


def run(*words: str, text: str | None = None) -> str:
    """Standard output of a command that must succeed."""
    return subprocess.run(words, check=True, capture_output=True, text=True, input=text).stdout


def readable(name: str) -> str:
    """A kernel's demangled name in words."""
    name = re.sub(r"^void |\((?:\w+::)*\w+Job.*$", "", name)
    name = re.sub(r"\bmafsar::(portable::)?", "", name)
    form = FORM.search(name)
    if form:
        along_a, of_a, along_b, of_b, deep = form.groups()
        product = {"00": "x Wᵀ", "01": "grad W", "11": "gradᵀ x"}[along_a + along_b]
        prepared = PREPARE[int(of_a)] or PREPARE[int(of_b)]
        words = [f"product {product}", prepared, "deep" if deep == "true" else "wide"]
        name = ", ".join(word for word in words if word) + "," + name[form.end() :].strip(",> ")
    elif "AnyForm" in name:
        name = "product, any layout," + name.partition("AnyForm,")[2].strip("> ")
    for cpp, word in (("Bfloat16", "bfloat16"), ("Float16", "float16"), ("float", "float32")):
        name = re.sub(rf"\b{cpp}\b", word, name)
    return re.sub(r",(?=\w)", ", ", name)


def kernels_of(chip: str, folder: Path) -> dict[str, Kernel]:
    """Every kernel for a chip, by its mangled name."""
    found: dict[str, Kernel] = {}
    for file in FILES:
        cubin = folder / f"{file}-{chip}.cubin"
        arch = f"arch=compute_{chip},code=sm_{chip}"
        source = str(ROOT / "csrc" / "cuda" / f"{file}.cu")
        include = f"-I{ROOT / 'csrc'}"
        run(
            "nvcc",
            "-std=c++17",
            "-O3",
            "-gencode",
            arch,
            include,
            "-cubin",
            source,
            "-o",
            str(cubin),
        )
        usage = run(tool("cuobjdump"), "-res-usage", str(cubin))
        for name, registers in re.findall(r"Function (\S+):\s+REG:(\d+)", usage):
            found[name] = Kernel(name, registers=int(registers))
        kernel = None
        for line in run(tool("cuobjdump"), "-sass", str(cubin)).splitlines():
            start = re.search(r"Function : (\S+)", line)
            if start:
                kernel = found[start[1]]
            instruction = re.match(r"\s+/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+ )?([A-Z0-9_.]+)", line)
            if kernel is None or not instruction or instruction[1] == "NOP":
                continue
            kernel.size += 1
            kernel.local += instruction[1].startswith(("LDL", "STL"))
            kernel.copies += instruction[1].startswith("LDGSTS")
            kernel.matrix += instruction[1].startswith("HMMA")
    names = run("c++filt", text="\n".join(found)).splitlines()
    for kernel, name in zip(found.values(), names, strict=True):
        kernel.name = readable(name)
    return found


def problems(chip: str, kernels: list[Kernel]) -> list[str]:
    """What must not be in a streamed product in half precision."""
    wrong = []
    for kernel in kernels:
        if not re.search(r", (wide|deep), b?float16$", kernel.name):
            continue
        if kernel.local:
            wrong.append(f"sm_{chip} {kernel.name}: uses local memory")
        # 7.5 has neither the copies nor bfloat16.
        if chip != "75" and not (kernel.copies and kernel.matrix):
            wrong.append(f"sm_{chip} {kernel.name}: no asynchronous copies or no matrix units")
    return wrong


def table(chip: str, kernels: list[Kernel]) -> list[str]:
    """Lines of Markdown."""
    lines = [
        f"## sm_{chip}",
        "",
        "| kernel | registers | local memory | LDGSTS | HMMA | instructions |",
        "|---|---|---|---|---|---|",
    ]
    for kernel in sorted(kernels, key=lambda k: k.name):
        counts = (kernel.registers, kernel.local, kernel.copies, kernel.matrix, kernel.size)
        lines.append(f"| {kernel.name} | {' | '.join(map(str, counts))} |")
    return [*lines, ""]


def main() -> int:
    """Compile, count, print, and keep the tables with --write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--chips", default=",".join(CHIPS))
    parser.add_argument("--jobs", type=int, default=2, help="compilers at a time")
    parser.add_argument("--write", action="store_true", help=f"keep the tables in {OUT.name}")
    options = parser.parse_args()
    chips = options.chips.split(",")
    version = run("nvcc", "--version").strip().splitlines()[-1]
    lines = [
        "# Machine code of the CUDA kernels",
        "",
        "Made by `python benchmarks/machine_code.py --write`; compiled, not run.",
        "",
        f"- {version}",
        "- local memory: instructions that read or write it; LDGSTS: asynchronous copies to shared memory; HMMA: matrix units",
        "",
    ]
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(options.jobs) as pool:
        for chip, found in zip(
            chips, pool.map(lambda chip: kernels_of(chip, Path(folder)), chips), strict=True
        ):
            lines += table(chip, list(found.values()))
            wrong += problems(chip, list(found.values()))
    print("\n".join(lines))
    if options.write:
        OUT.write_text("\n".join(lines), encoding="utf-8")
    for line in wrong:
        print(f"error: {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())

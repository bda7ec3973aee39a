"""What the compiler made of the CUDA kernels: registers, spills, copies, matrix units, occupancy.

    python benchmarks/machine_code.py [--chips 75,80,90] [--write]

Compiles csrc/cuda with nvcc for each chip, without a GPU, and counts instructions in the machine
code. The shared memory of a block is what the launchers ask for (benchmarks/launches.cpp); how many
blocks a multiprocessor holds follows from the limits of the chip. Needs nvcc, g++ and c++filt on PATH,
and cuobjdump and nvdisasm from there or from the `triton` that comes with torch.

The program ends with 1 if a kernel spills registers or asks for more shared memory than a chip has,
or if a product in half precision is streamed without asynchronous copies or matrix units.
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
# Those of csrc/cuda/architectures.cmake, and 10.0, which runs the portable code of 9.0.
CHIPS = ("75", "80", "86", "87", "89", "90", "100", "120")
FILES = ("adapter", "match")
OUT = Path(__file__).parent / "results" / "machine-code.md"
# Of the enums Along and Prepare, in the order of a form's template arguments.
ALONG, PREPARE = ("depth", "rows"), ("", "norm", "gelu")
FORM = re.compile(
    r"StreamedForm<\((?:\w+::)*Along\)(\d), \((?:\w+::)*Prepare\)(\d), "
    r"\((?:\w+::)*Along\)(\d), \((?:\w+::)*Prepare\)(\d), (true|false)>"
)
WARP, WARP_REGISTERS, REGISTERS = 32, 256, 65536  # the registers of a warp come in steps of 256


@dataclass(frozen=True)
class Chip:
    """Limits of a multiprocessor, from the table of compute capabilities in the CUDA guide.

    Attributes:
        warps: Most warps at once.
        blocks: Most blocks at once.
        shared: Bytes of shared memory.
        shared_of_block: Most of it for one block.
        reserved: What the system takes of it for each block.
    """

    warps: int
    blocks: int
    shared: int
    shared_of_block: int
    reserved: int = 1024


KIB = 1024
LIMITS = {
    "75": Chip(32, 16, 64 * KIB, 64 * KIB, 0),
    "80": Chip(64, 32, 164 * KIB, 163 * KIB),
    "86": Chip(48, 16, 100 * KIB, 99 * KIB),
    "87": Chip(48, 16, 164 * KIB, 163 * KIB),
    "89": Chip(48, 24, 100 * KIB, 99 * KIB),
    "90": Chip(64, 32, 228 * KIB, 227 * KIB),
    "100": Chip(64, 32, 228 * KIB, 227 * KIB),
    "120": Chip(48, 24, 100 * KIB, 99 * KIB),
}


@dataclass
class Kernel:
    """One kernel on one chip.

    Attributes:
        name: As in a table: `product x Wᵀ, norm, deep, float16`.
        registers: Registers of a thread.
        spilled: Bytes that registers are spilled to and read back from.
        threads: Threads of a block.
        shared: Bytes of shared memory of a block: of the largest sizes for the adapter's kernels, of
            8 × 8 frames for matching.
        shared_at_most: With the most frames. A chip that has less uses the twin for them.
        local: Instructions that read or write local memory.
        copies: Asynchronous copies from global to shared memory (LDGSTS).
        matrix: Instructions of the matrix units (HMMA).
        size: All instructions.
    """

    name: str
    registers: int = 0
    spilled: int = 0
    threads: int = 128
    shared: int = 0
    shared_at_most: int = 0
    local: int = 0
    copies: int = 0
    matrix: int = 0
    size: int = 0

    def blocks(self, chip: Chip) -> int:
        """How many blocks a multiprocessor holds at once."""
        warps = self.threads // WARP
        of_warp = -(-self.registers * WARP // WARP_REGISTERS) * WARP_REGISTERS
        by_shared = chip.shared // max(1, self.shared + chip.reserved)
        by_registers = REGISTERS // of_warp // warps if of_warp else chip.blocks
        return min(chip.blocks, chip.warps // warps, by_registers, by_shared)


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


def launches(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Kernel's name → threads of a block, its shared memory, and that with the most frames."""
    program = str(folder / "launches")
    source = str(ROOT / "benchmarks" / "launches.cpp")
    run("g++", "-std=c++17", f"-I{ROOT / 'csrc'}", source, "-o", program)
    found: dict[str, tuple[int, int, int]] = {}
    for line in run(program).splitlines():
        name, threads, shared, at_most = line.split("|")
        if at_most:
            found[name] = (*found[name][:2], int(shared))
        else:
            found[name] = (int(threads), int(shared), int(shared))
    return found


def kernels_of(chip: str, folder: Path) -> dict[str, Kernel]:
    """Every kernel for a chip, by its mangled name."""
    found: dict[str, Kernel] = {}
    for file in FILES:
        cubin = folder / f"{file}-{chip}.cubin"
        arch = f"arch=compute_{chip},code=sm_{chip}"
        source = str(ROOT / "csrc" / "cuda" / f"{file}.cu")
        include = f"-I{ROOT / 'csrc'}"
        words = ["nvcc", "-std=c++17", "-O3", "-gencode", arch, include, "-Xptxas", "-v"]
        words += ["-cubin", source, "-o", str(cubin)]
        said = subprocess.run(words, check=True, capture_output=True, text=True).stderr
        for name, stores, loads, registers in re.findall(
            r"Function properties for (\S+)\n.*?(\d+) bytes spill stores, (\d+) bytes spill loads\n"
            r".*?Used (\d+) registers",
            said,
        ):
            found[name] = Kernel(name, int(registers), int(stores) + int(loads))
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
    started = launches(folder)
    for kernel, name in zip(found.values(), names, strict=True):
        kernel.name = readable(name)
        kernel.threads, kernel.shared, kernel.shared_at_most = started[kernel.name]
    return found


def problems(chip: str, kernels: list[Kernel]) -> list[str]:
    """What must not be: see the top of this file."""
    wrong = []
    for kernel in kernels:
        if kernel.spilled:
            wrong.append(f"sm_{chip} {kernel.name}: spills {kernel.spilled} bytes of registers")
        if kernel.shared > LIMITS[chip].shared_of_block:
            wrong.append(
                f"sm_{chip} {kernel.name}: needs {kernel.shared} bytes of shared memory, a block "
                f"has {LIMITS[chip].shared_of_block}"
            )
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
        "| kernel | registers | spilled | shared | blocks | warps | local | LDGSTS | HMMA | size |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    limits = LIMITS[chip]
    for kernel in sorted(kernels, key=lambda k: k.name):
        blocks = kernel.blocks(limits)
        warps = f"{blocks * kernel.threads // WARP} of {limits.warps}"
        needs = str(kernel.shared)
        if kernel.shared_at_most > limits.shared_of_block:
            needs += f" ({kernel.shared_at_most} of 64 × 64 frames: the twin)"
        code = (kernel.local, kernel.copies, kernel.matrix, kernel.size)
        cells = (kernel.name, kernel.registers, kernel.spilled, needs, blocks, warps, *code)
        lines.append(f"| {' | '.join(map(str, cells))} |")
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
        "- spilled: bytes of registers that are written to memory and read back",
        "- shared: shared memory of a block, for matching of 8 × 8 frames and attention over 32",
        "- blocks, warps: at once on a multiprocessor, by the limits of the chip",
        "- local: instructions that read or write local memory; size: all instructions",
        "- LDGSTS: asynchronous copies to shared memory; HMMA: matrix units",
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

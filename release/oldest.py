"""The lowest versions that pyproject.toml allows, as requirements: what `make test-oldest` installs.

python release/oldest.py [EXTRA …]
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"


def oldest(requirement: str) -> str:
    """`numpy>=1.24; marker` → `numpy~=1.24.0; marker`: the newest patch of the lowest release."""
    wanted, _, marker = requirement.partition(";")
    name, _, version = wanted.partition(">=")
    numbers = re.findall(r"\d+", version)
    numbers += ["0"] * (3 - len(numbers))
    return f"{name.strip()}~={'.'.join(numbers[:3])}" + (f"; {marker.strip()}" if marker else "")


def main() -> None:
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    needed = list(project["dependencies"])
    for extra in sys.argv[1:]:
        needed += project["optional-dependencies"][extra]
    sys.stdout.write("\n".join(map(oldest, needed)) + "\n")


if __name__ == "__main__":
    main()

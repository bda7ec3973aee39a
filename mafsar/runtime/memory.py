"""What this process takes and what the machine has, in bytes."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

_STATUS, _MEMINFO = Path("/proc/self/status"), Path("/proc/meminfo")


def peak_bytes() -> int:
    """Most memory that this program has held at once.

    Not `ru_maxrss` where Linux says better: a child's begins with what its parent held when it was
    started, so a small builder started by a large exporter would report the exporter.
    """
    found = read_sizes(_STATUS).get("VmHWM")
    if found is not None:
        return found
    usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return usage if sys.platform == "darwin" else usage * 1024


def read_sizes(path: Path = _MEMINFO) -> dict[str, int]:
    """Sizes by name of a file of `Name:   123 kB` lines; empty where there is no such file."""
    sizes = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    for line in lines:
        name, _, rest = line.partition(":")
        words = rest.split()
        if len(words) == 2 and words[1] == "kB" and words[0].isdigit():
            sizes[name] = int(words[0]) * 1024
    return sizes

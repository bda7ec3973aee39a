"""Few-shot action recognition with an adapted CLIP (arXiv 2308.01532).

Names are loaded when first used, so that ``import mafsar`` costs nothing and never imports torch.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mafsar.errors import MafsarError
    from mafsar.export.job import export_model
    from mafsar.runtime.bank.bank import Bank
    from mafsar.runtime.bank.enroll import enroll
    from mafsar.runtime.engines.loading import list_models, load_model
    from mafsar.runtime.evaluation.evaluate import evaluate
    from mafsar.runtime.match.matcher import Match
    from mafsar.training.loop import train

# ONNX Runtime of 1.29 and newer reports to its maker, and keeps an identity in the user's cache,
# unless this stands before it is loaded. Who wants that sets it to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# The build reads it from here; asking the installed metadata for it takes tens of milliseconds.
__version__ = "0.1.0"

_HOMES = {
    "Bank": "mafsar.runtime.bank.bank",
    "MafsarError": "mafsar.errors",
    "Match": "mafsar.runtime.match.matcher",
    "enroll": "mafsar.runtime.bank.enroll",
    "evaluate": "mafsar.runtime.evaluation.evaluate",
    "export_model": "mafsar.export.job",
    "list_models": "mafsar.runtime.engines.loading",
    "load_model": "mafsar.runtime.engines.loading",
    "train": "mafsar.training.loop",
}

__all__ = [
    "Bank",
    "MafsarError",
    "Match",
    "__version__",
    "enroll",
    "evaluate",
    "export_model",
    "list_models",
    "load_model",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mafsar' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

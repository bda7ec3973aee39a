"""Few-shot action recognition with an adapted CLIP (arXiv 2308.01532).

Names are loaded when first used, so that ``import mafsar`` costs nothing and never imports torch.
"""

from __future__ import annotations

import importlib
import os

from mafsar.version import __version__

TYPE_CHECKING = False  # the module typing takes longer to import than all the rest here
if TYPE_CHECKING:
    from typing import Any

    from mafsar.choices import Scoring
    from mafsar.errors import (
        ArgumentTypeError,
        InputError,
        LostProcessError,
        MafsarError,
        MismatchError,
        MissingError,
        TrainingError,
        UnavailableError,
        VideoError,
    )
    from mafsar.export.job import export_model
    from mafsar.runtime.bank.bank import Bank, read_bank
    from mafsar.runtime.bank.edit import merge_banks
    from mafsar.runtime.bank.enroll import enroll
    from mafsar.runtime.encoder import Encoder, Features, ModelSpec
    from mafsar.runtime.engines.loading import list_models, load_model
    from mafsar.runtime.evaluation.evaluate import evaluate
    from mafsar.runtime.live.events import Event, Status
    from mafsar.runtime.live.watch import Watch, watch
    from mafsar.runtime.match.answers import Match
    from mafsar.runtime.match.matcher import Matcher, match
    from mafsar.training.config import TrainConfig
    from mafsar.training.loop import train
    from mafsar.video import Geometry

# ONNX Runtime 1.29 and newer reports usage to its maker, and keeps an identity in the user's cache,
# unless this is set before it is loaded. Set it to 0 to allow telemetry.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_HOMES = {
    "ArgumentTypeError": "mafsar.errors",
    "Bank": "mafsar.runtime.bank.bank",
    "Encoder": "mafsar.runtime.encoder",
    "Event": "mafsar.runtime.live.events",
    "Features": "mafsar.runtime.encoder",
    "Geometry": "mafsar.video",
    "InputError": "mafsar.errors",
    "LostProcessError": "mafsar.errors",
    "MafsarError": "mafsar.errors",
    "Match": "mafsar.runtime.match.answers",
    "Matcher": "mafsar.runtime.match.matcher",
    "MismatchError": "mafsar.errors",
    "MissingError": "mafsar.errors",
    "ModelSpec": "mafsar.runtime.encoder",
    "Scoring": "mafsar.choices",
    "Status": "mafsar.runtime.live.events",
    "TrainConfig": "mafsar.training.config",
    "TrainingError": "mafsar.errors",
    "UnavailableError": "mafsar.errors",
    "VideoError": "mafsar.errors",
    "Watch": "mafsar.runtime.live.watch",
    "enroll": "mafsar.runtime.bank.enroll",
    "evaluate": "mafsar.runtime.evaluation.evaluate",
    "export_model": "mafsar.export.job",
    "list_models": "mafsar.runtime.engines.loading",
    "load_model": "mafsar.runtime.engines.loading",
    "match": "mafsar.runtime.match.matcher",
    "merge_banks": "mafsar.runtime.bank.edit",
    "read_bank": "mafsar.runtime.bank.bank",
    "train": "mafsar.training.loop",
    "watch": "mafsar.runtime.live.watch",
}

__all__ = [
    "ArgumentTypeError",
    "Bank",
    "Encoder",
    "Event",
    "Features",
    "Geometry",
    "InputError",
    "LostProcessError",
    "MafsarError",
    "Match",
    "Matcher",
    "MismatchError",
    "MissingError",
    "ModelSpec",
    "Scoring",
    "Status",
    "TrainConfig",
    "TrainingError",
    "UnavailableError",
    "VideoError",
    "Watch",
    "__version__",
    "enroll",
    "evaluate",
    "export_model",
    "list_models",
    "load_model",
    "match",
    "merge_banks",
    "read_bank",
    "train",
    "watch",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mafsar' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)

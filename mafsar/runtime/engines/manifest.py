"""What a bundle's manifest may hold, as a table."""

from __future__ import annotations

from typing import Any

from mafsar.choices import NONE_STATISTICS
from mafsar.documents import (
    anything,
    either,
    flag,
    items,
    number,
    one_of,
    optional,
    record,
    sha256,
    table,
    text,
    whole,
)
from mafsar.errors import InputError
from mafsar.model.config_layout import MOST_FRAMES, SCORING

NONE_PRIOR = {
    "weights": record({name: number(least=-1e6, most=1e6) for name in NONE_STATISTICS}),
    "noise": whole(0, 1000),
    "strength": number(above=0.0, most=1e9),
    "views": either(one_of("raw"), number(least=0.0, most=1.0)),
    "lam": number(least=1e-6, most=1e6),
}
PROMPTS = items(text(longest=1000), 1, 1000)
PREPROCESS = {
    "size": whole(1, 8192),
    "resample": text(longest=100),
    "mean": items(number(least=-10.0, most=10.0), 3, 3),
    "std": items(number(above=0.0, most=10.0), 3, 3),
}
_NAME = text(pattern=r"\s*\S[\s\S]*", longest=4096, wanted="a text that is not empty")
_FILE_NAME = r"[^/\\\0]{1,255}"
_MANIFEST = record(
    {
        "schema": whole(1, 1),
        "name": _NAME,
        "backbone": _NAME,
        "adapters": one_of("none", "trained"),
        "frames": whole(1, MOST_FRAMES),
        "image_size": whole(1, 8192),
        "embed_dim": whole(1, 1 << 16),
        "parameters_total": whole(0, 1 << 50),
        "parameters_tunable": whole(0, 1 << 50),
        "preprocess": record(PREPROCESS, open_to_more=True),
        "text": flag,
        "prompts": PROMPTS,
        "known_words": optional(items(text(longest=1000), 0, 1_000_000)),
        "match": SCORING,
        "weights_sha256": sha256,
        "files": table(
            record({"sha256": sha256, "bytes": whole(0, 1 << 62)}, open_to_more=True),
        ),
    },
    {
        "fully_tuned": flag,
        "notice": optional(text()),
        "logit_scale": number(),
        "tokenizer": optional(
            record(
                {"file": text(pattern=_FILE_NAME), "context_length": whole(1, 1 << 16)},
                {"cleaning": one_of("clip", "none")},
                open_to_more=True,
            )
        ),
        "none": record({**NONE_PRIOR, "file": text(pattern=_FILE_NAME)}, open_to_more=True),
        "temporal": anything,
    },
    open_to_more=True,
)


def check_manifest(manifest: Any) -> None:
    """Checks a manifest against its table, and its entries against each other.

    Raises:
        InputError: An entry is missing or of another type or range; it has text and no tokenizer,
            or its pre-processing makes pictures of another size than its graphs take.
    """
    _MANIFEST(manifest, "")
    if manifest["text"] and not manifest.get("tokenizer"):
        raise InputError("tokenizer is missing")
    if manifest["preprocess"]["size"] != manifest["image_size"]:
        raise InputError(
            f"preprocess.size must be image_size ({manifest['image_size']}), got "
            f"{manifest['preprocess']['size']}"
        )

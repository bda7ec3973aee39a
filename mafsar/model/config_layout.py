"""What the configuration of a model may hold, as tables: of our own files and of open_clip's.

Bounds are wide: they refuse what no file of weights can fit, before anything is built of it.
"""

from __future__ import annotations

from mafsar.choices import METRICS
from mafsar.documents import (
    Check,
    anything,
    either,
    flag,
    items,
    number,
    one_of,
    optional,
    record,
    text,
    whole,
)

MOST_FRAMES = 4096
_PRIOR = record(
    {"mean": items(number(least=-1e6, most=1e6), 1, 1 << 16), "floor": number(above=0.0, most=1e6)}
)
SCORING_ENTRIES: dict[str, Check] = {
    "metric": one_of(*METRICS),
    "lam": number(least=1e-6, most=1e6),
    "alpha": number(least=0.0, most=1.0),
    "visual_scale": number(above=0.0, most=1e6),
    "text_scale": number(least=0.0, most=1e6),
}
SCORING_EXTRA: dict[str, Check] = {
    "views": either(one_of("raw"), number(least=0.0, most=1.0)),
    "view_prior": optional(record({"query": _PRIOR, "support": _PRIOR})),
}
SCORING = record(SCORING_ENTRIES, SCORING_EXTRA)

_WIDTH, _LAYERS, _HEADS = whole(1, 1 << 16), whole(1, 1000), whole(1, 1 << 12)
_PIXELS = whole(1, 8192)
_RATIO = number(above=0.0, most=64.0)
_ACTIVATION = one_of("quickgelu", "gelu")
_THREE = {
    "mean": items(number(least=-10.0, most=10.0), 3, 3),
    "std": items(number(above=0.0, most=10.0), 3, 3),
}


def _known(entries: dict[str, Check]) -> Check:
    """Entries that may be there; what is missing or unknown is said where they are taken."""
    return record({}, entries, open_to_more=True)


CONFIG = _known(
    {
        "name": text(pattern=r"[^\0]*", longest=4096),
        "embed_dim": _WIDTH,
        "vision": _known(
            {
                "width": _WIDTH,
                "layers": _LAYERS,
                "heads": _HEADS,
                "patch_size": _PIXELS,
                "image_size": _PIXELS,
                "mlp_ratio": _RATIO,
                "activation": _ACTIVATION,
                "stem": optional(text(longest=100)),
                "stages": items(_LAYERS, 4, 4),
                "head_width": _WIDTH,
            }
        ),
        "text": _known(
            {
                "width": _WIDTH,
                "layers": _LAYERS,
                "heads": _HEADS,
                "context_length": whole(1, 1 << 16),
                "vocab_size": whole(1, 1 << 24),
                "mlp_ratio": _RATIO,
                "activation": _ACTIVATION,
            }
        ),
        "frames": whole(1, MOST_FRAMES),
        "adapters": optional(
            _known(
                {
                    "ratio": number(above=0.0, most=1.0),
                    "joint_scale": number(least=-1e6, most=1e6),
                    **dict.fromkeys(("gta", "lma", "lma_text", "joint", "temporal", "tpcm"), flag),
                    "tpcm_heads": _HEADS,
                }
            )
        ),
        "fully_tuned": flag,
        "match": _known(SCORING_ENTRIES | SCORING_EXTRA),
        "prompts": items(text(longest=1000), 1, 1000),
        **_THREE,
    }
)
"""Of `ModelConfig.to_json`."""

_OPEN_CLIP_VISION = _known(
    {
        "width": _WIDTH,
        "layers": either(items(_LAYERS, 4, 4), _LAYERS),
        "head_width": _WIDTH,
        "patch_size": optional(_PIXELS),
        "image_size": either(items(_PIXELS, 2, 2), _PIXELS),
        "mlp_ratio": _RATIO,
    }
)
_OPEN_CLIP_TEXT = _known(
    {
        "width": _WIDTH,
        "layers": _LAYERS,
        "heads": _HEADS,
        "context_length": whole(1, 1 << 16),
        "vocab_size": whole(1, 1 << 24),
        "mlp_ratio": _RATIO,
    }
)
_MODEL = {"embed_dim": _WIDTH, "vision_cfg": _known({}), "text_cfg": _known({})}
OPEN_CLIP = record(_MODEL, {"quick_gelu": anything}, open_to_more=True)
OPEN_CLIP_PIXELS = _known(dict(_THREE))


def check_open_clip_towers(vision: object, text_tower: object) -> None:
    """Checks the numbers of two towers that are known to be of CLIP's own kinds.

    Raises:
        InputError: A number is of another type or range.
    """
    _OPEN_CLIP_VISION(vision, "vision_cfg")
    _OPEN_CLIP_TEXT(text_tower, "text_cfg")

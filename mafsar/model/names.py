"""Names of models as a user writes them, and of the files that hold a model (no torch).

Only the form of a name such as `vit-b-32`, `NAME:TAG` or `hf-hub:…` is read here; the code that
loads the model finds out whether the tag or the file exists.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mafsar.errors import InputError
from mafsar.files import exists

WeightSource = Literal["shipped", "pretrained", "random", "file", "hf-hub", "local-dir"]

# Short names and the open_clip configurations behind them; their weights' tag is `openai`.
OPEN_CLIP_NAMES = {
    "vit-b-32": "ViT-B-32-quickgelu",
    "vit-b-16": "ViT-B-16-quickgelu",
    "vit-l-14": "ViT-L-14-quickgelu",
    "rn50": "RN50-quickgelu",
}
SHIPPED = "tiny"
BUNDLE_SUFFIX = ".mafsar"
MANIFEST = "bundle.json"  # a folder that holds it is a bundle
TOKENIZER_FILE = "tokenizer.json"  # of a bundle
ADAPTERS_FILE = "adapters.safetensors"  # a folder that holds it is a run folder
SHIPPED_BUNDLE = Path(__file__).resolve().parent.parent / "assets" / f"{SHIPPED}{BUNDLE_SUFFIX}"
_WEIGHT_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")


@dataclass(frozen=True)
class ModelName:
    """A model's name in its parts.

    Attributes:
        base: A short name (`vit-b-32`, `tiny`), an open_clip name (`ViT-B-32`), or empty for
            `hf-hub:` and `local-dir:`.
        source: Where the weights come from.
        value: The tag, path or hub name; empty for `random` and `shipped`.
    """

    base: str
    source: WeightSource
    value: str = ""

    def __str__(self) -> str:
        if self.source in ("hf-hub", "local-dir"):
            return f"{self.source}:{self.value}"
        if self.source == "shipped":
            return self.base
        return f"{self.base}:{'random' if self.source == 'random' else self.value}"

    @property
    def open_clip(self) -> str:
        """The base as open_clip spells it."""
        return OPEN_CLIP_NAMES.get(self.base, self.base)


def known_names() -> tuple[str, ...]:
    """The short names, the shipped model first."""
    return (SHIPPED, *OPEN_CLIP_NAMES)


def given_path(name: str) -> Path | None:
    """What a model's name is a path of, or None where nothing is there.

    A short name (`tiny`, `vit-b-16`) stands for its model, whatever lies in the working folder; a
    folder of that name is `./tiny`.
    """
    path = Path(name).expanduser()
    return path if name not in known_names() and exists(path) else None


def parse_model_name(name: str) -> ModelName:
    """Reads a model name.

    Args:
        name: `tiny`, a short name, `NAME:TAG`, `NAME:random`, `NAME:/path/weights.safetensors`,
            `hf-hub:OWNER/NAME` or `local-dir:FOLDER`; NAME is a short or an open_clip name.

    Raises:
        InputError: Another form; the message suggests the nearest known name.
    """
    base, colon, value = name.partition(":")
    if base in ("hf-hub", "local-dir"):
        if not value:
            raise InputError(
                f"model {name!r}: nothing follows {base}:; give a name or folder after it"
            )
        return ModelName("", base, value)  # type: ignore[arg-type]
    base = _check_base(base, whole=name, tagged=bool(colon))
    if not colon:
        return (
            ModelName(base, "shipped")
            if base == SHIPPED
            else ModelName(base, "pretrained", "openai")
        )
    if not value:
        raise InputError(
            f"model {name!r}: nothing follows the colon; give a tag, random, or a weights file"
        )
    if value == "random":
        return ModelName(base, "random")
    if "/" in value or "\\" in value or value.startswith("~") or value.endswith(_WEIGHT_SUFFIXES):
        return ModelName(base, "file", str(Path(value).expanduser()))
    if base == SHIPPED:
        raise InputError(
            f"model {name!r}: {SHIPPED} has no tags; use {SHIPPED}, {SHIPPED}:random or "
            f"{SHIPPED}:/path/weights.safetensors"
        )
    return ModelName(base, "pretrained", value)


def _check_base(base: str, *, whole: str, tagged: bool) -> str:
    if base in known_names():
        return base
    lower = base.lower()
    # Names of open_clip itself have capital letters and need a tag, a path or `random`.
    if tagged and base and base != lower:
        return base
    near = difflib.get_close_matches(lower, known_names(), n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known_names())}"
    if base != lower and near:
        hint += f" (an open_clip name needs a tag: {base}:TAG)"
    raise InputError(f"unknown model {whole!r}; {hint}")


def backbone(name: str) -> str:
    """The part of a model's name that names its towers: `vit-b-32` of `vit-b-32:random`."""
    return name if name.startswith(("hf-hub:", "local-dir:")) else name.partition(":")[0]


def graph_file(branch: str, precision: str = "fp32") -> str:
    """File name of a graph in a bundle.

    Args:
        branch: "query", "support" or "text". The text tower has one graph for all precisions.
        precision: "fp32", "fp16" or "int8".
    """
    return "text.onnx" if branch == "text" else f"{branch}-{precision}.onnx"


def weights_file(precision: str) -> str:
    """File name of the weights that a bundle's graphs of one precision share."""
    return f"weights-{precision}.bin"

"""The configuration of a model as frozen dataclasses, and exact parameter counts.

Nothing here imports torch, so that edge devices can read and count models.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from mafsar.choices import FROZEN_WEIGHT, VIEWS_LAM, Scoring, ViewPrior
from mafsar.errors import InputError
from mafsar.model.config_layout import CONFIG
from mafsar.model.names import ModelName, known_names, parse_model_name
from mafsar.model.photo_table import PHOTO_SIZE, PhotoConfig
from mafsar.model.resnet_config import ResNetConfig
from mafsar.model.stem_table import STEM_CHANNELS, STEM_NAMES, STEM_STRIDE, stem_parameters

__all__ = [
    "AdapterConfig",
    "ModelConfig",
    "ModelName",
    "PhotoConfig",
    "ResNetConfig",
    "TextConfig",
    "VisionConfig",
    "named_config",
    "parameter_counts",
    "parse_model_name",
]

Activation = Literal["quickgelu", "gelu"]

# Pixel statistics of CLIP's training data, red, green, blue, for pixels in 0–1.
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
# The stem was trained on (pixel - 127) / 128.
STEM_MEAN, STEM_STD = (127 / 255,) * 3, (128 / 255,) * 3


@dataclass(frozen=True)
class VisionConfig:
    """A vision transformer with a class token."""

    width: int  # D, token width
    layers: int
    heads: int
    patch_size: int  # pixels
    image_size: int  # pixels, square
    mlp_ratio: float = 4.0
    activation: Activation = "quickgelu"  # of the MLP; OpenAI's weights need QuickGELU
    stem: str | None = None  # frozen convolutions whose maps the patch embedding reads

    def __post_init__(self) -> None:
        _check_tower("vision", self.width, self.heads, self.activation)
        if self.stem is not None and self.stem not in STEM_NAMES:
            raise InputError(f"vision.stem must be {' or '.join(STEM_NAMES)}, got {self.stem!r}")
        if self.stem and self.patch_size != STEM_STRIDE:
            raise InputError(
                f"vision.patch_size must be the stem's stride {STEM_STRIDE}, got {self.patch_size}"
            )
        if self.image_size % self.patch_size:
            raise InputError(
                f"vision.image_size must be a multiple of patch_size {self.patch_size}, "
                f"got {self.image_size}"
            )

    @property
    def patches(self) -> int:
        """N, patches of one frame."""
        return (self.image_size // self.patch_size) ** 2

    @property
    def mlp_width(self) -> int:
        """Hidden width of a block's MLP."""
        return int(self.width * self.mlp_ratio)


@dataclass(frozen=True)
class TextConfig:
    """A causal text transformer; its output is taken at the end token, the highest id of a sentence."""

    width: int
    layers: int
    heads: int
    context_length: int = 77  # tokens
    vocab_size: int = 49408
    mlp_ratio: float = 4.0
    activation: Activation = "quickgelu"

    def __post_init__(self) -> None:
        _check_tower("text", self.width, self.heads, self.activation)

    @property
    def mlp_width(self) -> int:
        """Hidden width of a block's MLP."""
        return int(self.width * self.mlp_ratio)


@dataclass(frozen=True)
class AdapterConfig:
    """The tuned parts; each can be switched off."""

    ratio: float = 0.25  # adapter width h = ratio · D
    joint_scale: float = 0.5  # s, the factor of the joint adapter
    gta: bool = True  # the temporal token of global temporal adaptation, and Adapter_T
    lma: bool = True  # Adapter_M after the attention inside a frame
    lma_text: bool = True  # the text token in the support branch, and TextFC
    joint: bool = True  # Adapter_J parallel to the MLP
    temporal: bool = True  # the learned temporal embedding
    tpcm: bool = True  # the prototype module
    tpcm_heads: int = 8

    def __post_init__(self) -> None:
        if not 0 < self.ratio <= 1:
            raise InputError(f"adapters.ratio must be in (0, 1], got {self.ratio}")

    def prototypes_only(self) -> AdapterConfig:
        """The prototype module without the adapters of blocks, as a ResNet needs it."""
        off = dict.fromkeys(("gta", "lma", "lma_text", "joint", "temporal"), False)
        return dataclasses.replace(self, **off)


@dataclass(frozen=True)
class ModelConfig:
    """One model: two towers, their adapters (None: plain frozen CLIP), prompts and pixels."""

    name: str
    embed_dim: int  # of the joint embedding
    vision: VisionConfig  # or a ResNetConfig; code that uses tokens runs for the former only
    text: TextConfig
    frames: int = 8  # T; fixed by the model
    adapters: AdapterConfig | None = field(default_factory=AdapterConfig)
    fully_tuned: bool = False  # the vision tower's own weights are tuned
    match: Scoring = field(default_factory=Scoring)
    prompts: tuple[str, ...] = ("a photo of {}",)
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD
    photo: PhotoConfig | None = None  # frozen embeddings beside the tower's

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise InputError(f"frames must be ≥ 1, got {self.frames}")
        for prompt in self.prompts:
            if prompt.count("{}") != 1:
                raise InputError(f"each prompt must contain one {{}}, got {prompt!r}")
        if not self.prompts:
            raise InputError("prompts must not be empty")
        if self.photo and (not self.vision.stem or 2 * self.vision.image_size != PHOTO_SIZE):
            raise InputError(
                f"photo needs a vision tower with a stem and pictures of {PHOTO_SIZE // 2} pixels"
            )
        adapters = self.adapters
        if adapters and not self.has_tokens and adapters != adapters.prototypes_only():
            raise InputError(
                f"{self.name}: a ResNet has no tokens to adapt; it is fully tuned, with only the "
                "prototype module added"
            )
        if adapters and self.has_tokens and self.adapter_width < 1:
            raise InputError(
                f"adapters.ratio must give a width of 1 or more, got {adapters.ratio:g} of "
                f"{self.vision.width}"
            )
        if adapters and adapters.tpcm and self.embed_dim % adapters.tpcm_heads:
            raise InputError(
                f"embed_dim must be divisible by the {adapters.tpcm_heads} heads of the prototype "
                f"module, got {self.embed_dim}"
            )

    @property
    def has_tokens(self) -> bool:
        """Whether the vision tower is a transformer, whose blocks can be adapted."""
        return isinstance(self.vision, VisionConfig)

    @property
    def feature_dim(self) -> int:
        """E, numbers of a frame's feature: the joint embedding, and the photo embedding behind it."""
        return self.embed_dim + (self.photo.width if self.photo else 0)

    @property
    def input_size(self) -> int:
        """S, the side of the frames that the network reads, pixels."""
        return PHOTO_SIZE if self.photo else self.vision.image_size

    @property
    def adapter_width(self) -> int:
        """h, the hidden width of an adapter; 0 without adapters."""
        return int(self.vision.width * self.adapters.ratio) if self.adapters else 0

    def tunable(self) -> ModelConfig:
        """The configuration that training would use; for a plain CLIP, adapters are added."""
        if self.adapters or self.fully_tuned:
            return self
        if self.has_tokens:
            return dataclasses.replace(self, adapters=AdapterConfig())
        adapters = AdapterConfig().prototypes_only()
        return dataclasses.replace(self, adapters=adapters, fully_tuned=True)

    def plain(self) -> ModelConfig:
        """The same towers as plain frozen CLIP, matched by views with their defaults."""
        match = dataclasses.replace(
            self.match, metric="otam", lam=VIEWS_LAM, views=FROZEN_WEIGHT, view_prior=None
        )
        return dataclasses.replace(self, adapters=None, fully_tuned=False, match=match)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values; `from_json` reads it back."""
        document = dataclasses.asdict(self) | {"match": self.match.to_json()}
        for name in ("prompts", "mean", "std"):
            document[name] = list(document[name])
        if self.photo is None:
            del document["photo"]
        return document

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> ModelConfig:
        """Reads `to_json`'s form.

        Raises:
            InputError: An unknown key (with its nearest match), a missing one, or a value that is
                not allowed.
        """
        CONFIG(document, "")
        values = dict(document)
        is_resnet = "stages" in (values.get("vision") or {})
        vision = ResNetConfig if is_resnet else VisionConfig
        for name, kind in (("vision", vision), ("text", TextConfig)):
            if isinstance(values.get(name), Mapping):
                values[name] = _from_mapping(kind, values[name], f"{name}.")
        if isinstance(values.get("adapters"), Mapping):
            values["adapters"] = _from_mapping(AdapterConfig, values["adapters"], "adapters.")
        if isinstance(values.get("photo"), Mapping):
            values["photo"] = _from_mapping(PhotoConfig, values["photo"], "photo.")
        if isinstance(values.get("match"), Mapping):
            match = dict(values["match"])
            if match.get("view_prior") is not None:
                match["view_prior"] = ViewPrior.from_json(match["view_prior"])
            values["match"] = _from_mapping(Scoring, match, "match.")
        for name in ("prompts", "mean", "std"):
            if name in values:
                values[name] = tuple(values[name])
        return _from_mapping(cls, values, "")


_T = TypeVar("_T")


def _from_mapping(kind: type[_T], values: Mapping[str, Any], where: str) -> _T:
    fields = {item.name: item for item in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for key in values:
        if key not in fields:
            near = difflib.get_close_matches(str(key), fields, n=1, cutoff=0.4)
            hint = f"did you mean {where}{near[0]}?" if near else f"allowed: {', '.join(fields)}"
            raise InputError(f"model config: unknown key {where}{key}; {hint}")
    for name, item in fields.items():
        required = (
            item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
        )
        if required and name not in values:
            raise InputError(f"model config: key {where}{name} is missing")
    return kind(**values)


def _check_tower(tower: str, width: int, heads: int, activation: str) -> None:
    if heads < 1 or width % heads:
        raise InputError(f"{tower}.width must be a multiple of heads {heads}, got {width}")
    if activation not in ("quickgelu", "gelu"):
        raise InputError(f"{tower}.activation must be quickgelu or gelu, got {activation!r}")


def named_config(name: str) -> ModelConfig:
    """Returns the configuration of a model by its short name, with the parts that training tunes.

    Args:
        name: `vit-b-32`, `vit-b-16`, `vit-l-14`, `rn50` (open_clip's QuickGELU configurations) or
            `tiny`.

    Raises:
        InputError: Another name; the message suggests the nearest one.
    """
    if name not in _NAMED:
        near = difflib.get_close_matches(name.lower(), known_names(), n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known_names())}"
        raise InputError(f"unknown model {name!r}; {hint}")
    return _NAMED[name]


def _clip(name: str, embed_dim: int, vision: tuple[int, int, int], text: tuple[int, int]) -> Any:
    width, layers, patch = vision
    return ModelConfig(
        name=name,
        embed_dim=embed_dim,
        vision=VisionConfig(width, layers, width // 64, patch, 224),
        text=TextConfig(text[0], 12, text[1]),
    )


_NAMED: dict[str, ModelConfig] = {
    "vit-b-32": _clip("vit-b-32", 512, (768, 12, 32), (512, 8)),
    "vit-b-16": _clip("vit-b-16", 512, (768, 12, 16), (512, 8)),
    "vit-l-14": _clip("vit-l-14", 768, (1024, 24, 14), (768, 12)),
    "rn50": ModelConfig(
        name="rn50",
        embed_dim=1024,
        vision=ResNetConfig((3, 4, 6, 3), 64, 224),  # type: ignore[arg-type]
        text=TextConfig(512, 12, 8),
        adapters=AdapterConfig().prototypes_only(),
        fully_tuned=True,
    ),
    "tiny": ModelConfig(
        name="tiny",
        embed_dim=128,
        vision=VisionConfig(
            160, 4, 5, patch_size=16, image_size=112, activation="gelu", stem="efficientnet-lite0"
        ),
        # The size of the shipped model's own tokenizer.
        text=TextConfig(96, 2, 4, context_length=32, vocab_size=512, activation="gelu"),
        prompts=("{}",),
        mean=STEM_MEAN,
        std=STEM_STD,
    ),
}


def parameter_counts(config: ModelConfig) -> tuple[int, int]:
    """Counts the parameters of a network in closed form, without building it.

    Returns:
        The number of all parameters, including the text tower and the logit scale, and the number
        of those that training tunes.
    """
    vision, embed_dim, added = config.vision, config.embed_dim, _added(config)
    frozen = stem_parameters() if vision.stem else 0  # always frozen
    frozen += config.photo.parameters if config.photo else 0
    if isinstance(vision, ResNetConfig):
        tower = vision.parameters(embed_dim)
    else:
        tower = _transformer(vision, embed_dim)
    total = frozen + tower + _text(config.text, embed_dim) + 1 + added
    return total, added + config.fully_tuned * tower


def _transformer(v: VisionConfig, embed_dim: int) -> int:
    embedding = (
        STEM_CHANNELS * v.width  # 1×1, of a stem's maps
        if v.stem
        else 3 * v.patch_size**2 * v.width  # of patches, no bias
    )
    return (
        embedding
        + v.width  # class token
        + (v.patches + 1) * v.width  # positions
        + 4 * v.width  # ln_pre, ln_post
        + v.layers * _block(v.width, v.mlp_width)
        + v.width * embed_dim  # projection, no bias
    )


def _text(t: TextConfig, embed_dim: int) -> int:
    return (
        (t.vocab_size + t.context_length) * t.width
        + t.layers * _block(t.width, t.mlp_width)
        + 2 * t.width  # ln_final
        + t.width * embed_dim  # projection, no bias
    )


def _block(width: int, mlp_width: int) -> int:
    attention = 4 * width * width + 4 * width
    mlp = 2 * width * mlp_width + mlp_width + width
    return attention + mlp + 4 * width  # and two LayerNorms


def _added(config: ModelConfig) -> int:
    adapters, e = config.adapters, config.embed_dim
    if adapters is None:
        return 0
    tpcm = adapters.tpcm * (4 * e * e + 4 * e + 8 * e * e + 5 * e)
    if not config.has_tokens:
        return tpcm
    width, hidden = config.vision.width, config.adapter_width
    adapter = 2 * width * hidden + hidden + width
    a_block = (adapters.gta + adapters.lma + adapters.joint) * adapter
    a_block += adapters.lma_text * (e * width + width)
    temporal = adapters.temporal * config.frames * width
    return config.vision.layers * a_block + temporal + tpcm

"""The `Encoder` protocol that every engine follows, its features, and the model behind it."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from mafsar.choices import NonePrior, Scoring
from mafsar.errors import InputError, Message, MismatchError, option
from mafsar.model.names import SHIPPED_BUNDLE

Float32 = NDArray[np.float32]
Frames = NDArray[np.uint8]


@dataclass(frozen=True)
class Features:
    """Encoded clips.

    Attributes:
        frames: Frame features that are matched (after the prototype module where the model has
            one), (B, T, E), raw.
        pooled: Time means of the raw frame features, compared with text embeddings, (B, E), raw.
    """

    frames: Float32
    pooled: Float32

    def __post_init__(self) -> None:
        if self.frames.ndim != 3 or self.pooled.shape != (
            self.frames.shape[0],
            self.frames.shape[2],
        ):
            raise InputError(
                "features must be frames (B, T, E) and pooled (B, E), "
                f"got {self.frames.shape} and {self.pooled.shape}"
            )

    def __len__(self) -> int:
        return int(self.frames.shape[0])

    def __repr__(self) -> str:
        return f"Features(frames={self.frames.shape}, pooled={self.pooled.shape})"

    @staticmethod
    def concatenate(parts: Sequence[Features]) -> Features:
        """Joins calls along B; at least one part."""
        return Features(
            np.concatenate([part.frames for part in parts]),
            np.concatenate([part.pooled for part in parts]),
        )


@dataclass(frozen=True)
class ModelSpec:
    """What the runtime needs to know about a model, whichever engine runs it.

    Attributes:
        name: Its name, as shown to the user.
        backbone: Name of the vision tower, as `tiny` or `vit-b-32`.
        frames: Frames per clip, T.
        image_size: Side of the square frames, pixels.
        embed_dim: Joint embedding width E.
        adapters: "trained" or "none".
        text: Whether the model has a text tower.
        prompts: Templates with `{}`; a class's embedding is the mean over them.
        known_words: Lower-case words that the text tower was trained on; None = open vocabulary.
        scoring: How its features become scores; α applies when text is used.
        weights_sha256: Hash of the weights' names and bytes, the same for every engine.
        parameters_total: Parameters, text tower included.
        parameters_tunable: Parameters that training tunes.
        notice: A sentence to show once when the model is used, or None.
        path: Where it was loaded from, or None.
        mean: Mean of the pixel normalisation (R, G, B), pixels in 0–1.
        std: Standard deviation of the pixel normalisation (R, G, B).
        resample: How frames are resized to `image_size`.
        fully_tuned: Whether training changed the vision tower's own weights.
        none_prior: How p_none is computed, or None if the model does not know.
        negatives_file: The file with features of clips of other classes, or None.
    """

    name: str
    backbone: str
    frames: int
    image_size: int
    embed_dim: int
    adapters: Literal["none", "trained"]
    text: bool
    prompts: tuple[str, ...]
    known_words: frozenset[str] | None
    scoring: Scoring
    weights_sha256: str
    parameters_total: int
    parameters_tunable: int
    notice: str | None = None
    path: str | None = None
    mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)
    resample: str = "bicubic"
    fully_tuned: bool = False
    none_prior: NonePrior | None = None
    negatives_file: str | None = None

    @property
    def tuned(self) -> Literal["none", "adapters", "full"]:
        """What training changed: "none" (plain frozen CLIP), "adapters" or "full" (the vision tower)."""
        if self.fully_tuned:
            return "full"
        return "adapters" if self.adapters == "trained" else "none"

    @property
    def shown(self) -> str:
        """Its name for people, with its place: "tiny (runs/t2)"."""
        return shown_model(self.name, self.path)

    @property
    def text_in_support(self) -> bool:
        """Whether support clips have a graph of their own, which reads the class text."""
        return self.text and self.adapters == "trained"

    def preprocess_json(self) -> dict[str, Any]:
        """The pre-processing that features depend on, apart from the user's geometry."""
        return {
            "size": self.image_size,
            "frames": self.frames,
            "resample": self.resample,
            "mean": [round(value, 8) for value in self.mean],
            "std": [round(value, 8) for value in self.std],
        }


def shown_model(name: str, place: str | None) -> str:
    """A model's name for people, with the place that tells it from others of the same name.

    Args:
        name: Its name; a run keeps that of the model it was trained from.
        place: What `load_model` takes for it, or None. Only a path is shown, from the current
            folder where it is inside.
    """
    if place is None or place == name or not Path(place).is_absolute():
        return name
    path = Path(place)
    if path == SHIPPED_BUNDLE:
        return name
    with contextlib.suppress(ValueError, OSError):
        path = path.relative_to(Path.cwd())
    return f"{name} ({path})"


@runtime_checkable
class Encoder(Protocol):
    """One model on one engine, device and precision.

    Attributes:
        spec: The model.
        engine: "onnx", "openvino", "trt" or "torch".
        device: "cpu" or "cuda:N".
        precision: "fp32", "fp16" or "int8".
        choice: One line for the user: the engine and device in use, why, and what would be faster.
    """

    spec: ModelSpec
    engine: str
    device: str
    precision: str
    choice: Message

    def encode_query(self, frames: Frames) -> Features:
        """Encodes clips (B, T, S, S, 3), uint8 RGB, without class text."""
        ...

    def encode_support(self, frames: Frames, text: Float32 | None) -> Features:
        """Encodes support clips (B, T, S, S, 3), uint8 RGB.

        Args:
            frames: The clips.
            text: Raw text embedding of each clip's class, (B, E); None = encode as queries.
        """
        ...

    def encode_text(self, texts: Sequence[str]) -> Float32:
        """Raw embeddings of class texts, (n, E): means over the model's prompts."""
        ...


def files_sha256(encoder: Encoder) -> str | None:
    """Hash of the graph and weight files that an encoder really runs.

    `ModelSpec.weights_sha256` is what a manifest says; this is what was read. An encoder says it by
    an attribute of this name. One that runs no files, as an encoder of the caller's own, has none.
    """
    found = getattr(encoder, "files_sha256", None)
    return None if found is None else str(found)


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Which model gave an answer and what it ran on; named as in the JSON of every command.

    Attributes:
        model: Name of the model.
        adapters: "trained" or "none".
        engine: "onnx", "openvino", "trt" or "torch".
        precision: "fp32", "fp16" or "int8".
        device: "cpu" or "cuda:N".
    """

    model: str
    adapters: str
    engine: str
    precision: str
    device: str


def provenance(encoder: Encoder) -> dict[str, str]:
    """The fields of `Provenance` for an encoder."""
    return {
        "model": encoder.spec.name,
        "adapters": encoder.spec.adapters,
        "engine": encoder.engine,
        "precision": encoder.precision,
        "device": encoder.device,
    }


@dataclass(frozen=True)
class BankModel:
    """What a bank records of the model that made it.

    Attributes:
        name: Its name, as shown.
        path: Where it was loaded from, or None.
        adapters: "trained" or "none".
        weights_sha256: Hash of its weights.
        preprocess: Size, frames, resampling, mean, std.
        prompts: Templates of the class texts.
        scoring: The model's own scoring.
    """

    name: str
    path: str | None
    adapters: Literal["none", "trained"]
    weights_sha256: str
    preprocess: dict[str, Any]
    prompts: tuple[str, ...]
    scoring: Scoring

    @classmethod
    def of(cls, spec: ModelSpec) -> BankModel:
        """The record of a model."""
        return cls(
            spec.name,
            spec.path,
            spec.adapters,
            spec.weights_sha256,
            spec.preprocess_json(),
            spec.prompts,
            spec.scoring,
        )

    def public(self, folder: Path) -> dict[str, str | None]:
        """Name and path without names of users and machines, for a bank in a folder.

        A path is kept where it is below the folder, relative to it; of a name that has a path in
        it (`NAME:/path/weights`) only the last part stays. A model elsewhere is found by its hash.
        """
        head, colon, value = self.name.partition(":")
        is_path = colon and head != "hf-hub" and ("/" in value or "\\" in value)
        name = f"{head}:{value.replace(chr(92), '/').rsplit('/', 1)[-1]}" if is_path else self.name
        path = None
        if self.path is not None and Path(self.path).is_relative_to(folder):
            path = Path(self.path).relative_to(folder).as_posix()
        return {"name": name, "path": path}

    @property
    def place(self) -> str:
        """What `load_model` takes for it on the machine that made the bank."""
        return self.name if self.path is None else self.path

    def check(self, spec: ModelSpec, bank: str, place: str | None = None) -> None:
        """Raises an error if another model made the bank.

        Args:
            spec: The model in use.
            bank: Name of the bank in messages.
            place: Where the bank's model is on this machine, if that is known.

        Raises:
            MismatchError: Weights, pre-processing or prompts differ; says which.
        """
        fix = (
            "; enroll the clips again with ",
            option(model=spec.path or spec.name),
            ", or match without it",
        )
        if self.weights_sha256 != spec.weights_sha256:
            raise MismatchError(
                f"{bank}: made by {shown_model(self.name, place or self.path)}, weights "
                f"{self.weights_sha256[:12]}, not by {spec.shown}, weights "
                f"{spec.weights_sha256[:12]}",
                *fix,
            )
        if self.preprocess != spec.preprocess_json():
            raise MismatchError(
                f"{bank}: made with pre-processing {self.preprocess}, the model has "
                f"{spec.preprocess_json()}",
                *fix,
            )
        if self.prompts != spec.prompts:
            raise MismatchError(
                f"{bank}: made with prompts {list(self.prompts)}, the model has "
                f"{list(spec.prompts)}",
                *fix,
            )


def checked_frames(spec: ModelSpec, frames: Frames) -> Frames:
    """Checks clips and makes them C-contiguous.

    Raises:
        InputError: They are not uint8 (B, T, S, S, 3) with B ≥ 1 and the model's T and S.
    """
    shape = (spec.frames, spec.image_size, spec.image_size, 3)
    if frames.dtype != np.uint8 or frames.ndim != 5 or frames.shape[1:] != shape:
        raise InputError(
            f"frames must be uint8 (B, {', '.join(map(str, shape))}) for {spec.name}, got "
            f"{frames.dtype} {frames.shape}"
        )
    if len(frames) == 0:
        raise InputError("frames must hold at least one clip")
    return np.ascontiguousarray(frames)


def checked_features(spec: ModelSpec, found: Features, clips: int, *, said: str) -> Features:
    """What a graph or network gave, where it is what the model's features must be.

    Args:
        spec: The model.
        found: What was computed.
        clips: Clips that went in.
        said: What messages call the graph, with its precision.

    Raises:
        MismatchError: Another number of clips, frames or values, or values that are not finite.
    """
    shape = (clips, spec.frames, spec.embed_dim)
    if found.frames.shape != shape:
        raise MismatchError(
            f"{said} gave features of shape {found.frames.shape}, its manifest says {shape}; export "
            "the model again"
        )
    if not (np.isfinite(found.frames).all() and np.isfinite(found.pooled).all()):
        raise MismatchError(
            f"{said} gave numbers that are not finite; use ", option(precision="fp32")
        )
    return found


def checked_text(spec: ModelSpec, text: Float32, clips: int) -> Float32:
    """Checks text embeddings for the support graph and makes them float32 and C-contiguous.

    Raises:
        InputError: The model has no support graph, or `text` is not (clips, E).
    """
    if not spec.text_in_support:
        raise InputError(f"{spec.name} has no support graph; omit text")
    text = np.ascontiguousarray(text, np.float32)
    if text.shape != (clips, spec.embed_dim):
        raise InputError(
            f"text must be {(clips, spec.embed_dim)}, one row per clip, got {text.shape}"
        )
    return text

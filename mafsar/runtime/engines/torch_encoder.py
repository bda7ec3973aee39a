"""Networks on torch: CLIPs by name and trained adapters. Imported only when one is loaded."""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mafsar.choices import check_device
from mafsar.errors import InputError, Message, MismatchError, UnavailableError, option
from mafsar.files import file_sha256
from mafsar.model.bundle_weights import load_bundle_network
from mafsar.model.config import parameter_counts
from mafsar.model.names import SHIPPED, SHIPPED_BUNDLE, TOKENIZER_FILE, backbone, given_path
from mafsar.model.network import MafsarNetwork
from mafsar.model.sources import create_network, load_trained
from mafsar.model.weights import weights_sha256
from mafsar.runtime.encoder import Features, Float32, Frames, ModelSpec, checked_features
from mafsar.runtime.engines.bundle import Bundle, TokenizerSpec, is_bundle, read_manifest
from mafsar.runtime.engines.tokenizer import Tokenizer

_CLIP_VOCABULARY = 49408
_MAX_BATCH = 16  # clips per run; longer calls are split


class TorchEncoder:
    """A network on torch; follows `mafsar.runtime.encoder.Encoder`.

    Args:
        network: The network, with weights.
        device: "auto", "cpu", "cuda" or "cuda:N".
        precision: "fp32", or "fp16" on CUDA.
        notice: A sentence to show once when the model is used, or None.
        path: Where the weights were loaded from, or None.
        bundle: The bundle that the weights come from, if any; it gives the spec and the tokenizer.

    Raises:
        InputError: An unknown device.
        UnavailableError: Device or precision is not available; says what to do.
    """

    engine = "torch"

    def __init__(
        self,
        network: MafsarNetwork,
        *,
        device: str = "auto",
        precision: str = "fp32",
        notice: str | None = None,
        path: str | None = None,
        bundle: Bundle | None = None,
    ) -> None:
        self.device, why = _choose_device(device)
        if precision not in ("fp32", "fp16"):
            raise UnavailableError(
                option(precision=precision),
                ": the torch engine has fp32 and, on CUDA, fp16; use ",
                option(precision="fp32"),
            )
        if precision == "fp16" and self.device == "cpu":
            raise UnavailableError(
                option(precision="fp16"),
                ": the torch engine has it on CUDA only; use ",
                option(precision="fp32"),
            )
        self.precision = precision
        if bundle is None:
            self.spec = network_spec(network, notice=notice, path=path)
            reason = f"{self.spec.name} is not a bundle"
        else:
            self.spec, reason = bundle.spec, "as requested"
        self.choice = Message.of(f"engine: torch on {self.device} ({reason}; {why})")
        self._network = network.to(self.device).eval()
        self._tokenizer: Tokenizer | None = None
        self._tokenizer_file: Path | None = None
        if bundle is not None and bundle.tokenizer is not None:
            self._tokenizer = Tokenizer(bundle.tokenizer)
            self._tokenizer_file = bundle.tokenizer.path
        self._clip_tokenizer: Any = None  # open_clip's; takes 0.2 s to build

    @functools.cached_property
    def files_sha256(self) -> str:
        """Hash of the network's weights, which were read, and of its tokenizer's file."""
        parts = ["torch", self.spec.weights_sha256]
        if self._tokenizer_file is not None:
            parts.append(file_sha256(self._tokenizer_file))
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def __repr__(self) -> str:
        return f"TorchEncoder({self.spec.name!r}, {self.device}, {self.precision})"

    def encode_query(self, frames: Frames) -> Features:
        """Encodes clips (B, T, S, S, 3), uint8 RGB, without class text."""
        return self._encode(frames, None)

    def encode_support(self, frames: Frames, text: Float32 | None) -> Features:
        """Encodes support clips with their class's raw text embedding (B, E); None = as queries."""
        if text is not None and not self.spec.text_in_support:
            raise InputError(f"{self.spec.name} has no support branch; omit text")
        return self._encode(frames, text)

    def encode_text(self, texts: Sequence[str]) -> Float32:
        """Raw embeddings of class texts, (n, E): means over the model's prompts."""
        rows = []
        for text in texts:
            tokens = self._tokenize([prompt.replace("{}", text) for prompt in self.spec.prompts])
            with torch.inference_mode():
                # The text tower runs once per class, so always in float32.
                embedding = self._network.encode_text(torch.from_numpy(tokens).to(self.device))
            rows.append(embedding.double().mean(dim=0).cpu().numpy())  # (E,)
        return np.array(rows, np.float32).reshape(len(rows), self.spec.embed_dim)

    def _encode(self, frames: Frames, text: Float32 | None) -> Features:
        if len(frames) == 0:
            raise InputError("frames must hold at least one clip")
        parts = []
        for start in range(0, len(frames), _MAX_BATCH):
            chunk = slice(start, start + _MAX_BATCH)
            clips = torch.from_numpy(np.ascontiguousarray(frames[chunk])).to(self.device)
            words = None
            if text is not None:
                words = torch.from_numpy(np.ascontiguousarray(text[chunk], np.float32))
                words = words.to(self.device)
            with torch.inference_mode(), self._autocast():
                features, pooled = self._network.encode_support(clips, words)
            parts.append(Features(_numpy(features), _numpy(pooled)))
        joined = parts[0] if len(parts) == 1 else Features.concatenate(parts)
        said = f"{self.spec.name}: torch in {self.precision}"
        return checked_features(self.spec, joined, len(frames), said=said)

    def _autocast(self) -> contextlib.AbstractContextManager[object]:
        if self.precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.partition(":")[0], dtype=torch.float16)

    def _tokenize(self, texts: Sequence[str]) -> NDArray[np.int64]:
        config = self._network.config.text
        if self._tokenizer is None and config.vocab_size == _CLIP_VOCABULARY:
            try:
                from open_clip.tokenizer import SimpleTokenizer
            except ImportError as error:
                raise UnavailableError(
                    f"{self.spec.name}: its tokenizer is open_clip's, which is not installed; "
                    "pip install 'mafsar[train]', or use ",
                    option(text="off"),
                ) from error
            if self._clip_tokenizer is None:
                self._clip_tokenizer = SimpleTokenizer(context_length=config.context_length)
            return np.asarray(self._clip_tokenizer(list(texts)).numpy(), np.int64)
        if self._tokenizer is None:
            path = SHIPPED_BUNDLE / TOKENIZER_FILE
            if self.spec.backbone != SHIPPED or not path.is_file():
                raise UnavailableError(
                    f"{self.spec.name}: no tokenizer for its {config.vocab_size} tokens; use ",
                    option(text="off"),
                )
            spec = TokenizerSpec(path, config.context_length, "clip")
            self._tokenizer = Tokenizer(spec)
        tokens = self._tokenizer.encode(texts)
        if int(tokens.max(initial=0)) >= config.vocab_size:
            raise MismatchError(
                f"{self.spec.name}: its tokenizer has more tokens than its {config.vocab_size} "
                "embeddings; use ",
                option(text="off"),
            )
        return tokens


def load_torch_encoder(
    name: str,
    *,
    device: str = "auto",
    precision: str = "fp32",
    threads: int | None = None,
    seed: int = 0,
) -> TorchEncoder:
    """Loads a network by name onto torch.

    Args:
        name: See `mafsar.model.names.parse_model_name`; also the path of a bundle, a run folder or
            a `.safetensors` file of trained adapters.
        device: "auto", "cpu", "cuda" or "cuda:N".
        precision: "fp32", or "fp16" on CUDA.
        threads: CPU threads of torch, for the whole process; None = do not change them.
        seed: Seed of the weights of `NAME:random`.

    Raises:
        InputError: An unknown name, tag or device.
        MissingError: A file or folder is missing.
        MismatchError: The weights do not fit the network.
        UnavailableError: A device, precision, package or weights are not available.
    """
    if threads is not None:
        if threads < 1:
            raise InputError(f"threads must be ≥ 1, got {threads}")
        torch.set_num_threads(threads)
    path = SHIPPED_BUNDLE if name == SHIPPED else given_path(name)
    if path is not None and is_bundle(path):
        bundle = Bundle.open(path)
        network = load_bundle_network(path)
        return TorchEncoder(network, device=device, precision=precision, bundle=bundle)
    if path is not None:
        network, notice, found = load_trained(path), None, str(path.resolve())
    else:
        network, found = create_network(name, seed=seed), None
        notice = f"{name} runs as plain frozen CLIP: it has no trained adapters"
        if name.endswith(":random"):
            notice = f"{name} has random weights: use it to check shapes and speed; its answers are meaningless"
        elif network.config.adapters is not None:
            notice = None
    return TorchEncoder(network, device=device, precision=precision, notice=notice, path=found)


def network_spec(
    network: MafsarNetwork, *, notice: str | None = None, path: str | None = None
) -> ModelSpec:
    """The `ModelSpec` of a network."""
    config = network.config
    total, tunable = parameter_counts(config.tunable())
    return ModelSpec(
        name=config.name,
        backbone=backbone(config.name),
        frames=config.frames,
        image_size=config.input_size,
        embed_dim=config.feature_dim,
        adapters="none" if config.adapters is None else "trained",
        text=True,
        prompts=config.prompts,
        known_words=known_words(config.name),
        scoring=config.match,
        weights_sha256=weights_sha256(network),
        parameters_total=total,
        parameters_tunable=tunable,
        notice=notice,
        path=path,
        mean=config.mean,
        std=config.std,
        fully_tuned=config.fully_tuned,
    )


def known_words(name: str) -> frozenset[str] | None:
    """The words that a network's text tower was trained on.

    Args:
        name: The network's configured name.

    Returns:
        For `tiny`, and what is trained from it, the words of its captions; None for an open
        vocabulary.
    """
    if name != SHIPPED or not is_bundle(SHIPPED_BUNDLE):
        return None
    return frozenset(read_manifest(SHIPPED_BUNDLE)["known_words"])


def _choose_device(device: str) -> tuple[str, str]:
    """The device, and why it was chosen."""
    check_device(device)
    if device == "cpu":
        return "cpu", "as requested"
    if device == "auto":
        if torch.cuda.is_available():
            return "cuda:0", "a GPU is here"
        return "cpu", "torch sees no GPU"
    _, _, index = device.partition(":")
    count = torch.cuda.device_count()
    if int(index or 0) >= count:
        raise UnavailableError(
            option(device=device),
            f": torch sees {count or 'no'} GPU{'s' if count > 1 else ''} here; use ",
            option(device="cpu"),
            " and see mafsar doctor",
        )
    return f"cuda:{index or 0}", "as requested"


def _numpy(tensor: Tensor) -> Float32:
    return np.asarray(tensor.float().cpu().numpy(), np.float32)

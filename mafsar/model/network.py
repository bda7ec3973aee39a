"""The whole network: two frozen CLIP towers, the tuned parts, and the two branches over videos."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mafsar.errors import InputError
from mafsar.model.adapters import VideoAdapters
from mafsar.model.config import ModelConfig, ResNetConfig
from mafsar.model.encoder import encode_frames
from mafsar.model.initial import random_state
from mafsar.model.photo import PhotoEmbedding
from mafsar.model.prototypes import PrototypeModule
from mafsar.model.resnet import ResNetTower
from mafsar.model.stem_table import STEM_CHANNELS, STEM_STRIDE
from mafsar.model.towers import TextTower, VisionTower

TUNABLE_PREFIXES = ("adapters.", "tpcm.")
_TOWER_PREFIX = "visual."
_STEM_PREFIX = "visual.stem."  # always frozen


class MafsarNetwork(nn.Module):
    """MA-FSAR on a CLIP, or plain frozen CLIP if `config.adapters` is None.

    Only the adapters, the text projections into the blocks, the temporal embedding and the
    prototype module require gradients; with `config.fully_tuned` the vision tower does too.
    """

    visual: VisionTower  # or a ResNetTower; code that uses tokens runs for the former only
    pixel_scale: Tensor
    pixel_shift: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.recompute = False  # saves memory in training by a second forward pass of each block
        if isinstance(config.vision, ResNetConfig):
            self.visual = ResNetTower(config.vision, config.embed_dim)  # type: ignore[assignment]
        else:
            self.visual = VisionTower(config.vision, config.embed_dim)
        self.text = TextTower(config.text, config.embed_dim)
        self.logit_scale = nn.Parameter(torch.empty(()))
        parts = config.adapters
        self.adapters = VideoAdapters(config) if parts and config.has_tokens else None
        self.tpcm = (
            PrototypeModule(config.embed_dim, parts.tpcm_heads) if parts and parts.tpcm else None
        )
        self.photo = PhotoEmbedding(config.photo) if config.photo else None
        # On an explicit device: they have values even while the parameters are on `meta`.
        std = torch.tensor(config.std, device="cpu", dtype=torch.float64)
        mean = torch.tensor(config.mean, device="cpu", dtype=torch.float64)
        self.register_buffer("pixel_scale", (1 / (255 * std)).float(), persistent=False)
        self.register_buffer("pixel_shift", (-mean / std).float(), persistent=False)
        tuned = self.tunable_parameters()
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(name in tuned)

    def tunable_parameters(self) -> dict[str, nn.Parameter]:
        """The parameters that training tunes, by name."""
        return {k: p for k, p in self.named_parameters() if self._is_tuned(k)}

    def frozen_parameters(self) -> dict[str, nn.Parameter]:
        """The frozen parameters, CLIP's own, by name."""
        return {k: p for k, p in self.named_parameters() if not self._is_tuned(k)}

    def _is_tuned(self, name: str) -> bool:
        if self.config.fully_tuned and name.startswith(_TOWER_PREFIX):
            return not name.startswith(_STEM_PREFIX)
        return name.startswith(TUNABLE_PREFIXES)

    def encode_query(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Encodes clips without class text.

        Args:
            frames: uint8 RGB (B, T, S, S, 3), or already normalised floats (B, T, 3, S, S), or
                the output of the tower's stem (B, T, STEM_CHANNELS, S/16, S/16).

        Returns:
            Frame features F̃ for matching, (B, T, E), and the time mean of the raw features F for
            the text score, (B, E). Without a prototype module, F̃ = F. A photo embedding is the
            last part of F̃, and 0 in the time mean, because no text belongs to it.

        Raises:
            InputError: Another dtype or shape, or another number of frames than the model's.
        """
        return self._encode(frames, None)

    def encode_support(self, frames: Tensor, text: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Encodes support clips, guided by the text of their class.

        Args:
            frames: As in `encode_query`.
            text: Raw text embedding of each clip's class, (B, E). None uses the query branch. Plain
                CLIP ignores it.

        Returns:
            As `encode_query`.

        Raises:
            InputError: As `encode_query`, or a text of another shape.
        """
        if text is not None and text.shape != (frames.shape[0], self.config.feature_dim):
            raise InputError(
                f"text must have shape {(frames.shape[0], self.config.feature_dim)}, "
                f"one row for each clip, got {tuple(text.shape)}"
            )
        return self._encode(frames, text)

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Embeds sentences.

        Args:
            tokens: Token ids (B, context_length), int64.

        Returns:
            Raw embeddings, (B, E); 0 in the place of a photo embedding.

        Raises:
            InputError: Another shape.
        """
        length = self.config.text.context_length
        if tokens.ndim != 2 or tokens.shape[1] != length:
            raise InputError(f"tokens must have shape (B, {length}), got {tuple(tokens.shape)}")
        out: Tensor = self.text(tokens)
        beside = self.config.feature_dim - self.config.embed_dim
        return F.pad(out, (0, beside)) if beside else out

    def scale_pixels(self, pixels: Tensor) -> Tensor:
        """Normalises pixels in [0, 255], (…, 3, S, S), floats.

        Channels come first: with an inner axis of 3 this takes ten times as long.
        """
        return pixels * self.pixel_scale[:, None, None] + self.pixel_shift[:, None, None]

    def _encode(self, frames: Tensor, text: Tensor | None) -> tuple[Tensor, Tensor]:
        return self.encode_seen(*self.see_photo(frames), text)

    def see_photo(self, frames: Tensor) -> tuple[Tensor, Tensor | None]:
        """What both branches share of encoding clips; `encode_seen` does the rest.

        Args:
            frames: As in `encode_query`.

        Returns:
            Normalised frames as the tower reads them, and the photo embedding (B, T, photo.width),
            or None where the model has none.
        """
        pixels = self._normalise(frames)  # (B, T, 3, S, S)
        if self.photo is None:
            return pixels, None
        beside = self._see(self.photo, pixels)
        small = F.avg_pool2d(pixels.flatten(0, 1), 2)
        return torch.unflatten(small, 0, pixels.shape[:2]), beside

    def encode_seen(
        self, pixels: Tensor, beside: Tensor | None, text: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Encodes clips by one branch, of which `see_photo` gave `pixels` and `beside`.

        Args:
            pixels: See `see_photo`.
            beside: See `see_photo`.
            text: As for `encode_support`, or None for the query branch.

        Returns:
            As `encode_query`.
        """
        features, pooled = self.encode_tower(pixels, text)
        if beside is None:
            return features, pooled
        return torch.cat([features, beside], dim=-1), F.pad(pooled, (0, beside.shape[-1]))

    def encode_tower(self, pixels: Tensor, text: Tensor | None) -> tuple[Tensor, Tensor]:
        """Encodes clips by the adapted tower alone, without a photo embedding.

        Args:
            pixels: Normalised frames of the tower's own size, (B, T, 3, S, S), or its stem's maps.
            text: As for `encode_support`; of a row the first `embed_dim` numbers are read. None is
                the query branch.

        Returns:
            F̃, (B, T, embed_dim), and the time mean of F, (B, embed_dim).
        """
        text = None if text is None else text[:, : self.config.embed_dim]
        tower: nn.Module = self.visual
        if isinstance(tower, ResNetTower):
            single = tower(pixels.flatten(0, 1), recompute=self.recompute)  # (B·T, E)
            raw = single.unflatten(0, pixels.shape[:2])  # (B, T, E)
        else:
            raw = encode_frames(
                self.visual, self.adapters, pixels, text, recompute=self.recompute
            )  # (B, T, E)
        features = raw if self.tpcm is None else self.tpcm(raw, text)  # (B, T, E)
        return features, raw.mean(dim=1)

    def _see(self, photo: PhotoEmbedding, pixels: Tensor) -> Tensor:
        """The photo embedding of normalised frames (B, T, 3, S, S), (B, T, photo.width)."""
        assert self.visual.stem is not None
        images = pixels.flatten(0, 1)
        if not torch.compiler.is_exporting():
            # Depthwise convolutions take half the time with channels last.
            images = images.contiguous(memory_format=torch.channels_last)
        plain = (images - self.pixel_shift[:, None, None]) / (255 * self.pixel_scale[:, None, None])
        out: Tensor = photo(images, plain, self.visual.stem, self.config.frames)
        return out

    def _normalise(self, frames: Tensor) -> Tensor:
        vision = self.config.vision
        size = self.config.input_size
        if frames.dtype == torch.uint8:
            shape: tuple[int, ...] = (self.config.frames, size, size, 3)
        elif frames.is_floating_point():
            shape = (self.config.frames, 3, size, size)
            if (
                vision.stem
                and not self.photo
                and frames.ndim == 5
                and frames.shape[2] == STEM_CHANNELS
            ):
                grid = size // STEM_STRIDE
                shape = (self.config.frames, STEM_CHANNELS, grid, grid)
        else:
            raise InputError(f"frames must be uint8 or floats, got {frames.dtype}")
        if frames.ndim != 5 or tuple(frames.shape[1:]) != shape:
            raise InputError(
                f"frames ({frames.dtype}) must have shape (B, {', '.join(map(str, shape))}); "
                f"got {tuple(frames.shape)}; the number of frames and the size are fixed by the model"
            )
        if frames.dtype != torch.uint8:
            return frames
        # The cast comes first: some inference engines accept uint8 only as the input of a cast.
        pixels = frames.to(self.visual.conv1.weight.dtype).permute(0, 1, 4, 2, 3)
        return self.scale_pixels(pixels)  # (B, T, 3, S, S)


def build_network(config: ModelConfig, *, seed: int = 0) -> MafsarNetwork:
    """Builds a network with seeded random weights, in evaluation mode.

    The same seed always gives the same weights, whatever the global generator's state, and a tower's
    weights do not depend on whether there are adapters.
    """
    network = empty_network(config)
    network.load_state_dict(random_state(network, seed), assign=True)
    return network.eval()


def empty_network(config: ModelConfig) -> MafsarNetwork:
    """Builds a network without values (on `meta`), for `load_state_dict(…, assign=True)`."""
    with torch.device("meta"), _NoInitialValues():
        return MafsarNetwork(config)


class _NoInitialValues(TorchFunctionMode):
    """Skips `torch.nn.init`: on `meta` there is nothing to fill, and its first call there imports
    torch's compiler, which takes 2 s.
    """

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)

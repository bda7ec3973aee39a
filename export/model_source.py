"""What `mafsar export` starts from (no torch, but where the model is no bundle)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mafsar.errors import InputError, MissingError
from mafsar.export.options import ExportOptions
from mafsar.extras import require
from mafsar.model.names import BUNDLE_SUFFIX
from mafsar.runtime.engines.bundle import Bundle, is_bundle
from mafsar.runtime.engines.loading import model_path

if TYPE_CHECKING:
    from mafsar.model.network import MafsarNetwork

MODEL_KEYS = ("weights_sha256", "frames", "image_size", "prompts", "match")  # of a manifest


@dataclass
class Source:
    """What is exported: a bundle, or a network on torch.

    Attributes:
        name: As the user named it.
        bundle: Its folder, or None.
        network: In evaluation mode on the CPU, or None for a bundle.
        model: Which model it is: `MODEL_KEYS`, as in a manifest.
        extra: What its manifest adds.
    """

    name: str
    bundle: Path | None
    network: MafsarNetwork | None
    model: dict[str, Any]
    extra: dict[str, Any]

    @classmethod
    def find(cls, name: str, options: ExportOptions) -> Source:
        """What a name means.

        Raises:
            MafsarError: No such model, or frames that it cannot take.
        """
        path = model_path(name)
        if name == "tiny" or is_bundle(path):
            bundle = Bundle.open(path)
            if options.frames not in (None, bundle.spec.frames):
                raise InputError(
                    f"--frames {options.frames}: {name} takes {bundle.spec.frames} frames a clip, "
                    "which belong to the bundle; leave --frames out"
                )
            return cls(name, path, None, {key: bundle.manifest[key] for key in MODEL_KEYS}, {})
        if path.suffix == BUNDLE_SUFFIX and ":" not in name:
            raise MissingError(f"{name}: no such bundle; check the path")
        require(f"export {name}:", "torch", "onnxscript", otherwise="export a bundle")
        from mafsar.export.graphs.network_bundle import describe_model, open_network

        network, extra = open_network(name, frames=options.frames)
        return cls(name, None, network, describe_model(network), extra)

    def default_out(self) -> Path:
        """Where it is exported to where the user names no place."""
        if self.bundle is not None and self.bundle != model_path("tiny"):
            return self.bundle
        path = Path(self.name).expanduser()
        stem = path.stem if path.exists() or path.suffix == ".safetensors" else self.name
        safe = "".join(c if c.isalnum() or c in "-_." else "-" for c in stem).strip("-.")
        return Path(f"{safe or 'model'}{BUNDLE_SUFFIX}")

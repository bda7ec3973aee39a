"""Finds the model that an export starts from (torch only where it is not a bundle)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mafsar.errors import InputError, MafsarError, MissingError, option
from mafsar.export.options import ExportOptions
from mafsar.extras import require
from mafsar.model.names import BUNDLE_SUFFIX, SHIPPED, given_path, known_names
from mafsar.runtime.cache.bundles import find_kept
from mafsar.runtime.engines.bundle import Bundle, is_bundle
from mafsar.runtime.engines.loading import model_path

if TYPE_CHECKING:
    from mafsar.model.network import MafsarNetwork

# Manifest entries that must agree where an export adds to a bundle.
MODEL_KEYS = ("weights_sha256", "frames", "image_size", "prompts", "match")


@dataclass
class ModelSource:
    """The model to export: a bundle, or a network on torch.

    Attributes:
        name: As the user wrote it.
        bundle: The bundle's folder, the one in the cache where the model has one there, or None.
        network: The network in evaluation mode on the CPU, or None for a bundle.
        model: What identifies the model: `MODEL_KEYS` and their values, as in a manifest.
        extra: Entries to add to the new bundle's manifest.
    """

    name: str
    bundle: Path | None
    network: MafsarNetwork | None
    model: dict[str, Any]
    extra: dict[str, Any]

    @classmethod
    def find(cls, name: str, options: ExportOptions) -> ModelSource:
        """Opens the model of a name.

        Raises:
            MafsarError: No such model, or a number of frames that it cannot take.
        """
        path = model_path(name)
        if name == SHIPPED or (name not in known_names() and is_bundle(path)):
            bundle = Bundle.open(path)
            if options.frames not in (None, bundle.spec.frames):
                raise InputError(
                    option(frames=options.frames),
                    f": {name} takes {bundle.spec.frames} frames per clip, which belong to the "
                    "bundle; omit ",
                    option("frames"),
                )
            return cls(name, path, None, {key: bundle.manifest[key] for key in MODEL_KEYS}, {})
        if path.suffix == BUNDLE_SUFFIX and ":" not in name:
            raise MissingError(f"{name}: no such bundle; check the path")
        kept = _kept(name, options)
        if kept is not None:
            return cls(name, kept.path, None, {key: kept.manifest[key] for key in MODEL_KEYS}, {})
        require(f"exporting {name}", "torch", "onnxscript", otherwise="export a bundle")
        from mafsar.export.graphs.network_bundle import describe_model, open_network

        network, extra = open_network(name, frames=options.frames)
        return cls(name, None, network, describe_model(network), extra)

    def default_out(self) -> Path:
        """The bundle to write where the user names none."""
        if self.bundle == model_path(self.name) and self.name != SHIPPED:
            return self.bundle
        path = Path(self.name)
        is_path = given_path(self.name) is not None or path.suffix == ".safetensors"
        stem = path.stem if is_path else self.name
        safe = "".join(c if c.isalnum() or c in "-_." else "-" for c in stem).strip("-.")
        return Path(f"{safe or 'model'}{BUNDLE_SUFFIX}")


def _kept(name: str, options: ExportOptions) -> Bundle | None:
    """The bundle of a model in the cache, which need not be made again; or None.

    None too where fp32 graphs are to be made again or for another number of frames.
    """
    try:
        found = None if options.overwrite else find_kept(name)
        bundle = None if found is None else Bundle.open(found)
    except MafsarError:
        return None  # a damaged bundle, or no model of this name, which loading it explains
    if bundle is None or options.frames not in (None, bundle.spec.frames):
        return None
    return bundle

"""Changing a bundle as a whole: made beside, hashed, checked, renamed (no torch)."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mafsar.errors import InputError
from mafsar.export.bundle_folder import replace_folder, unwritable
from mafsar.export.versions import thresholds
from mafsar.files import file_sha256
from mafsar.model.names import MANIFEST
from mafsar.runtime.engines.bundle import ENGINES_FOLDER, Bundle, temporal_contract
from mafsar.runtime.engines.probe import PROBE_FILE

Manifest = dict[str, Any]
_GRAPHS_AND_WEIGHTS = re.compile(
    r"((query|support)-(fp32|fp16|int8)|text)\.onnx|weights-(fp32|fp16|int8)\.bin"
)


class BundleDraft:
    """A bundle that is being made.

    Attributes:
        folder: Where its files are, beside the bundle that it becomes.
        manifest: `bundle.json`; `files` and stale engines are settled at the end.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest: Manifest = {}
        self.reload()

    def reload(self) -> None:
        """Reads the manifest that lies in the folder."""
        path = self.folder / MANIFEST
        if path.is_file():
            self.manifest = json.loads(path.read_text(encoding="utf-8"))

    def has(self, *names: str) -> bool:
        """Whether all these files are there."""
        return all((self.folder / name).is_file() for name in names)

    def finish(self) -> None:
        """Hashes its files, drops engines of graphs that changed, writes the manifest, checks."""
        # An older bundle that is added to gets the entries that it lacks.
        self.manifest.setdefault("temporal", temporal_contract(int(self.manifest["frames"])))
        self.manifest.setdefault("thresholds", thresholds())
        self.manifest["files"] = {
            path.name: describe_file(path)
            for path in sorted(self.folder.iterdir())
            if path.is_file() and self._is_part(path.name)
        }
        engines = self.manifest.get("engines", {})
        for name, entry in list(engines.items()):
            graph = self.manifest["files"].get(entry["graph"], {})
            weights = self.manifest["files"].get(entry["weights"], {})
            if (graph.get("sha256"), weights.get("sha256")) != (
                entry["graph_sha256"],
                entry["weights_sha256"],
            ):
                del engines[name]
                self.manifest.get("parity", {}).pop(name, None)
                for path in (self.folder / name, (self.folder / name).with_suffix(".json")):
                    path.unlink(missing_ok=True)
        text = json.dumps(self.manifest, indent=1, ensure_ascii=False, allow_nan=False)
        path = self.folder / MANIFEST
        path.unlink(missing_ok=True)  # it may be a hard link
        path.write_text(text + "\n", encoding="utf-8")
        Bundle.open(self.folder)

    def _is_part(self, name: str) -> bool:
        """Whether a file belongs to the bundle; a file manager's own do not."""
        tokenizer = (self.manifest.get("tokenizer") or {}).get("file")
        return bool(_GRAPHS_AND_WEIGHTS.fullmatch(name)) or name in (tokenizer, PROBE_FILE)


@contextmanager
def bundle_draft(out: Path, start: Path | None) -> Iterator[BundleDraft]:
    """A draft that replaces `out` when the block ends well, and leaves nothing when it does not.

    Args:
        out: The bundle to make or change.
        start: The bundle whose files the draft begins with, or None for an empty one.

    Raises:
        InputError: The folder cannot be written.
    """
    place = out.resolve()  # a link to a bundle stays a link
    beside = place.with_name(f".{place.name}.{os.getpid()}.part")
    try:
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        if start is not None:
            # Engines of the same bundle are only linked: one can have hundreds of megabytes.
            same = start.resolve() == place
            _copy(start, beside, link=same)
        draft = BundleDraft(beside)
        yield draft
        draft.finish()
        replace_folder(beside, place)
    except OSError as error:
        raise unwritable(out, error) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def check_replaceable(out: Path) -> None:
    """Refuses to replace what is no bundle.

    Raises:
        InputError: `out` is a file, or a folder with something else in it.
    """
    if out.is_dir() and not (out / MANIFEST).is_file() and any(out.iterdir()):
        raise InputError(f"{out}: a folder that is no bundle; name another -o, as NAME.mafsar")
    if out.is_file():
        raise InputError(f"{out}: a file, a bundle is a folder; name another -o, as NAME.mafsar")


def describe_file(path: Path) -> dict[str, Any]:
    """The manifest's entry of a file."""
    return {"sha256": file_sha256(path), "bytes": path.stat().st_size}


def _copy(source: Path, folder: Path, *, link: bool) -> None:
    for path in sorted(source.iterdir()):
        if path.is_file():
            shutil.copyfile(path, folder / path.name)
    engines = source / ENGINES_FOLDER
    if engines.is_dir():
        (folder / ENGINES_FOLDER).mkdir()
        for path in sorted(engines.iterdir()):
            _copy_engine(path, folder / ENGINES_FOLDER / path.name, link)


def _copy_engine(path: Path, to: Path, link: bool) -> None:
    # Engines only: ONNX Runtime takes a weights file with several hard links for an attack.
    if link:
        try:
            os.link(path, to)
            return
        except OSError:
            pass  # a file system without hard links
    shutil.copyfile(path, to)

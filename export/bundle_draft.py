"""Changes a bundle as a whole: written beside it, hashed, checked, renamed (no torch)."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mafsar.documents import parse_json, read_text
from mafsar.errors import InputError, MafsarError, option
from mafsar.export.bundle_folder import replace_folder, unwritable
from mafsar.export.thresholds import thresholds
from mafsar.files import file_sha256, foreign_entry
from mafsar.model.names import MANIFEST, TOKENIZER_FILE, graph_file, weights_file
from mafsar.runtime.encoder import ModelSpec
from mafsar.runtime.engines.bundle import (
    ENGINES_FOLDER,
    Bundle,
    read_manifest,
    spec_of,
    temporal_contract,
)
from mafsar.runtime.engines.negatives import NEGATIVES_FILE
from mafsar.runtime.engines.probe import PROBE_FILE

Manifest = dict[str, Any]
_GRAPHS_AND_WEIGHTS = re.compile(
    r"((query|support)-(fp32|fp16|int8)|text)\.onnx|weights-(fp32|fp16|int8)\.bin"
)


class BundleDraft:
    """A bundle that is being made or changed.

    Attributes:
        folder: Where its files are, beside the bundle that it will replace.
        manifest: The content of `bundle.json`; `finish` brings `files` and `engines` up to date.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest: Manifest = {}
        self.reload()

    def reload(self) -> None:
        """Reads the manifest in the folder, if there is one."""
        path = self.folder / MANIFEST
        if path.is_file():
            self.manifest = parse_json(read_text(path), str(path))

    @property
    def spec(self) -> ModelSpec:
        """The model that the manifest describes."""
        return spec_of(self.folder, self.manifest)

    @property
    def branches(self) -> tuple[str, ...]:
        """The model's visual branches."""
        return branches_of(self.spec)

    def graph_files(self, precision: str) -> tuple[str, ...]:
        """Names of the visual branches' graphs in a precision, and of their weights file."""
        graphs = [graph_file(branch, precision) for branch in self.branches]
        return (*graphs, weights_file(precision))

    def has(self, *names: str) -> bool:
        """Whether all these files exist."""
        return all((self.folder / name).is_file() for name in names)

    def finish(self) -> None:
        """Completes the bundle.

        Hashes its files, removes engines whose graphs changed, writes and checks the manifest.
        """
        # Bundles of older versions lack these entries.
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
        """Whether a file belongs to the bundle; a file manager's own files do not."""
        tokenizer = (self.manifest.get("tokenizer") or {}).get("file")
        return bool(_GRAPHS_AND_WEIGHTS.fullmatch(name)) or name in (
            tokenizer,
            PROBE_FILE,
            NEGATIVES_FILE,
        )


@contextmanager
def bundle_draft(out: Path, start: Path | None) -> Iterator[BundleDraft]:
    """A draft that replaces `out` when the block succeeds, and leaves nothing when it fails.

    Args:
        out: The bundle to make or change.
        start: The bundle whose files are copied into the draft first; None begins empty.

    Raises:
        InputError: The folder cannot be written.
    """
    place = out.resolve()  # a link to a bundle stays a link
    beside = place.with_name(f".{place.name}.{os.getpid()}.part")
    try:
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        if start is not None:
            # Engines of the same bundle are hard-linked: one can take hundreds of megabytes.
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
    """Refuses to replace anything but a bundle or an empty folder.

    Raises:
        InputError: `out` is a file, or a folder with other files in it.
    """
    if out.is_dir() and not (out / MANIFEST).is_file() and any(out.iterdir()):
        raise InputError(
            f"{out}: a folder that is not a bundle; choose another ",
            option("out"),
            ", such as NAME.mafsar",
        )
    if out.is_file():
        raise InputError(
            f"{out}: a file, but a bundle is a folder; choose another ",
            option("out"),
            ", such as NAME.mafsar",
        )


def refuse_foreign(out: Path, *, kept: bool) -> None:
    """Refuses to replace a bundle in which somebody keeps files of their own.

    Args:
        out: The bundle; it need not exist.
        kept: Whether the new bundle starts from it: files beside the graphs are then copied.

    Raises:
        InputError: A file would be lost.
    """
    if not out.is_dir():
        return
    names = [MANIFEST, TOKENIZER_FILE, PROBE_FILE, NEGATIVES_FILE]
    with contextlib.suppress(MafsarError):  # a damaged manifest lists nothing
        listed = read_manifest(out).get("files")
        names += map(str, listed if isinstance(listed, dict) else ())
    own = "|".join(map(re.escape, names))
    # Hidden: unfinished files, and those of file managers.
    own = rf"{_GRAPHS_AND_WEIGHTS.pattern}|{own}|{ENGINES_FOLDER}/[^/]+|(.*/)?\.[^/]+|Thumbs\.db"
    foreign = foreign_entry(out, rf"{own}|[^/]+" if kept else own)
    if foreign is not None:
        raise InputError(
            f"{out}: holds {foreign!r}, which no bundle has, so it is not replaced; move it, or choose "
            "another ",
            option("out"),
        )


def branches_of(spec: ModelSpec) -> tuple[str, ...]:
    """A model's visual branches: a support branch only where support clips see the class's text."""
    return ("query", "support") if spec.text_in_support else ("query",)


def describe_file(path: Path) -> dict[str, Any]:
    """The manifest entry of a file."""
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
    # Only engines are linked: ONNX Runtime refuses a weights file that has several hard links.
    if link:
        try:
            os.link(path, to)
            return
        except OSError:
            pass  # a file system without hard links
    shutil.copyfile(path, to)

"""Loading models: from a name to an encoder, and from a bank to the model that made it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from mafsar.choices import ENGINES, PRECISIONS, Engine, EngineChoice, MakeBundle, Precision
from mafsar.errors import (
    InputError,
    MafsarError,
    Message,
    MissingError,
    UnavailableError,
    call,
    option,
)
from mafsar.extras import require
from mafsar.files import exists, irregular, is_file
from mafsar.model.fetching import nothing_fetched
from mafsar.model.names import (
    ADAPTERS_FILE,
    BUNDLE_SUFFIX,
    OPEN_CLIP_NAMES,
    SHIPPED,
    SHIPPED_BUNDLE,
    given_path,
    graph_file,
    known_names,
    parse_model_name,
)
from mafsar.runtime.cache.bundles import bundles_folder, find_kept
from mafsar.runtime.cache.places import recall_place
from mafsar.runtime.cache.room import discard_kept
from mafsar.runtime.encoder import BankModel, Encoder
from mafsar.runtime.engines.bundle import Bundle, is_bundle, read_manifest


@dataclass(frozen=True)
class ModelCard:
    """A model that has a short name.

    Attributes:
        name: The name, for `load_model`.
        what: A description, one line.
        ready: Whether it can be loaded without installing or downloading anything.
    """

    name: str
    what: str
    ready: bool


def list_models() -> list[ModelCard]:
    """Lists the models that have a short name, the default first."""
    from mafsar.model.config import named_config

    cards = [ModelCard(SHIPPED, "the shipped starter, an ONNX bundle", is_bundle(SHIPPED_BUNDLE))]
    for name, clip in OPEN_CLIP_NAMES.items():
        size = named_config(name).vision.image_size
        what = f"open_clip's {clip}, tag openai, {size} px; needs mafsar[train] and its weights"
        cards.append(ModelCard(name, what, find_kept(name) is not None))
    return cards


def model_path(name: str) -> Path:
    """The path that a model's name stands for; it may not exist. `tiny` is the shipped bundle."""
    return SHIPPED_BUNDLE if name == SHIPPED else Path(name).expanduser()


@dataclass(frozen=True)
class EngineRow:
    """One engine that runs models.

    Attributes:
        name: As users choose it.
        takes: What it runs: a bundle's ONNX graphs ("graphs"), engines that were built from them
            and added to the bundle ("built"), or a torch network ("network").
        missing: Why `engine="auto"` does not take it here, or None; an empty reason is not shown.
            The last row that takes a bundle, and that of the network, are not asked.
        load: Opens the model; raises where that fails.
    """

    name: Engine
    takes: Literal["graphs", "built", "network"]
    missing: Callable[[ModelSource, EngineChoice], Message | None]
    load: Callable[[ModelSource, EngineChoice], Encoder]


@dataclass(frozen=True)
class ModelSource:
    """A model found by its name.

    Attributes:
        name: The name, as the user gave it.
        bundle: Its bundle; None for a network, which only torch can run.
    """

    name: str
    bundle: Bundle | None

    def opened(self) -> Bundle:
        """The bundle, for engines that run bundles."""
        assert self.bundle is not None, f"{self.name} has no bundle"
        return self.bundle


def _trt_missing(source: ModelSource, choice: EngineChoice) -> Message | None:
    from mafsar.runtime.engines.trt_encoder import trt_missing

    return trt_missing(source.opened(), choice.device, choice.precision)


def _load_trt(source: ModelSource, choice: EngineChoice) -> Encoder:
    from mafsar.runtime.engines.trt_encoder import TrtEncoder

    return TrtEncoder(source.opened(), device=choice.device, precision=choice.precision)


def _load_onnx(source: ModelSource, choice: EngineChoice) -> Encoder:
    from mafsar.runtime.engines.onnx_encoder import OnnxEncoder

    return OnnxEncoder(
        source.opened(), device=choice.device, precision=choice.precision, threads=choice.threads
    )


def _load_torch(source: ModelSource, choice: EngineChoice) -> Encoder:
    require(
        option(model=source.name),
        "torch",
        "open_clip",
        otherwise=("use ", option(model=SHIPPED)),
    )
    from mafsar.runtime.engines.torch_encoder import load_torch_encoder

    return load_torch_encoder(
        source.name, device=choice.device, precision=choice.precision, threads=choice.threads
    )


def _openvino_missing(source: ModelSource, choice: EngineChoice) -> Message | None:
    if importlib.util.find_spec("openvino") is None:
        return Message.of()
    from mafsar.runtime.engines.openvino_encoder import openvino_missing

    return openvino_missing(source.opened(), choice)


def _load_openvino(source: ModelSource, choice: EngineChoice) -> Encoder:
    from mafsar.runtime.engines.openvino_encoder import load_openvino

    return load_openvino(source.opened(), choice)


# In the order in which `engine="auto"` tries them. Of a bundle, the last one is always there.
ENGINE_TABLE = (
    EngineRow("trt", "built", _trt_missing, _load_trt),
    EngineRow("openvino", "graphs", _openvino_missing, _load_openvino),
    EngineRow("onnx", "graphs", lambda *_: None, _load_onnx),
    EngineRow("torch", "network", lambda *_: None, _load_torch),
)
_ROWS: dict[str, EngineRow] = {row.name: row for row in ENGINE_TABLE}
assert sorted(_ROWS) == sorted(ENGINES), "mafsar.choices.Engine names the rows of this table"


def load_model(
    name: str | Path = SHIPPED,
    *,
    engine: Engine | Literal["auto"] = "auto",
    device: str = "auto",
    precision: Precision = "fp32",
    threads: int | None = None,
    cache: bool = True,
    make_bundle: MakeBundle | None = None,
) -> Encoder:
    """Loads a model.

    A model that is not a bundle runs on its bundle in the cache if there is one, else on torch.

    Args:
        name: `tiny`, the path of a bundle, or a network: a CLIP (`vit-b-32`, `NAME:TAG`,
            `NAME:/path/weights`, `NAME:random`, `hf-hub:…`, `local-dir:…`), a run folder or a file
            of trained adapters.
        engine: "auto", "onnx", "openvino", "trt" or "torch".
        device: "auto", "cpu", "cuda" or "cuda:N".
        precision: "fp32", "fp16" or "int8".
        threads: Threads of the engine on the CPU; None = OMP_NUM_THREADS, else one a core.
        cache: False neither uses nor makes bundles in the cache.
        make_bundle: Called with the name of a model that is no bundle, and for fp16 with that, to
            make what there is not yet, as `mafsar.export.first_use.make_kept` does. None makes
            none.

    Returns:
        The encoder; its `choice` says which engine and device were chosen, and why.

    Raises:
        MissingError: There is no such model.
        InputError: An unknown engine, device or precision.
        UnavailableError: Engine, device or precision is not available; says what to install.
        MismatchError: A bundle's files differ from its manifest.
    """
    return open_model(name, EngineChoice(engine, device, precision, threads, cache, make_bundle))


def open_model(name: str | Path, choice: EngineChoice) -> Encoder:
    """Loads a model on the chosen engine; raises as `load_model`."""
    name = str(name)
    path = model_path(name)
    takes = None if choice.engine == "auto" else _ROWS[choice.engine].takes
    if name == SHIPPED or (name not in known_names() and is_bundle(path)):
        bundle = None if takes == "network" else Bundle.open(path)
        return _open(ModelSource(name, bundle), choice)
    _check_exists(name)
    if choice.cache and takes in (None, "graphs"):
        # Decided first: a bundle takes a minute to make, and would not be used.
        encoder = _torch_without_bundle(name, choice)
        if encoder is not None:
            return encoder
        bundle = _kept_bundle(name, choice)
        if bundle is not None:
            encoder = _open(ModelSource(name, _of_source(bundle, path)), choice)
            return _torch_on_gpu(name, choice, encoder) or encoder
    return _open(ModelSource(name, None), choice)


def _open(source: ModelSource, choice: EngineChoice) -> Encoder:
    """The first engine of the table that takes the source and is here, or the one asked for."""
    if choice.engine != "auto":
        row = _ROWS[choice.engine]
        if row.takes != "network" and source.bundle is None:
            raise _needs_bundle(source.name, choice)
        return row.load(source, choice)
    rows = [row for row in ENGINE_TABLE if (row.takes == "network") == (source.bundle is None)]
    why: object = ""
    for row in rows[:-1]:
        reason: object = row.missing(source, choice)
        if reason is None:
            try:
                return row.load(source, choice)
            except MafsarError as error:
                reason = error
        why = reason if str(reason) else why
    encoder = rows[-1].load(source, choice)
    if str(why):
        encoder.choice = Message.of(f"engine: {encoder.engine} on {encoder.device} (", why, ")")
    return encoder


def _needs_bundle(name: str, choice: EngineChoice) -> UnavailableError:
    options: dict[str, str] = {"engine": choice.engine}
    if choice.precision != "fp32":
        options["precision"] = choice.precision
    return UnavailableError(
        option(engine=choice.engine),
        f": {name} is not a bundle; export one: ",
        call("export_model", name, out="NAME.mafsar", **options),
        ", then ",
        option(model="NAME.mafsar"),
        "; or use ",
        option(engine="torch"),
    )


def _kept_bundle(name: str, choice: EngineChoice) -> Bundle | None:
    """The bundle that the cache holds of a model, made by `make_bundle` if need be; or None."""
    make = choice.make_bundle
    asked = (name, "fp16") if choice.precision == "fp16" else (name,)
    kept = find_kept(name) if make is None else make(*asked)
    if kept is None:
        return None
    try:
        return Bundle.open(kept)
    except MafsarError:  # damaged: make it again if possible
        if make is None:
            raise
        discard_kept(kept)
        return Bundle.open(make(*asked))


def precisions_of(
    name: str | Path, engine: str, *, make_bundle: MakeBundle | None = None
) -> list[Precision]:
    """The precisions that a model has on an engine, fp32 first.

    Args:
        name: See `load_model`.
        engine: "onnx", "openvino", "trt" or "torch".
        make_bundle: See `load_model`.

    Returns:
        At least fp32; if the engine does not have it, loading says what is missing.
    """
    name = str(name)
    path = model_path(name)
    if name != SHIPPED and not is_bundle(path):
        if _ROWS[engine].takes != "graphs" or make_bundle is None:
            return ["fp32"]
        path = make_bundle(name)
    takes = _ROWS[engine].takes
    if takes == "network":
        return ["fp32"]
    manifest = read_manifest(path)
    if takes == "built":
        found = {entry["precision"] for entry in manifest.get("engines", {}).values()}
    else:
        found = {each for each in PRECISIONS if graph_file("query", each) in manifest["files"]}
    return [precision for precision in PRECISIONS if precision in found] or ["fp32"]


def load_bank_model(
    model: BankModel, bank: Path | None = None, choice: EngineChoice | None = None
) -> Encoder:
    """Loads the model that made a bank, from its recorded path, the bank's folder or the cache.

    Args:
        model: The bank's record of it.
        bank: The bank's file, or None.
        choice: Engine, device and precision; None = "auto".

    Raises:
        MissingError: No model with these weights is found.
        UnavailableError: Opening it would download weights, as those of a run folder's towers.
    """
    shown = "this bank" if bank is None else str(bank)
    name = _name_of(model, bank)
    if name is None:
        fetched = (
            (
                "; nothing is downloaded for a name that a file gives: to do so, name it with ",
                option(model=model.name),
            )
            if _is_fetched(model.name)
            else ("; give its place with ", option("model"))
        )
        raise MissingError(
            f"{shown}: made by {model.name} (weights {model.weights_sha256[:12]}), which is not "
            f"{'' if model.path is None else f'at {model.path}, '}beside the bank or in "
            f"{bundles_folder()}",
            *fetched,
        )
    with nothing_fetched():
        encoder = open_model(name, choice or EngineChoice())
    model.check(encoder.spec, shown, recall_place(model.weights_sha256))
    return encoder


def _name_of(model: BankModel, bank: Path | None) -> str | None:
    """The name of a bank's model for `load_model`, or None if it is not found."""
    for path in _bundles_near(model, bank):
        try:
            if read_manifest(path).get("weights_sha256") == model.weights_sha256:
                return str(path)
        except MafsarError:
            continue
    for place in (model.path, recall_place(model.weights_sha256)):
        trained = Path(place or "")
        is_trained = trained.suffix == ".safetensors" or is_file(trained / ADAPTERS_FILE)
        if is_trained and exists(trained) and irregular(trained) is None:
            return str(trained)
        if place is not None and ":" in place and _is_here(place):
            return place
    return model.name if _is_here(model.name) else None


def _is_here(name: str) -> bool:
    """Whether a model's name stands for what can be opened without downloading anything."""
    try:
        parsed = parse_model_name(name)
    except InputError:
        return False
    if parsed.source in ("file", "local-dir"):
        place = Path(parsed.value).expanduser()
        return exists(place) and irregular(place) is None
    return parsed.source in ("shipped", "random")


def _is_fetched(name: str) -> bool:
    """Whether opening a model by this name may download its weights."""
    try:
        return parse_model_name(name).source in ("pretrained", "hf-hub")
    except InputError:
        return False


def _bundles_near(model: BankModel, bank: Path | None) -> Iterator[Path]:
    """Bundles that may be the bank's model, the most likely first."""
    if model.path:
        yield Path(model.path)
    yield SHIPPED_BUNDLE
    if (place := recall_place(model.weights_sha256)) is not None:
        yield Path(place)
    folders = [bundles_folder()]
    if bank is not None:
        folders.insert(0, bank.resolve().parent)
    for folder in folders:
        if folder.is_dir():
            yield from sorted(folder.glob(f"*{BUNDLE_SUFFIX}"))


def _of_source(bundle: Bundle, source: Path) -> Bundle:
    """A cached bundle with the path of its source, because the cache may be cleared."""
    path = None if given_path(str(source)) is None else str(source.resolve())
    return replace(bundle, spec=replace(bundle.spec, path=path))


def _torch_on_gpu(name: str, choice: EngineChoice, encoder: Encoder) -> Encoder | None:
    """torch on the GPU, if `auto` chose ONNX Runtime on the CPU because it cannot use that GPU."""
    if encoder.device != "cpu":
        return None
    found = _on_gpu(name, choice)
    if found is None:
        return None
    why = encoder.choice.parts[1:-1]  # what stands in the brackets
    found.choice = Message.of(
        f"engine: torch on {found.device} (faster than onnx on cpu: ", *why, ")"
    )
    return found


def _torch_without_bundle(name: str, choice: EngineChoice) -> Encoder | None:
    """torch on the GPU, if `auto` would choose it and the model has no bundle yet."""
    if choice.make_bundle is None or find_kept(name) is not None or not _may_use_gpu(choice):
        return None
    from mafsar.runtime.engines.onnx_encoder import OnnxEncoder

    try:
        # A small model shows whether ONNX Runtime can use the GPU.
        OnnxEncoder(Bundle.open(SHIPPED_BUNDLE), device="cuda")
        return None
    except UnavailableError as error:
        missing = error
    found = _on_gpu(name, choice)
    if found is not None:
        found.choice = Message.of(
            f"engine: torch on {found.device} (onnx cannot use it: ", missing, ")"
        )
    return found


def _may_use_gpu(choice: EngineChoice) -> bool:
    """Whether it is left open what runs the model, and torch could on a GPU."""
    from mafsar.runtime.engines.onnx_encoder import has_cuda_driver

    return (
        (choice.engine, choice.device) == ("auto", "auto")
        and choice.precision != "int8"
        and has_cuda_driver()
        and importlib.util.find_spec("torch") is not None
    )


def _on_gpu(name: str, choice: EngineChoice) -> Encoder | None:
    """torch on the GPU where that is open and possible."""
    if not _may_use_gpu(choice):
        return None
    try:
        return _load_torch(ModelSource(name, None), replace(choice, device="cuda"))
    except UnavailableError:
        return None  # a torch without CUDA


def _check_exists(name: str) -> None:
    """Raises an error if a name is neither a path nor the name of a model, or is a pipe or device."""
    path = given_path(name)
    files: list[Path] = [] if path is None else [path, path / ADAPTERS_FILE]
    for file in files:
        kind = irregular(file)
        if kind is not None:
            raise InputError(f"{file}: is {kind}, not a model; give a file or a folder")
    if path is None:
        if Path(name).suffix in (BUNDLE_SUFFIX, ".safetensors") and ":" not in name:
            raise MissingError(f"{name}: no such model; check the path")
        parse_model_name(name)

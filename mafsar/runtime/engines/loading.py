"""From a model's name to an encoder, and from a bank to the model that made it."""

from __future__ import annotations

import importlib.util
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mafsar.errors import InputError, MafsarError, MissingError, UnavailableError
from mafsar.extras import require
from mafsar.model.names import ADAPTERS_FILE, BUNDLE_SUFFIX, SHIPPED_BUNDLE, graph_file
from mafsar.runtime.cache.bundles import bundles_folder, discard_kept, find_kept
from mafsar.runtime.encoder import Encoder
from mafsar.runtime.engines.bundle import Bundle, is_bundle, read_manifest

if TYPE_CHECKING:
    from mafsar.runtime.bank.bank import Bank

ENGINES = ("auto", "onnx", "trt", "torch")
PRECISIONS = ("fp32", "fp16", "int8")
MakeBundle = Callable[[str], Path]


@dataclass(frozen=True)
class ModelCard:
    """One model that a name stands for.

    Attributes:
        name: What `load_model` takes.
        what: One line about it.
        ready: Whether it can be loaded here without installing or downloading anything.
    """

    name: str
    what: str
    ready: bool


def list_models() -> list[ModelCard]:
    """The models that have a short name, the default first."""
    from mafsar.model.config import named_config
    from mafsar.model.names import OPEN_CLIP_NAMES, SHIPPED

    cards = [ModelCard(SHIPPED, "the shipped starter, an ONNX bundle", is_bundle(starter_path()))]
    for name, clip in OPEN_CLIP_NAMES.items():
        size = named_config(name).vision.image_size
        what = f"open_clip's {clip}, tag openai, {size} px; needs mafsar[train] and its weights"
        cards.append(ModelCard(name, what, find_kept(name) is not None))
    return cards


def starter_path() -> Path:
    """Where the shipped bundle lies."""
    return SHIPPED_BUNDLE


def model_path(name: str) -> Path:
    """Where a model's name would lie as a file or folder; that of `tiny` is the shipped bundle."""
    return starter_path() if name == "tiny" else Path(name).expanduser()


def load_model(
    name: str | Path = "tiny",
    *,
    engine: str = "auto",
    device: str = "auto",
    precision: str = "fp32",
    threads: int | None = None,
    cache: bool = True,
    make_bundle: MakeBundle | None = None,
) -> Encoder:
    """Loads a model.

    A model that is no bundle runs on the bundle that the cache keeps of it, where there is one;
    else on torch.

    Args:
        name: `tiny`, a bundle folder, or what needs torch: a CLIP (`vit-b-32`, `NAME:TAG`,
            `NAME:/path/weights`, `NAME:random`, `hf-hub:…`, `local-dir:…`), a run folder, trained
            adapters.
        engine: "auto", "onnx", "trt" or "torch".
        device: "auto", "cpu", "cuda" or "cuda:N".
        precision: "fp32", "fp16" or "int8".
        threads: Threads of the engine on the CPU; None = OMP_NUM_THREADS, else one a core.
        cache: Off: bundles in the cache are neither used nor made.
        make_bundle: Called with the name of a model whose bundle is wanted and not there yet;
            `mafsar.export.first_use.make_kept` makes it. None = none is made.

    Returns:
        The encoder; its `choice` says what was chosen and why.

    Raises:
        MissingError: No such model.
        UnavailableError: Engine, device or precision is not there; says what to install.
        MismatchError: A bundle's files are not those of its manifest.
    """
    _check(engine, precision, device)
    name = str(name)
    path = model_path(name)
    wish = _Wish(engine, device, precision, threads)
    if name == "tiny" or is_bundle(path):
        return (
            _load_bundle(Bundle.open(path), wish) if engine != "torch" else _load_torch(name, wish)
        )
    _check_exists(name)
    if cache and engine in ("auto", "onnx"):
        kept = find_kept(name) if make_bundle is None else make_bundle(name)
        if kept is not None:
            try:
                bundle = Bundle.open(kept)
            except MafsarError:  # damaged since: made again, where it can be
                if make_bundle is None:
                    raise
                discard_kept(kept)
                bundle = Bundle.open(make_bundle(name))
            encoder = _load_bundle(_of_source(bundle, path), wish)
            return _torch_on_gpu(name, wish, encoder) or encoder
    return _load_torch(name, wish)


def precisions_of(
    name: str | Path, engine: str, *, make_bundle: MakeBundle | None = None
) -> list[str]:
    """The precisions that a model has on an engine, fp32 first.

    Args:
        name: As `load_model`.
        engine: "onnx", "trt" or "torch".
        make_bundle: As `load_model`.

    Returns:
        At least one; loading says what is missing where an engine has none.
    """
    name = str(name)
    path = model_path(name)
    if name != "tiny" and not is_bundle(path):
        if engine != "onnx" or make_bundle is None:
            return ["fp32"]
        path = make_bundle(name)
    if engine == "torch":
        return ["fp32"]
    manifest = read_manifest(path)
    if engine == "trt":
        found = {entry["precision"] for entry in manifest.get("engines", {}).values()}
    else:
        found = {each for each in PRECISIONS if graph_file("query", each) in manifest["files"]}
    return [precision for precision in PRECISIONS if precision in found] or ["fp32"]


def load_bank_model(
    bank: Bank,
    *,
    engine: str = "auto",
    device: str = "auto",
    precision: str = "fp32",
    threads: int | None = None,
    cache: bool = True,
    make_bundle: MakeBundle | None = None,
) -> Encoder:
    """Loads the model that made a bank: by its recorded path, the bank's folder or the cache.

    Args:
        bank: The bank.
        engine: As `load_model`.
        device: As `load_model`.
        precision: As `load_model`.
        threads: As `load_model`.
        cache: As `load_model`.
        make_bundle: As `load_model`.

    Raises:
        MissingError: No model with the bank's weights is found; names it.
    """
    wanted = bank.model.weights_sha256
    name: str | None = None
    for path in _bundles_near(bank):
        try:
            if read_manifest(path).get("weights_sha256") == wanted:
                name = str(path)
                break
        except MafsarError:
            continue
    trained = Path(bank.model.path or "")
    if name is None and (trained.suffix == ".safetensors" or (trained / ADAPTERS_FILE).is_file()):
        name = str(trained) if trained.exists() else None
    if name is None and not Path(bank.model.name).suffix and ":" in bank.model.name:
        name = bank.model.name
    if name is None:
        from mafsar.model.names import known_names

        name = bank.model.name if bank.model.name in known_names() else None
    where = f"{bank.path or 'this bank'}: made by {bank.model.name} (weights {wanted[:12]})"
    if name is None:
        raise MissingError(
            f"{where}, which is not at {bank.model.path}, beside the bank or in "
            f"{bundles_folder()}; give its place with --model"
        )
    encoder = load_model(
        name,
        engine=engine,
        device=device,
        precision=precision,
        threads=threads,
        cache=cache,
        make_bundle=make_bundle,
    )
    bank.check_model(encoder.spec)
    return encoder


def _bundles_near(bank: Bank) -> Iterator[Path]:
    """Bundles that may be the bank's, the likeliest first."""
    if bank.model.path:
        yield Path(bank.model.path)
    yield starter_path()
    folders = [bundles_folder()]
    if bank.path is not None:
        folders.insert(0, bank.path.resolve().parent)
    for folder in folders:
        if folder.is_dir():
            yield from sorted(folder.glob(f"*{BUNDLE_SUFFIX}"))


def _check(engine: str, precision: str, device: str) -> None:
    if engine not in ENGINES:
        raise InputError(f"engine must be one of {', '.join(ENGINES)}, got {engine!r}")
    if precision not in PRECISIONS:
        raise InputError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    kind, _, index = device.partition(":")
    if device not in ("auto", "cpu") and not (kind == "cuda" and (not index or index.isdigit())):
        raise InputError(f"device must be auto, cpu, cuda or cuda:N, got {device!r}")


@dataclass(frozen=True)
class _Wish:
    """What was asked of the encoder."""

    engine: str
    device: str
    precision: str
    threads: int | None


def _of_source(bundle: Bundle, source: Path) -> Bundle:
    """A bundle of the cache under the path of what it was made from: a cache may be cleared."""
    where = str(source.resolve()) if source.exists() else None
    return replace(bundle, spec=replace(bundle.spec, path=where))


def _torch_on_gpu(name: str, wish: _Wish, encoder: Encoder) -> Encoder | None:
    """torch, where `auto` found the CPU only for ONNX Runtime and torch has the GPU that is here."""
    if (wish.engine, wish.device, encoder.device) != ("auto", "auto", "cpu"):
        return None
    from mafsar.runtime.engines.onnx_encoder import has_cuda_driver

    if wish.precision == "int8" or not has_cuda_driver():
        return None
    if importlib.util.find_spec("torch") is None:
        return None
    try:
        found = _load_torch(name, replace(wish, device="cuda"))
    except UnavailableError:
        return None  # a torch without CUDA
    why = encoder.choice.partition("(")[2].rstrip(")")
    found.choice = f"engine: torch on {found.device} (faster than onnx on cpu: {why})"
    return found


def _load_bundle(bundle: Bundle, wish: _Wish) -> Encoder:
    from mafsar.runtime.engines.onnx_encoder import OnnxEncoder

    device, precision = wish.device, wish.precision
    why = None
    if wish.engine == "trt":
        from mafsar.runtime.engines.trt_encoder import TrtEncoder

        return TrtEncoder(bundle, device=device, precision=precision)
    if wish.engine == "auto":
        from mafsar.runtime.engines.trt_encoder import choose_trt

        fast, why = choose_trt(bundle, device=device, precision=precision)
        if fast is not None:
            return fast
    encoder = OnnxEncoder(bundle, device=device, precision=precision, threads=wish.threads)
    if why is not None:
        encoder.choice = f"engine: onnx on {encoder.device} ({why})"
    return encoder


def _check_exists(name: str) -> None:
    """Raises where a name is neither a path nor a model's name."""
    from mafsar.model.names import parse_model_name

    if not Path(name).expanduser().exists():
        if Path(name).suffix in (BUNDLE_SUFFIX, ".safetensors") and ":" not in name:
            raise MissingError(f"{name}: no such model; check the path")
        parse_model_name(name)


def _load_torch(name: str, wish: _Wish) -> Encoder:
    if wish.engine in ("onnx", "trt"):
        options = f"--engine {wish.engine}"
        if wish.precision != "fp32":
            options += f" --precision {wish.precision}"
        raise UnavailableError(
            f"--engine {wish.engine}: {name} is no bundle; make one: mafsar export "
            f"{shlex.quote(name)} -o NAME.mafsar {options}, then --model NAME.mafsar; "
            "or use --engine torch"
        )
    require(f"--model {name}:", "torch", "open_clip", otherwise="use --model tiny")
    from mafsar.runtime.engines.torch_encoder import load_torch_encoder

    return load_torch_encoder(
        name, device=wish.device, precision=wish.precision, threads=wish.threads
    )

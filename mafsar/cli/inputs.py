"""From the words of the command line to an encoder, a bank and a geometry; says what was chosen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mafsar.choices import EngineChoice
from mafsar.cli import voice
from mafsar.cli.wording import worded
from mafsar.errors import MissingError
from mafsar.files import exists
from mafsar.model.names import SHIPPED

if TYPE_CHECKING:
    from mafsar.choices import Precision, Scoring
    from mafsar.runtime.bank.bank import Bank
    from mafsar.runtime.encoder import Encoder
    from mafsar.runtime.match.matcher import Matcher
    from mafsar.video import Geometry


def engine_choice(engine: Any, device: str, precision: Any, *, cache: bool = True) -> EngineChoice:
    """What the flags ask of the engine; a first use of a model makes its bundle."""
    return EngineChoice(engine, device, precision, cache=cache, make_bundle=make_bundle)


def load_encoder(model: str | None, choice: EngineChoice, bank: Bank | None = None) -> Encoder:
    """The encoder: the named model's, else the bank's own, else the default's; says which."""
    from mafsar.runtime.engines.loading import load_bank_model, open_model

    if bank is not None and model is None:
        encoder = load_bank_model(bank.model, bank.path, choice)
    else:
        encoder = open_model(model or SHIPPED, choice)
    voice.note(encoder.spec.notice)
    if encoder.spec.tuned == "none":
        voice.note(f"{encoder.spec.name}: no trained adapters, runs as plain frozen CLIP")
    voice.note(worded(encoder.choice))
    return encoder


def make_bundle(name: str, precision: Precision = "fp32") -> Path:
    """The bundle in the cache of a model that is not one; a first use makes it, and says so."""
    from mafsar.export.first_use import make_kept

    def begin(seconds: float | None) -> None:
        time = "" if seconds is None else f", about {max(5, 5 * round(seconds / 5))} s"
        voice.note(f"first use of {name}: making its bundle in the cache, once{time}")

    made: list[str] = []
    with voice.progress(f"first use of {name}", total=None, by_clock=True) as bar:
        kept = make_kept(
            name, precision, say=made.append, step=lambda label: bar(label=label), begin=begin
        )
    for line in made:
        voice.note(line)
    return kept


def geometry_of(
    roi: str | None, fit: str | None, rotate: str | None, hflip: bool | None
) -> Geometry | None:
    """The picture's geometry where the user said anything about it, else None."""
    from mafsar.video import Geometry

    if roi is None and fit is None and rotate is None and not hflip:
        return None
    return Geometry.parse(fit=fit or "crop", roi=roi, rotate=rotate or 0, hflip=bool(hflip))


def open_support(
    support: str,
    model: str | None,
    choice: EngineChoice,
    *,
    text: Any,
    views: Any = None,
    geometry: Geometry | None,
    skip_bad: bool = False,
    frames_pattern: str | None = None,
    ignore_clock: float | None = None,
) -> tuple[Bank, Encoder]:
    """The bank and the encoder for SUPPORT, which is a bank, a folder or a CSV."""
    from mafsar.runtime.bank.bank import check_geometry, is_bank, read_bank

    if is_bank(support):
        bank = read_bank(support)
        check_geometry(bank, geometry)
        return bank, load_encoder(model, choice, bank)
    if not exists(Path(support)):
        raise MissingError(
            f"SUPPORT {support}: no such file or folder; give a folder of class folders"
            " (support/CLASS/clip.mp4), a CSV path,label, or a bank (.safetensors)"
        )
    from mafsar.runtime.bank.enroll import enroll

    encoder = load_encoder(model, choice)
    with voice.progress("encoding the support") as bar:
        bank = enroll(
            support,
            encoder,
            text=text,
            views=views,
            geometry=geometry,
            on_error="skip" if skip_bad else "raise",
            frames_pattern=frames_pattern,
            cache=choice.cache,
            images=False,
            progress=bar,
            ignore_clock=ignore_clock,
        )
    return bank, encoder


def say_bank(matcher: Matcher) -> None:
    """Say once what was passed over and whether class names count in this match."""
    bank, scoring = matcher.bank, matcher.scoring
    for line in bank.repairs:
        voice.warn(line)
    for line in bank.notes:
        voice.note(f"note: {worded(line)}")
    if bank.verdict is not None and bank.verdict.kind == "chance":
        voice.note(
            f"note: leave-one-out over this support was right on {bank.verdict.right} of"
            f" {bank.verdict.judged} clips, which may be chance: answers may be guesses"
        )
    for line in views_line(matcher.scoring, bank.model.adapters):
        voice.note(line)
    choice = bank.text_choice
    if (matcher.use_text, scoring.alpha) == (choice.used, choice.alpha):
        voice.note(text_line(bank))
    elif matcher.use_text:
        voice.note(f"text: on, alpha {scoring.alpha:g} (asked for)")
    else:
        voice.note("text: off (asked for)")


def views_line(scoring: Scoring, adapters: str) -> list[str]:
    """One line where features are matched by views; how to do without, for a frozen CLIP."""
    if scoring.views == "raw":
        return []
    line = f"views: change weight {scoring.views:g}, lambda {scoring.lam:g}"
    return [line if adapters == "trained" else f"{line} (frozen CLIP; --views raw goes without)"]


def none_line(bank: Bank) -> str:
    """One line on whether the bank knows clips that show none of its classes."""
    if bank.none is None:
        return "none: not calibrated (the model brings no negatives); every clip gets a class"
    return f"none: p_none calibrated, --threshold auto aims at {bank.none.far:.0%} false accepts"


def text_line(bank: Bank) -> str:
    """One line on the text choice of a bank and its reason."""
    choice = bank.text_choice
    state = f"on, alpha {choice.alpha:g}" if choice.used else "off"
    return f"text: {state} ({choice.why})"

"""From the words of the command line to an encoder, a bank and a geometry; says what was chosen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mafsar.cli import voice
from mafsar.errors import MissingError

if TYPE_CHECKING:
    from mafsar.runtime.bank.bank import Bank
    from mafsar.runtime.encoder import Encoder
    from mafsar.runtime.scoring.scores import Scoring
    from mafsar.video import Geometry

DEFAULT_MODEL = "tiny"


@dataclass(frozen=True)
class EncoderWish:
    """What the user asked of the encoder."""

    model: str | None
    engine: str
    device: str
    precision: str
    cache: bool = True

    def load(self, bank: Bank | None = None) -> Encoder:
        """The encoder: the named model's, else the bank's own, else the default's."""
        from mafsar.runtime.engines.loading import load_bank_model, load_model

        options: dict[str, Any] = {
            "engine": self.engine,
            "device": self.device,
            "precision": self.precision,
            "cache": self.cache,
            "make_bundle": make_bundle,
        }
        if bank is not None and self.model is None:
            encoder = load_bank_model(bank, **options)
        else:
            encoder = load_model(self.model or DEFAULT_MODEL, **options)
        voice.note(encoder.spec.notice)
        if encoder.spec.tuned == "none":
            voice.note(f"{encoder.spec.name}: no trained adapters, runs as plain frozen CLIP")
        voice.note(encoder.choice)
        return encoder


def make_bundle(name: str) -> Path:
    """The cache's bundle of a model that is none; a first use makes it, and says so."""
    from mafsar.export.first_use import make_kept

    with voice.progress(f"first use of {name}", total=None) as bar:
        made: list[str] = []
        kept = make_kept(name, say=made.append, step=lambda label: bar(label=label))
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
    wish: EncoderWish,
    *,
    text: Any,
    geometry: Geometry | None,
    cache: bool,
) -> tuple[Bank, Encoder]:
    """The bank and the encoder for SUPPORT, which is a bank, a folder or a CSV."""
    from mafsar.runtime.bank.bank import Bank, is_bank
    from mafsar.runtime.bank.enroll import check_geometry, enroll

    if is_bank(support):
        bank = Bank.load(support)
        check_geometry(bank, geometry)
        return bank, wish.load(bank)
    if not Path(support).exists():
        raise MissingError(
            f"SUPPORT {support}: no such file or folder; give a folder of class folders"
            " (support/CLASS/clip.mp4), a CSV path,label, or a bank (.safetensors)"
        )
    encoder = wish.load()
    with voice.progress("encoding the support") as bar:
        bank = enroll(
            support, encoder, text=text, geometry=geometry, cache=cache, images=False, progress=bar
        )
    return bank, encoder


def say_bank(bank: Bank, use_text: bool, scoring: Scoring) -> None:
    """Say once what was passed over and whether class names count in this match."""
    for line in bank.notes:
        voice.note(f"note: {line}")
    choice = bank.text_choice
    if (use_text, scoring.alpha) == (choice.used, choice.alpha):
        voice.note(text_line(bank))
    elif use_text:
        voice.note(f"text: on, alpha {scoring.alpha:g} (asked for)")
    else:
        voice.note("text: off (asked for)")


def text_line(bank: Bank) -> str:
    """One line on the text choice of a bank and its reason."""
    choice = bank.text_choice
    state = f"on, alpha {choice.alpha:g}" if choice.used else "off"
    return f"text: {state} ({choice.why})"

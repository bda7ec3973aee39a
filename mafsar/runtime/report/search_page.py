"""The HTML page of ``mafsar search --report``: a section a class, a picture of each moment."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from mafsar.choices import Progress
from mafsar.runtime.archive.index import Index
from mafsar.runtime.archive.search import Found, clock
from mafsar.runtime.bank.bank import Bank
from mafsar.runtime.report import page
from mafsar.video import Clip, ClipRequest, load_clips

_FRAMES, _SIDE, _GAP = 4, 112, 2
_LEAST_SECONDS = 0.2  # of the part of a file that a picture is made of


def search_page(
    found: Sequence[Found],
    index: Index,
    banks: Sequence[Bank],
    *,
    progress: Progress | None = None,
) -> str:
    """The whole page.

    Args:
        found: What was found. The pictures are read from the files; those that are not there are
            left out.
        index: The index.
        banks: The banks that were searched for.
        progress: Called with (pictures, all, "pictures of moments").
    """
    pictures = _pictures(found, index, progress)
    body = []
    for bank in banks:
        for label in bank.labels:
            chosen = [
                i for i, each in enumerate(found) if (each.bank, each.label) == (bank.name, label)
            ]
            if not chosen:
                continue
            cards = "".join(_card(found[i], pictures[i]) for i in chosen)
            of = f" of {bank.name}" if len(banks) > 1 else ""
            body.append(
                f'<section class="card"><div class="head"><h2>{page.text(label)}</h2>'
                f'<span class="muted">{len(chosen)} found{page.text(of)}</span></div>'
                f'<div class="clips">{cards}</div></section>'
            )
    subtitle = f"{len(index):,} windows of {len(index.sources):,} files, {index.settings.model}"
    return page.page(f"mafsar search: {len(found)} found", subtitle, body)


def _card(found: Found, strip: Image.Image | None) -> str:
    shown = "" if strip is None else page.picture(strip, found.source, quality=82)
    what = "event" if found.rank is None else f"moment {found.rank}"
    facts: list[tuple[str, object]] = [
        (what, f"{clock(found.t_start)}–{clock(found.t_end)}"),
        ("share", f"{found.score:.2f}"),
    ]
    if found.p_none is not None:
        facts.append(("probability of none", f"{found.p_none:.2f}"))
    doubt = '<p class="warn">none of the classes, by the threshold</p>' if found.none else ""
    gone = "" if strip else '<p class="muted small">its file is not here</p>'
    return (
        f'<div class="clip">{shown}<div><p class="small name">{page.text(found.source)}</p>'
        f"{doubt}{gone}{page.facts(facts)}</div></div>"
    )


def _pictures(
    found: Sequence[Found], index: Index, progress: Progress | None
) -> list[Image.Image | None]:
    """Four frames of each place; None where the file cannot be read any more."""
    requests = [
        ClipRequest(
            each.path,
            frames=_FRAMES,
            size=_SIDE,
            geometry=index.settings.geometry,
            start=each.t_start,
            end=max(each.t_end, each.t_start + _LEAST_SECONDS),
            ignore_clock=index.settings.ignore_clock,
        )
        for each in found
    ]
    strips: list[Image.Image | None] = []
    for clip in load_clips(requests):
        strips.append(_strip(clip) if isinstance(clip, Clip) else None)
        if progress is not None:
            progress(len(strips), len(found), "pictures of moments")
    return strips


def _strip(clip: Clip) -> Image.Image:
    gap = np.full((_SIDE, _GAP, 3), 255, np.uint8)
    parts = [part for frame in clip.pixels for part in (frame, gap)][:-1]
    return Image.fromarray(np.concatenate(parts, axis=1))

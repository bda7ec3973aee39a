"""The HTML page of ``mafsar match --report``: one section a query, with picture and bars."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from mafsar.runtime.match.matcher import Match, QueryError, TopK
from mafsar.runtime.report import page


def match_section(match: Match, image: Image.Image | None) -> str:
    """The section of one answered query.

    Args:
        match: The answer.
        image: The picture of `mafsar.runtime.report.alignment.draw_match` without its header, or None.
    """
    answer = match.label if match.label is not None else "none of the classes"
    name = f'<span class="muted">{page.text(match.query)}</span>'
    parts = [
        f'<section class="card"><div class="head"><h2>{page.text(answer)}</h2>{name}</div>',
    ]
    if image is not None:
        parts.append(page.picture(image, f"{match.query}: {answer}"))
    parts.append(page.bars([(row.label, row.score, _note(row)) for row in match.topk]))
    if match.warning:
        parts.append(f'<p class="warn">{page.text(match.warning)}</p>')
    seconds = match.seconds
    pairs: list[tuple[str, object]] = [
        ("clip", f"{match.clip.duration_seconds:.2f} s"),
        ("decode", f"{seconds.decode:.3f} s"),
        ("pre-process", f"{seconds.preprocess:.3f} s"),
        ("encode", f"{seconds.encode:.3f} s"),
        ("match", f"{seconds.match:.4f} s"),
    ]
    if match.p_none is not None:
        pairs.insert(0, ("probability of none", f"{match.p_none:.2f}"))
    parts += [page.facts(pairs), "</section>"]
    return "".join(parts)


def error_section(failed: QueryError) -> str:
    """The section of a query that could not be answered."""
    return (
        f'<section class="card error"><h2>{page.text(failed.query)}</h2>'
        f'<p class="bad">{page.text(failed.error)}</p></section>'
    )


def match_page(sections: Sequence[str], *, subtitle: str) -> str:
    """The whole page.

    Args:
        sections: What `match_section` and `error_section` returned, in order.
        subtitle: One line on support, model and engine.
    """
    count = "1 query" if len(sections) == 1 else f"{len(sections)} queries"
    return page.page(f"mafsar match: {count}", subtitle, sections)


def _note(row: TopK) -> str:
    note = f"{row.score:.3f} · distance {row.distance:.3f}"
    return note if row.text_score is None else f"{note} · by name {row.text_score:.2f}"

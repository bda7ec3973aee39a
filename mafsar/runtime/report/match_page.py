"""The HTML page of ``mafsar match --report``: a summary, then one section a query."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from mafsar.runtime.match.answers import Match, QueryError
from mafsar.runtime.report import page

_ABOUT_SHARES = (
    "The share of a class is its part among the given classes: they sum to 1 for each query. It is "
    "not the chance that the answer is right, since a clip of something else gets shares as well."
)
_ABOUT_DISTANCES = (
    "Distance: the cost of aligning the query's frames with those of the class. Smaller is nearer; "
    "only the differences between classes count, and OTAM's may be negative."
)
_ABOUT_NAMES = " By name: the share by the class's name alone."


def match_section(
    match: Match, image: Image.Image | None, *, nearest: str | None = None, number: int = 1
) -> str:
    """The section of one answered query.

    Args:
        match: The answer.
        image: The frames and lines of `mafsar.runtime.report.alignment.draw_match`, or None.
        nearest: The support clip in the picture.
        number: Its place among the queries, from 1: where the summary links to.
    """
    answer = _answer(match)
    name = f'<span class="muted name">{page.text(match.query)}</span>'
    parts = [
        f'<section class="card" id="q{number}">',
        f'<div class="head"><h2>{page.text(answer)}</h2>{name}</div>',
    ]
    if image is not None:
        parts.append(page.picture(image, f"{match.query}: {answer}"))
        if nearest is not None:
            parts.append(f'<p class="muted small name">{_about_picture(match, nearest)}</p>')
    parts.append(page.bars([(row.label, row.score, f"{row.score:.2f}") for row in match.topk]))
    if match.p_none is not None:
        parts.append(page.facts([("probability of none", f"{match.p_none:.2f}")]))
    if match.warning:
        parts.append(f'<p class="warn">{page.text(match.warning)}</p>')
    parts += [_details(match), "</section>"]
    return "".join(parts)


def error_section(query: str, error: str, *, number: int = 1) -> str:
    """The section of a query that could not be answered.

    Args:
        query: Its name.
        error: Why.
        number: Its place among the queries, from 1.
    """
    return (
        f'<section class="card error" id="q{number}"><h2>{page.text(query)}</h2>'
        f'<p class="bad">{page.text(error)}</p></section>'
    )


def match_page(
    answers: Sequence[Match | QueryError], sections: Sequence[str], *, subtitle: str
) -> str:
    """The whole page.

    Args:
        answers: All answers, in order, for the summary.
        sections: What `match_section` and `error_section` returned, in the same order.
        subtitle: One line on support, model and engine.
    """
    count = "1 query" if len(answers) == 1 else f"{len(answers)} queries"
    return page.page(f"mafsar match: {count}", subtitle, [_summary(answers), *sections])


def _answer(match: Match) -> str:
    return match.label if match.label is not None else "none of the classes"


def _about_picture(match: Match, nearest: str) -> str:
    return (
        f"Above the query, below the nearest clip of {page.text(match.topk[0].label)}, "
        f"{page.text(nearest)}. The stronger a line, the more OTAM pairs the two frames."
    )


def _summary(answers: Sequence[Match | QueryError]) -> str:
    """A row a query: its name, the answer, a bar as long as its share."""
    rows = []
    for number, answer in enumerate(answers, start=1):
        link = f'<a href="#q{number}">{page.text(answer.query)}</a>'
        if isinstance(answer, QueryError):
            rows.append(
                f'<li>{link}<b class="bad">failed</b><span></span><span class="number">–</span></li>'
            )
            continue
        warned = ' <span class="warn" title="has a warning">!</span>' if answer.warning else ""
        rows.append(
            f"<li>{link}<b>{page.text(_answer(answer))}{warned}</b>"
            f"{page.track(answer.score)}"
            f'<span class="number">{answer.score:.2f}</span></li>'
        )
    return (
        f'<nav class="card"><ol class="summary">{"".join(rows)}</ol>'
        f'<p class="muted small">{_ABOUT_SHARES}</p></nav>'
    )


def _details(match: Match) -> str:
    """Distances and times, folded away."""
    by_name = any(row.text_score is not None for row in match.topk)
    head = "<th>class</th><th class=n>distance</th>" + "<th class=n>by name</th>" * by_name
    rows = []
    for row in match.topk:
        cells = f"<td>{page.text(row.label)}</td><td class=n>{row.distance:.3f}</td>"
        if by_name:
            text = "" if row.text_score is None else f"{row.text_score:.2f}"
            cells += f"<td class=n>{text}</td>"
        rows.append(f"<tr>{cells}</tr>")
    seconds = match.seconds
    times = page.facts(
        [
            ("views", match.views),
            ("clip", f"{match.clip.duration_seconds:.2f} s"),
            ("decode", f"{seconds.decode:.3f} s"),
            ("pre-process", f"{seconds.preprocess:.3f} s"),
            ("encode", f"{seconds.encode:.3f} s"),
            ("match", f"{seconds.match:.4f} s"),
        ]
    )
    return (
        "<details><summary>distances and times</summary>"
        f"<table><tr>{head}</tr>{''.join(rows)}</table>"
        f'<p class="muted small">{_ABOUT_DISTANCES}{_ABOUT_NAMES * by_name}</p>{times}</details>'
    )

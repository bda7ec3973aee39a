"""Pieces of a self-contained HTML page: style, bars, pictures. No script, nothing from outside."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mafsar.plain import plain

_STYLE = """
:root { color-scheme: light dark; --ink: #14181f; --muted: #5f6877; --line: #e6e8ee;
  --accent: #4f46e5; --pale: #a5b4fc; --bad: #b42318; --good: #067647; --warn: #b54708;
  --paper: #fff; --ground: #f6f7f9; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8eaf0; --muted: #9aa3b5; --line: #2c313c; --accent: #8b93f8; --pale: #4a5199;
    --bad: #ff8a7a; --good: #5fd39a; --warn: #f5b267; --paper: #191d25; --ground: #0f1218; }
  .picture { filter: brightness(0.86); }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { font-size: 26px; margin: 0 0 4px; letter-spacing: -0.01em; }
h2 { font-size: 19px; margin: 0; overflow-wrap: anywhere; }
p { margin: 6px 0; }
.muted { color: var(--muted); }
.name { overflow-wrap: anywhere; }
a { color: inherit; text-decoration-color: var(--muted); text-underline-offset: 3px; }
.small { font-size: 13px; }
.card { background: var(--paper); border: 1px solid var(--line); border-radius: 14px;
  padding: 20px 22px; margin: 18px 0; }
.head { display: flex; gap: 12px; align-items: baseline; justify-content: space-between;
  flex-wrap: wrap; margin-bottom: 12px; }
.picture { width: 100%; height: auto; display: block; border-radius: 8px; }
.bars { display: grid; grid-template-columns: fit-content(45%) 1fr max-content;
  gap: 7px 14px; align-items: center; margin: 14px 0 6px; max-width: 760px;
  overflow-wrap: anywhere; }
.summary { list-style: none; margin: 0 0 10px; padding: 0; }
.summary li { display: grid; grid-template-columns: 5fr 4fr 3fr max-content; gap: 2px 16px;
  align-items: center; padding: 6px 0; border-bottom: 1px solid var(--line);
  overflow-wrap: anywhere; }
.summary b { font-weight: 600; }
details { margin-top: 12px; }
summary { cursor: pointer; color: var(--muted); font-size: 13px; }
details table { max-width: 520px; margin: 10px 0; font-size: 14px; }
.track { background: var(--line); border-radius: 5px; height: 10px; overflow: hidden; }
.track i { display: block; height: 100%; background: var(--pale); border-radius: 5px; }
.track.first i, .summary .track i { background: var(--accent); }
.number { font-variant-numeric: tabular-nums; color: var(--muted); font-size: 13px; }
.facts { display: flex; flex-wrap: wrap; gap: 4px 22px; color: var(--muted); font-size: 13px; }
.facts b { font-weight: 500; color: var(--ink); }
.bad { color: var(--bad); } .good { color: var(--good); } .warn { color: var(--warn); }
.error { border-left: 4px solid var(--bad); }
.clips { display: grid; grid-template-columns: repeat(auto-fill, minmax(260px, 1fr)); gap: 14px; }
.clip { border: 1px solid var(--line); border-radius: 10px; overflow: hidden; }
.clip > div { padding: 8px 12px 10px; overflow-wrap: anywhere; }
.clip.hurts { border-color: var(--bad); }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: 7px 12px 7px 0; border-bottom: 1px solid var(--line); }
th { font-weight: 600; color: var(--muted); font-size: 13px; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
ul { margin: 6px 0; padding-left: 20px; }
@media (max-width: 620px) {
  main { padding: 20px 12px 40px; }
  h1 { font-size: 21px; }
  .card { padding: 14px; border-radius: 10px; }
  .summary li { grid-template-columns: 1fr 80px max-content; gap: 4px 10px; }
  .summary li > a { grid-column: 1 / -1; font-size: 13px; color: var(--muted); }
  .clips { grid-template-columns: 1fr; }
}
"""


def page(title: str, subtitle: str, body: Iterable[str]) -> str:
    """A whole page; `title` and `subtitle` are plain text, `body` is HTML."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n<style>{_STYLE}</style></head>\n<body><main>\n"
        f'<h1>{text(title)}</h1>\n<p class="muted">{text(subtitle)}</p>\n'
        + "\n".join(body)
        + "\n</main></body></html>\n"
    )


def text(value: object) -> str:
    """Plain text as HTML, in which control characters are shown."""
    # A file name may hold bytes that are no text.
    return html.escape(plain(str(value).encode("utf-8", "replace").decode("utf-8")))


def facts(pairs: Sequence[tuple[str, object]]) -> str:
    """Short facts on one line."""
    cells = "".join(f"<span>{text(name)} <b>{text(value)}</b></span>" for name, value in pairs)
    return f'<div class="facts">{cells}</div>'


def bars(rows: Sequence[tuple[str, float, str]], *, first_only: bool = True) -> str:
    """Horizontal bars: name, share (0–1), what is written behind.

    Args:
        rows: The bars.
        first_only: Whether the first one stands out; else all have the strong colour.
    """
    cells = []
    for index, (name, share, note) in enumerate(rows):
        strong = not (index and first_only)
        cells.append(
            f"<span>{text(name)}</span>{track(share, strong=strong)}"
            f'<span class="number">{text(note)}</span>'
        )
    return f'<div class="bars">{"".join(cells)}</div>'


def track(share: float, *, strong: bool = False) -> str:
    """A bar, filled as far as `share` (0–1) goes; strong in the accent colour."""
    width = 100.0 * min(max(share, 0.0), 1.0)
    first = " first" if strong else ""
    return f'<span class="track{first}"><i style="width:{width:.1f}%"></i></span>'


def picture(image: Image.Image, alt: str, *, quality: int = 88) -> str:
    """A picture inside the page, as a JPEG."""
    data = io.BytesIO()
    image.convert("RGB").save(data, "JPEG", quality=quality, optimize=True, subsampling=0)
    code = base64.b64encode(data.getvalue()).decode("ascii")
    return f'<img class="picture" alt="{text(alt)}" src="data:image/jpeg;base64,{code}">'


def match_cell(
    title: str,
    rows: Sequence[tuple[str, float, str]],
    image: Image.Image | None,
    alt: str,
) -> str:
    """One answer as a cell of a notebook: picture and bars."""
    shown = "" if image is None else picture(image, alt)
    return f"<div><style>{_STYLE_OF_CELLS}</style><p>{text(title)}</p>{shown}{bars(rows)}</div>"


def bank_cell(title: str, classes: Sequence[tuple[str, str, NDArray[np.uint8] | None]]) -> str:
    """A bank as a cell of a notebook: each class's label, count of clips and first clip.

    Args:
        title: One line.
        classes: Label, count and the small frames (T, S, S, 3) of a clip, or None.
    """
    lines = []
    for label, count, frames in classes:
        shown = ""
        if frames is not None:
            shown = picture(Image.fromarray(np.concatenate(list(frames), axis=1)), label)
        lines.append(f"<tr><td>{text(label)}</td><td>{text(count)}</td><td>{shown}</td></tr>")
    return f"<div><p>{text(title)}</p><table>{''.join(lines)}</table></div>"


# Notebooks have their own colours: only what bars need is set, and only where bars are.
_STYLE_OF_CELLS = """
.bars { display: grid; grid-template-columns: minmax(90px, max-content) 1fr max-content;
  gap: 7px 14px; align-items: center; max-width: 760px; }
.track { background: #8883; border-radius: 5px; height: 10px; overflow: hidden; }
.track i { display: block; height: 100%; background: #a5b4fc; border-radius: 5px; }
.track.first i { background: #4f46e5; }
.picture { max-width: 100%; height: auto; }
"""

"""The order, the clock and the kinds of the pictures in a frame folder, from their names alone.

A folder may hold several series side by side (``img_00001.jpg`` and ``flow_x_00001.jpg``), and
pictures that are no frames at all (``thumbnail.jpg``). Names may count in decimal, hexadecimal or
negative numbers, or be the seconds at which the frames are shown (``0.04.png``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import PurePath

from mafsar.video.source import natural_key

_NUMBER = r"(?P<number>[+-]?\d+(?:[.,]\d+)?(?:[eE][+-]?\d+)?)(?P<unit>ms|us|ns|sec|s)?"
_HEX = r"(?:0[xX])?[0-9a-fA-F]+"
_RUNS = r"(\d+)"
_WORDS = r"[a-z]+"
_UNITS = {"s": 1.0, "sec": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
# Words in the name of pictures that are not what a camera saw.
_OTHER_WORDS = (
    "flow", "depth", "mask", "seg", "thumb", "disp", "normal", "infra", "annot", "label", "matte",
    "alpha", "preview", "poster", "cover", "heat", "edge", "skel", "pose", "thermal", "trimap",
    "warp", "albedo", "optical", "semantic", "instance", "panoptic", "parsing", "salien", "lidar",
    "radar", "event", "confidence", "keypoint", "landmark", "silhouette", "contour", "overlay",
    "matting", "pointcloud", "lwir", "nir", "swir",
)  # fmt: skip
_CAMERA_WORDS = frozenset({"rgb", "color", "colour"})
_OTHER_LETTERS = frozenset({"x", "y", "u", "v", "ir", "gt", "of", "flo"})
_FEW = 4
"""Pictures without a number are skipped where the series has this many times as many."""


@dataclass(frozen=True)
class Series:
    """Pictures that count through one pattern of names.

    Attributes:
        pattern: As `parse_pattern` reads it, for example ``img_{:05d}.jpg``.
        names: In order.
        numbers: What each name counts, in the same order.
        seconds: When each is shown, for names that are times; else None.
    """

    pattern: str
    names: tuple[str, ...]
    numbers: tuple[tuple[float, ...], ...]
    seconds: tuple[float, ...] | None = None


@dataclass(frozen=True)
class FrameOrder:
    """The frames among the pictures of a folder.

    Attributes:
        names: The frames, in order.
        seconds: When each is shown, or None for frames without a clock.
        skipped: Pictures that are not frames of this clip.
        pattern: Of the series that was chosen among several, else None.
    """

    names: tuple[str, ...]
    seconds: tuple[float, ...] | None = None
    skipped: tuple[str, ...] = ()
    pattern: str | None = None


class SeveralKindsError(Exception):
    """A folder holds several series, and its names do not tell which one is the clip."""

    def __init__(self, series: Sequence[Series]) -> None:
        """Keeps the series, largest first."""
        super().__init__("several kinds of frames")
        self.series = tuple(series)


def order_frames(names: Iterable[str]) -> FrameOrder:
    """Decides which pictures of a folder are the clip's frames, and in which order.

    Args:
        names: Names of the pictures of one folder.

    Raises:
        SeveralKindsError: Several series could be the clip.
    """
    names = sorted(names, key=natural_key)
    series, loose = find_series(names)
    counted = [item for item in series if len(item.names) > 1]
    extras = loose + [name for item in series if len(item.names) == 1 for name in item.names]
    if not counted:
        return FrameOrder(tuple(names))
    chosen = counted
    if len(counted) > 1:
        shown = [item for item in counted if not is_other_kind(item.pattern)]
        # Series that only continue each other (a camera's A_0001 … B_0051 …) are one clip.
        if len(shown) > 1 and _overlap(shown):
            shown = [item for item in shown if _says_camera(item.pattern)] or shown
        if not shown or _overlap(shown):
            raise SeveralKindsError(sorted(shown or counted, key=lambda s: -len(s.names)))
        chosen = shown
    frames = sum(len(item.names) for item in chosen)
    plain = [name for name in extras if not is_other_kind(PurePath(name).stem)]
    if plain and len(plain) * _FEW > frames:
        chosen, extras = (
            [*chosen, Series("", tuple(plain), ())],
            [name for name in extras if name not in plain],
        )
    kept = {name for item in chosen for name in item.names}
    skipped = tuple(name for name in names if name not in kept)
    if len(chosen) > 1:
        return FrameOrder(tuple(name for name in names if name in kept), None, skipped)
    pattern = chosen[0].pattern if len(counted) > 1 else None
    return FrameOrder(chosen[0].names, chosen[0].seconds, skipped, pattern)


def find_series(names: Sequence[str]) -> tuple[list[Series], list[str]]:
    """Groups pictures by the pattern of their names.

    Args:
        names: In natural order.

    Returns:
        The series, and the names without any number.
    """
    stems = [PurePath(name).stem for name in names]
    lead = _hex_lead(stems)
    if lead is not None:
        numbers = [(float(int(stem[len(lead) :], 16)),) for stem in stems]
        return [_series(f"{lead}{{:x}}{PurePath(names[0]).suffix}", names, numbers)], []
    groups: dict[str, list[str]] = {}
    loose: list[str] = []
    for name, stem in zip(names, stems, strict=True):
        before = re.match(r"(.*?)(?=[+-]?\d)", stem)
        if before is None:
            loose.append(name)
        else:
            groups.setdefault(before[1], []).append(name)
    series: list[Series] = []
    for lead, group in groups.items():
        series += _read_numbers(lead, group) or _count_by_runs(group)
    return _join_endings(series), loose


def parse_pattern(pattern: str) -> re.Pattern[str]:
    """The regular expression of a pattern of names.

    Args:
        pattern: A name with the frame's number in braces, as `str.format` has it
            (``img_{:05d}.jpg``, ``{}.png``, ``{:f}.png`` for decimals, ``{:x}.png``), or as FFmpeg
            has it (``img_%05d.jpg``).

    Returns:
        Matches whole names; group k is the k-th number.

    Raises:
        ValueError: No number in it, or a format that is not known.
    """
    expression = ""
    position = count = 0
    for field in re.finditer(r"\{(?P<brace>[^{}]*)\}|%(?P<percent>\d*[dxf])", pattern):
        expression += re.escape(pattern[position : field.start()])
        text = field["brace"] if field["brace"] is not None else field["percent"]
        form = re.fullmatch(r"(?:\w*:)?(?P<width>\d*)(?:\.\d+)?(?P<kind>[dxXfg]?)", text)
        if form is None:
            raise ValueError(f"{{{text}}} is not a number's format")
        width, kind = int(form["width"] or 1), form["kind"]
        if kind in ("x", "X"):
            expression += rf"((?:0[xX])?[0-9a-fA-F]{{{width},}})"
        elif kind in ("f", "g"):
            expression += r"([+-]?\d+(?:[.,]\d+)?(?:[eE][+-]?\d+)?)"
        else:
            expression += rf"([+-]?\d{{{width},}})"
        position = field.end()
        count += 1
    if not count:
        raise ValueError("the frame's number is missing")
    return re.compile(expression + re.escape(pattern[position:]), re.IGNORECASE)


def match_pattern(pattern: str, names: Iterable[str]) -> Series:
    """The pictures that a pattern names, in the order of their numbers.

    Raises:
        ValueError: As for `parse_pattern`.
    """
    expression = parse_pattern(pattern)
    is_hex = re.search(r"\{[^{}]*[xX]\}|%\d*x", pattern) is not None
    found: list[tuple[tuple[float, ...], str]] = []
    for name in names:
        match = expression.fullmatch(name)
        if match is not None:
            texts = match.groups()
            numbers = tuple(float(int(t, 16)) if is_hex else _value(t) for t in texts)
            found.append((numbers, name))
    found.sort(key=lambda item: (item[0], natural_key(item[1])))
    decimal = re.search(r"\{[^{}]*[fg]\}|%\d*f", pattern) is not None
    seconds = tuple(numbers[0] for numbers, _ in found) if decimal else None
    return Series(
        pattern, tuple(name for _, name in found), tuple(number for number, _ in found), seconds
    )


def _series(
    pattern: str,
    names: Sequence[str],
    numbers: Sequence[tuple[float, ...]],
    unit: float | None = None,
) -> Series:
    """A series in the order of its numbers; with a unit, they are times."""
    order = sorted(range(len(names)), key=lambda i: (numbers[i], natural_key(names[i])))
    ranked = tuple(numbers[i] for i in order)
    seconds = None if unit is None else tuple(number[0] * unit for number in ranked)
    return Series(pattern, tuple(names[i] for i in order), ranked, seconds)


def _hex_lead(stems: Sequence[str]) -> str | None:
    """What stands before the number where all names count in hexadecimal; None where they do not."""
    if _count_in_hex(stems):
        return ""
    low, high = min(stems), max(stems)
    pairs = enumerate(zip(low, high, strict=False))
    lead = low[: next((i for i, (a, b) in pairs if a != b), len(low))]
    cut = re.fullmatch(r"(.*[^0-9A-Za-z])[0-9A-Za-z]*", lead)
    if cut is None:
        return None
    rests = [stem[len(cut[1]) :] for stem in stems]
    # Behind a word, letters may also be marks of the pictures (1a, 1b, 2a): a number's last place
    # has both digits and letters.
    last = {rest[-1:].isdecimal() for rest in rests}
    return cut[1] if len(last) == 2 and _count_in_hex(rests) else None


def _count_in_hex(stems: Sequence[str]) -> bool:
    """Whether all are hexadecimal numbers, padded to one width or to none, and not all decimal."""
    if not all(re.fullmatch(_HEX, stem) for stem in stems) or all(
        stem.isdecimal() for stem in stems
    ):
        return False
    digits = [stem[2:] if stem[:2].lower() == "0x" else stem for stem in stems]
    least = min(map(len, digits))
    padded = all(len(text) == least or not text.startswith("0") for text in digits)
    return any(any(c.isdecimal() for c in text) for text in digits) and padded


def _read_numbers(lead: str, names: Sequence[str]) -> list[Series]:
    """One series where the rest of each name is one number with a sign, a fraction or a unit."""
    rests = [re.fullmatch(_NUMBER, PurePath(name).stem[len(lead) :]) for name in names]
    found = [match for match in rests if match is not None]
    if len(found) < len(names):
        return []
    texts = [match["number"] for match in found]
    units = {match["unit"] for match in found}
    signed = [text[0] in "+-" for text in texts]
    if all(signed) and lead and lead[-1] not in "_= ":
        # A dash after a word divides; it is a sign only where some of the numbers lack it.
        lead, texts, signed = lead + texts[0][0], [text[1:] for text in texts], [False]
    unit = _UNITS[units.pop()] if len(units) == 1 and None not in units else None
    fractions = [re.split(r"[.,]", text)[1:] for text in texts]
    decimal = any(fractions) or any("e" in text.lower() for text in texts)
    if decimal and not _is_file_number(lead, texts, fractions):
        unit = unit or 1.0
    elif decimal or not (any(signed) or unit):
        return []
    numbers = [(_value(text),) for text in texts]
    tail = (found[0]["unit"] or "") + PurePath(names[0]).suffix
    return [_series(f"{lead}{{:{'f' if decimal else 'd'}}}{tail}", names, numbers, unit)]


def _is_file_number(lead: str, texts: Sequence[str], fractions: Sequence[Sequence[str]]) -> bool:
    """Whether ``shot1.0001`` counts frames of shot 1, rather than being 1.0001 seconds."""
    if not lead or not all(fractions) or len({re.split(r"[.,]", text)[0] for text in texts}) > 1:
        return False
    digits = [fraction[0] for fraction in fractions]
    if len({len(text) for text in digits}) > 1 or not all(text.isdecimal() for text in digits):
        return False
    counts = sorted(int(text) for text in digits)
    steps = {after - before for before, after in pairwise(counts)}
    return len(digits[0]) > 2 and steps <= {1}


def _count_by_runs(names: Sequence[str]) -> list[Series]:
    """Series of names that are equal but for runs of digits."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for name in names:
        path = PurePath(name)
        groups.setdefault((*re.split(_RUNS, path.stem)[::2], path.suffix), []).append(name)
    series: list[Series] = []
    for key, group in groups.items():
        *literals, suffix = key
        runs = [re.findall(_RUNS, PurePath(name).stem) for name in group]
        columns = [[run[i] for run in runs] for i in range(len(literals) - 1)]
        varied = [i for i, column in enumerate(columns) if len({int(text) for text in column}) > 1]
        # The run that takes most values counts the frames; the last of several such.
        frame = max(varied or [len(columns) - 1], key=lambda i: (len(set(columns[i])), i))
        others = [i for i in varied if i != frame]
        parts: dict[tuple[str, ...], list[int]] = {}
        for row, run in enumerate(runs):
            parts.setdefault(tuple(run[i] for i in others), []).append(row)
        if not others or not _are_series(literals, columns, others, frame, list(parts.values())):
            parts = {(): list(range(len(group)))}
        split = () not in parts
        for rows in parts.values():
            free = [frame] if split else (varied or [frame])
            pattern = literals[0]
            for i, literal in enumerate(literals[1:]):
                texts = [columns[i][row] for row in rows]
                pattern += (_field(texts) if i in free else texts[0]) + literal
            numbers = [tuple(float(columns[i][row]) for i in free) for row in rows]
            series.append(_series(pattern + suffix, [group[row] for row in rows], numbers))
    return series


def _are_series(
    literals: Sequence[str],
    columns: Sequence[Sequence[str]],
    others: Sequence[int],
    frame: int,
    parts: Sequence[Sequence[int]],
) -> bool:
    """Whether names that differ in a second number are series side by side (``cam0``, ``cam1``).

    They are where several values of it count through the same frames. Times of the day (``12-59-00``)
    also repeat, and are one series.
    """
    if max(len(rows) for rows in parts) < 2:
        return False
    after_letter = any(literals[i][-1:].isalpha() for i in others)
    clock = all(len(text) == 2 and int(text) < 60 for i in (*others, frame) for text in columns[i])
    if not after_letter and (clock or not any(c.isalpha() for text in literals for c in text)):
        return False
    counts = [{columns[frame][row] for row in rows} for rows in parts]
    shared = sum(
        any(len(mine & other) * 2 >= min(len(mine), len(other)) for j, other in enumerate(counts)
            if j != i)
        for i, mine in enumerate(counts)
    )  # fmt: skip
    return shared * 2 >= len(counts)


def _field(texts: Sequence[str]) -> str:
    """``{:05d}`` for numbers of one width, else ``{:d}``."""
    widths = {len(text) for text in texts}
    return f"{{:0{widths.pop()}d}}" if len(widths) == 1 and max(map(len, texts)) > 1 else "{:d}"


def _join_endings(series: Sequence[Series]) -> list[Series]:
    """Joins series that differ only in their ending and count on from each other."""
    joined: dict[str, list[Series]] = {}
    for item in series:
        stem = re.sub(r"\{:\d*d\}", "{:d}", str(PurePath(item.pattern).with_suffix("")))
        fitting = joined.setdefault(stem, [])
        for i, other in enumerate(fitting):
            if not set(item.numbers) & set(other.numbers) and item.seconds is other.seconds is None:
                names, numbers = other.names + item.names, other.numbers + item.numbers
                fitting[i] = _series(other.pattern, names, numbers)
                break
        else:
            fitting.append(item)
    return [item for fitting in joined.values() for item in fitting]


def _says_camera(name: str) -> bool:
    return not _CAMERA_WORDS.isdisjoint(_words(name))


def is_other_kind(name: str) -> bool:
    """Whether the words of a name say that its pictures are not what a camera saw."""
    return any(word in _OTHER_LETTERS or word.startswith(_OTHER_WORDS) for word in _words(name))


def _words(name: str) -> list[str]:
    """The words in the name of a picture or in a pattern."""
    return re.findall(_WORDS, re.sub(r"\{[^}]*\}", " ", PurePath(name).stem.lower()))


def _overlap(series: Sequence[Series]) -> bool:
    """Whether two series count through the same numbers."""
    seen: set[tuple[float, ...]] = set()
    for item in series:
        if seen & set(item.numbers):
            return True
        seen |= set(item.numbers)
    return False


def _value(text: str) -> float:
    return float(text.replace(",", "."))

"""Few-shot episodes: drawn from a seed, independent of order and threads, saved as JSON.

Draws use only the raw 64-bit stream of PCG64, which NumPy promises to keep; the methods of its
`Generator` may change between versions, which would change the episodes of a seed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mafsar.documents import parse_json, read_text
from mafsar.errors import InputError, MismatchError, Option, option

SCHEMA = 1
_MOST_BYTES = 256 << 20  # of a file of episodes: some millions of them
_TRIES = 1000  # draws of an episode whose groups are apart
Indices = NDArray[np.int32]


@dataclass(frozen=True, repr=False)
class Episodes:
    """n episodes drawn from a list of clips; every number is an index.

    Attributes:
        way: Classes N of an episode.
        shot: Support clips K per class.
        query: Query clips per class.
        seed: The seed they were drawn with.
        classes: Classes of each episode, (n, way).
        support: Support clips, (n, way, shot).
        queries: Query clips, (n, way, query).
    """

    way: int
    shot: int
    query: int
    seed: int
    classes: Indices
    support: Indices
    queries: Indices

    def __len__(self) -> int:
        return len(self.classes)

    def __repr__(self) -> str:
        return f"Episodes({len(self)} × {self.way}-way {self.shot}-shot, seed {self.seed})"


def draw_episodes(
    class_index: Sequence[int] | NDArray[np.integer[Any]],
    labels: Sequence[str],
    *,
    way: int = 5,
    shot: int = 1,
    query: int = 1,
    episodes: int = 10_000,
    seed: int = 0,
    groups: Sequence[str] | None = None,
) -> Episodes:
    """Draws episodes; episode i depends only on the seed, i and the clips.

    Args:
        class_index: Class of each clip, 0 … len(labels) − 1.
        labels: The classes' labels, for messages.
        way: Classes of an episode.
        shot: Support clips of a class.
        query: Query clips of a class.
        episodes: How many.
        seed: ≥ 0.
        groups: Group of each clip, as its person or its camera: no support clip of an episode is
            of the group of a query. None = every clip is a group of its own.

    Returns:
        The episodes. No clip is both support and query of one episode.

    Raises:
        InputError: Too few classes or clips, or a number out of range.
    """
    for name, value, least in (
        ("way", way, 1),
        ("shot", shot, 1),
        ("query", query, 1),
        ("episodes", episodes, 1),
        ("seed", seed, 0),
    ):
        if value < least:
            raise InputError(option(name), f" must be ≥ {least}, got {value}")
    members = [np.flatnonzero(np.asarray(class_index) == index) for index in range(len(labels))]
    if len(labels) < way:
        raise InputError(
            f"{way}-way episodes need {way} classes, the data has {len(labels)}; use ",
            option(way=max(len(labels), 1)),
            " or less",
        )
    needed = shot + query
    short = [f"{labels[i]} ({len(m)})" for i, m in enumerate(members) if len(m) < needed]
    if short:
        raise InputError(
            f"{shot}-shot with {query} query needs {needed} clips per class; too few in "
            f"{', '.join(short[:5])}{', …' if len(short) > 5 else ''}; add clips or lower ",
            option("shot"),
        )
    classes = np.empty((episodes, way), np.int32)
    support = np.empty((episodes, way, shot), np.int32)
    queries = np.empty((episodes, way, query), np.int32)
    for episode in range(episodes):
        stream = np.random.PCG64(np.random.SeedSequence((seed, episode)))
        raw = stream.random_raw(way * (1 + needed)).tolist()
        chosen = _choose(len(labels), raw[:way])
        classes[episode] = chosen
        if groups is not None:
            own = [members[index] for index in chosen]
            support[episode], queries[episode] = _apart(own, groups, shot, query, stream, labels)
            continue
        for position, index in enumerate(chosen):
            start = way + position * needed
            clips = members[index][_choose(len(members[index]), raw[start : start + needed])]
            support[episode, position] = clips[:shot]
            queries[episode, position] = clips[shot:]
    return Episodes(way, shot, query, seed, classes, support, queries)


def _apart(
    members: Sequence[NDArray[np.intp]],
    groups: Sequence[str],
    shot: int,
    query: int,
    stream: np.random.PCG64,
    labels: Sequence[str],
) -> tuple[Indices, Indices]:
    """Draws support and query clips of some classes so that no group is on both sides."""
    for _ in range(_TRIES):
        orders = [
            clips[_choose(len(clips), stream.random_raw(len(clips)).tolist())] for clips in members
        ]
        taken = {groups[clip] for order in orders for clip in order[:shot]}
        free = [[c for c in order[shot:] if groups[c] not in taken][:query] for order in orders]
        if all(len(found) == query for found in free):
            support = np.array([order[:shot] for order in orders], np.int32)
            return support, np.array(free, np.int32)
    raise InputError(
        f"groups: found no {len(members)}-way episode with {shot} support clips and {query} queries"
        f" of each class whose groups differ; {len(set(groups))} groups in {len(labels)} classes"
        " are too few, use fewer classes or shots"
    )


def _choose(count: int, raw: Sequence[int]) -> list[int]:
    """The first len(raw) entries of a shuffled range(count): Fisher–Yates on a sparse array."""
    moved: dict[int, int] = {}
    chosen = []
    for i, bits in enumerate(raw):
        j = i + bits % (count - i)  # the remainder's bias is below count / 2⁶⁴
        chosen.append(moved.get(j, j))
        moved[j] = moved.get(i, i)
    return chosen


def episodes_to_json(episodes: Episodes, labels: Sequence[str], names: Sequence[str]) -> str:
    """Episodes as JSON: the indices, and the labels and names that they refer to.

    Args:
        episodes: The episodes.
        labels: The classes' labels, by index.
        names: The clips' names, by index.
    """
    head = {
        "schema": SCHEMA,
        "kind": "episodes",
        "way": episodes.way,
        "shot": episodes.shot,
        "query": episodes.query,
        "seed": episodes.seed,
        "clips_sha256": _names_sha256(labels, names),
        "classes": list(labels),
        "clips": list(names),
    }
    rows = [
        json.dumps({"classes": c, "support": s, "query": q}, separators=(",", ":"))
        for c, s, q in zip(
            episodes.classes.tolist(),
            episodes.support.tolist(),
            episodes.queries.tolist(),
            strict=True,
        )
    ]
    body = json.dumps(head, ensure_ascii=False, indent=1)[:-2]
    return body + ',\n "episodes": [\n' + ",\n".join(rows) + "\n]\n}\n"


_REMEDY: tuple[str | Option, ...] = (
    "; name another ",
    option("episodes_file"),
    " to draw new ones",
)


def read_episodes(path: Path, labels: Sequence[str], names: Sequence[str]) -> Episodes:
    """Reads frozen episodes and checks that they were drawn from these clips.

    Raises:
        InputError: It is not an episodes file, or an index is out of range.
        MismatchError: The episodes were drawn from other clips.
    """
    try:
        data = parse_json(read_text(path, most_bytes=_MOST_BYTES), str(path))
        if data["kind"] != "episodes" or data["schema"] != SCHEMA:
            raise InputError(f"{path}: not an episodes file of schema {SCHEMA}")
        if data["clips_sha256"] != _names_sha256(labels, names):
            raise MismatchError(
                f"{path}: drawn from other clips ({len(data['clips'])} clips of "
                f"{len(data['classes'])} classes; the data has {len(names)} of {len(labels)})",
                *_REMEDY,
            )
        rows = data["episodes"]
        episodes = Episodes(
            int(data["way"]),
            int(data["shot"]),
            int(data["query"]),
            int(data["seed"]),
            np.array([row["classes"] for row in rows], np.int32),
            np.array([row["support"] for row in rows], np.int32),
            np.array([row["query"] for row in rows], np.int32),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        if isinstance(error, InputError):
            raise InputError(error, *_REMEDY) from error
        raise InputError(f"{path}: not an episodes file ({error})", *_REMEDY) from error
    _check_ranges(path, episodes, len(labels), len(names))
    return episodes


def _check_ranges(path: Path, episodes: Episodes, classes: int, clips: int) -> None:
    way, n = episodes.way, len(episodes)
    shapes = (
        (episodes.classes, (n, way), classes),
        (episodes.support, (n, way, episodes.shot), clips),
        (episodes.queries, (n, way, episodes.query), clips),
    )
    for values, shape, limit in shapes:
        if n == 0 or values.shape != shape or values.min() < 0 or values.max() >= limit:
            raise InputError(f"{path}: an episode is not {way}-way {episodes.shot}-shot", *_REMEDY)


def _names_sha256(labels: Sequence[str], names: Sequence[str]) -> str:
    text = json.dumps([list(labels), list(names)], ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()

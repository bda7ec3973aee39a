"""What Python may hand over: clips, clocks, labels and options of any kind and size."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import mafsar
from mafsar.errors import MafsarError
from mafsar.files import is_folder

EACH = 5  # examples of one number; the first of them is always the simplest
OLD_FILES = Path(__file__).parents[1] / "compat" / "files-0.1.0.zip"


def is_place(value: object) -> bool:
    """Whether a text happens to be a folder, all of which would be searched."""
    return isinstance(value, (str, Path)) and is_folder(Path(value))


numbers = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.integers(-3, 40),
    st.sampled_from([1e-308, 1e308, 2**63, -(2**63), 0, 25, 10.0, None]),
)
words = st.one_of(
    st.text(max_size=20),
    st.sampled_from(["", "\0", "a" * 400, "../x", "\x1b]0;x\x07", "_none", "wave"]),
)
things = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    words,
    st.binary(max_size=8),
    st.just(object()),
)
shapes = st.one_of(
    st.tuples(
        st.integers(0, 6), st.integers(0, 40), st.integers(0, 40), st.sampled_from([3, 3, 3, 1, 4])
    ),
    st.lists(st.integers(0, 5), max_size=5).map(tuple),
)
kinds = st.sampled_from([np.uint8, np.uint8, np.uint8, np.float32, np.int64, np.bool_])
frames = st.builds(np.zeros, st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3)), kinds)
clips = st.one_of(
    arrays.arrays(kinds, shapes),
    st.builds(np.zeros, st.tuples(st.integers(1, 5), *[st.integers(1, 40)] * 2, st.just(3)), kinds),
    st.lists(frames, max_size=4),
    things,
    words.map(Path),
).filter(lambda clip: not is_place(clip))
supports = st.one_of(
    st.dictionaries(words, st.lists(clips, max_size=3), min_size=1, max_size=3),
    st.fixed_dictionaries(
        {name: st.lists(st.just(np.zeros((4, 32, 32, 3), np.uint8)), min_size=1) for name in "ab"}
    ),
    things,
    words.map(Path),
).filter(lambda support: not is_place(support))


def options(**choices: Any) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=choices)


clock = {"fps": numbers, "times": st.one_of(st.none(), st.lists(numbers, max_size=5))}
either = {
    "text": st.sampled_from(["auto", "on", "off", "x", 3]),
    "views": st.one_of(numbers, words),
}
enrolled = options(
    **clock,
    **either,
    batch=numbers,
    on_error=st.sampled_from(["raise", "skip", "no"]),
    images=st.booleans(),
)
asked = options(
    **clock, **either, topk=numbers, alpha=numbers, metric=st.sampled_from(["otam", "mean", "cosine", None]),
    threshold=st.one_of(numbers, st.sampled_from(["auto", "off", "x"])),
)  # fmt: skip
trained = options(
    way=things, shot=numbers, query=numbers, episodes=numbers, seed=numbers, lam=numbers, data=things,
    model=things, alpha=numbers, smooth=numbers, visual_scale=numbers, optim=things, metric=words,
)  # fmt: skip
geometries = options(
    roi=st.one_of(st.none(), st.tuples(*[numbers] * 4), things),
    fit=words,
    rotate=numbers,
    hflip=st.booleans(),
)


def make(folder: Path) -> Callable[[int], dict[str, int]]:
    """Hands the examples of a number to enroll, match, geometry and configuration."""
    if not (folder / "old").exists():
        with zipfile.ZipFile(OLD_FILES) as archive:
            archive.extractall(folder / "old")
    encoder = mafsar.load_model(folder / "old" / "small.mafsar", engine="onnx", device="cpu")
    bank = mafsar.read_bank(folder / "old" / "on.safetensors")
    tally = {"answer": 0, "refused": 0}

    def tried(call: Callable[[], object]) -> None:
        try:
            call()
            tally["answer"] += 1
        except MafsarError as error:
            if "\n" in str(error):
                raise AssertionError(f"more than one line: {error}") from error
            tally["refused"] += 1

    def use(number: int) -> dict[str, int]:
        tally.update(answer=0, refused=0)

        @seed(number)
        @settings(
            max_examples=EACH, database=None, deadline=None, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(st.integers(0, 3), supports, clips, enrolled, asked, trained, geometries)
        def one(
            door: int, support: Any, clip: Any, how: Any, match: Any, config: Any, part: Any
        ) -> None:
            if door == 0:
                tried(lambda: mafsar.enroll(support, encoder, cache=False, **how))
            elif door == 1:
                tried(lambda: bank.match(clip, encoder, **match))
            elif door == 2:
                tried(lambda: mafsar.TrainConfig(**config))
            else:
                tried(lambda: mafsar.Geometry(**part))

        one()
        return dict(tally)

    return use

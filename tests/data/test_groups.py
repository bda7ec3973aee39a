"""Groups of clips: the file, and episodes whose support and queries have none in common."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mafsar.data.episodes import draw_episodes
from mafsar.data.groups import read_groups
from mafsar.errors import InputError, MissingError

PEOPLE = 7


def _clips(classes=4, people=PEOPLE):
    index = np.repeat(np.arange(classes), people)
    return (
        index,
        [f"c{label}" for label in range(classes)],
        [f"p{i % people}" for i in range(len(index))],
    )


@pytest.mark.parametrize(("way", "shot", "query"), [(4, 1, 1), (3, 2, 2), (2, 3, 1)])
def test_no_group_is_on_both_sides_of_an_episode(way, shot, query):
    index, labels, people = _clips()
    drawn = draw_episodes(
        index, labels, way=way, shot=shot, query=query, episodes=300, seed=4, groups=people
    )
    seen = set()
    for classes, support, queries in zip(drawn.classes, drawn.support, drawn.queries, strict=True):
        assert not {people[i] for i in support.ravel()} & {people[i] for i in queries.ravel()}
        assert (index[support] == classes[:, None]).all()
        assert (index[queries] == classes[:, None]).all()
        assert len(set(support.ravel()) | set(queries.ravel())) == way * (shot + query)
        seen |= set(queries.ravel().tolist())
    assert len(seen) == len(index), "every clip is asked at some time"


def test_an_episode_depends_on_its_number_alone():
    index, labels, people = _clips()
    few, many = (
        draw_episodes(index, labels, way=3, episodes=n, seed=1, groups=people) for n in (5, 50)
    )
    assert (few.queries == many.queries[:5]).all()
    assert (few.support == many.support[:5]).all()


def test_groups_that_cannot_be_kept_apart_are_an_error():
    index, labels, _ = _clips()
    with pytest.raises(InputError, match="groups"):
        draw_episodes(index, labels, way=2, episodes=1, groups=["the same"] * len(index))


def _write(tmp_path, text):
    path = tmp_path / "g.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_paths_are_relative_to_the_file(tmp_path):
    path = _write(tmp_path, f"path,group\na/1.mp4,ann\n{tmp_path / 'a' / '2.mp4'},bob\n")
    clips = [tmp_path / "a" / "2.mp4", tmp_path / "a" / ".." / "a" / "1.mp4"]
    assert read_groups(path, clips) == ["bob", "ann"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "path,person\na,b\n",
            "no column group; the header should be path,group, found path,person",
        ),
        ("", "no column group"),
        ("path,group\na.mp4,\n", "line 2: a.mp4 has no group"),
        ("path,group\na.mp4,x\n./a.mp4,y\n", "is in x and y"),
        ("path,group\nb.mp4,x\n", "has no group for"),
    ],
)
def test_a_wrong_file_is_one_clear_line(tmp_path, text, said):
    with pytest.raises(InputError, match=said.replace("(", r"\(")) as caught:
        read_groups(_write(tmp_path, text), [tmp_path / "a.mp4"])
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(MissingError, match=r"none\.csv"):
        read_groups(tmp_path / "none.csv", [Path("a")])

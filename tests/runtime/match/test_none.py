"""Banks that know clips of none of their classes, and matchers that say so."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

import mafsar
from mafsar.choices import FAR, NonePrior
from mafsar.errors import InputError, MissingError, UnavailableError
from mafsar.runtime.bank.background import MOST_WINDOWS
from mafsar.runtime.bank.edit import remove
from mafsar.runtime.bank.enroll import enroll
from mafsar.runtime.cache.features import FeatureCache
from mafsar.runtime.engines.negatives import read_negatives, write_negatives
from mafsar.runtime.live.watch import Watch
from mafsar.runtime.match.matcher import Matcher
from mafsar.runtime.studio.live import LiveSession
from mafsar.video import write_video
from mafsar.video.live.place import places_of

PRIOR = NonePrior((-1.0, 1.5, 0.7, -0.3, 0.2, 0.3, 0.4, 0.9, 0.5), 10.0, 0.5, 0.1)
SIZE = 32


def moving(kind: int, seed: int, frames: int = 12) -> np.ndarray:
    """A clip of one of a few motions of a bright square, over noise."""
    rng = np.random.default_rng([kind, seed])
    clip = rng.integers(0, 60, (frames, SIZE, SIZE, 3)).astype(np.uint8)
    for t, frame in enumerate(clip):
        along = int(t * (SIZE - 10) / (frames - 1))
        x, y = ((along, 4), (4, along), (SIZE - 10 - along, 20), (20, SIZE - 10 - along))[kind % 4]
        frame[y : y + 9, x : x + 9] = (240, 200, 40) if kind < 4 else (40, 90, 250)
    return clip


@pytest.fixture
def knowing(make_encoder, tmp_path):
    """An encoder whose model brings negatives."""
    rng = np.random.default_rng(4)
    plain = make_encoder()
    noise = rng.integers(0, 256, (40, 4, 4, 4, 3)).astype(np.uint8)
    frames = noise.repeat(SIZE // 4, axis=2).repeat(SIZE // 4, axis=3)
    file = tmp_path / "negatives.safetensors"
    write_negatives(file, plain.encode_query(frames).frames)
    return make_encoder(none_prior=PRIOR, negatives_file=str(file), text=False)


@pytest.fixture
def bank(knowing):
    support = {f"class{k}": [moving(k, s) for s in range(3)] for k in range(3)}
    return enroll(support, knowing, cache=False)


def test_a_known_clip_is_named_and_a_strange_one_is_none(bank, knowing) -> None:
    matcher = Matcher(bank, knowing)
    known = matcher(moving(1, 9))
    assert (known.label, known.none) == ("class1", False)
    strange = matcher(moving(6, 1))
    assert (strange.label, strange.none) == (None, True)
    assert 0 <= known.p_none < matcher.threshold < strange.p_none <= 1
    assert strange.topk[0].label in bank.labels  # the nearest is still listed
    answer = Matcher(bank, knowing, threshold="off")(moving(6, 1))
    assert answer.label == strange.topk[0].label
    assert answer.p_none == strange.p_none
    assert not Matcher(bank, knowing, threshold=1.0)(moving(6, 1)).none
    assert Matcher(bank, knowing, threshold=0.0)(moving(1, 9)).none
    assert matcher.judge.p_none(bank.query).shape == (9,)


def test_far_orders_thresholds_and_is_kept_in_the_bank(bank, knowing, tmp_path) -> None:
    limits = [Matcher(bank, knowing, far=far).threshold for far in (0.01, 0.1, 0.5)]
    assert limits == sorted(limits)
    assert bank.none.far == FAR
    support = {"class3": [moving(3, s) for s in range(2)]}
    more = enroll(support, knowing, add_to=bank, far=0.2, cache=False)
    read = mafsar.read_bank(more.save(tmp_path / "bank.safetensors"))
    assert read.none.far == 0.2
    assert read.none.prior == PRIOR
    np.testing.assert_array_equal(read.none.negatives, read_negatives(knowing.spec))
    np.testing.assert_array_equal(read.motion, more.motion)
    assert Matcher(read, knowing).threshold == Matcher(more, knowing).threshold
    assert Matcher(more, knowing, far=0.05).threshold <= Matcher(more, knowing).threshold
    assert len(remove(read, class_names=["class3"]).motion) == 9


def test_windows_that_have_to_agree_may_each_accept_the_root_of_far(bank, knowing) -> None:
    """Of `watch` and of the studio's page alike; a threshold of one's own stays what it is."""
    for far in (None, 0.01):
        matcher = Matcher(bank, knowing, far=far)
        windows = matcher.for_windows()
        root = math.sqrt(FAR if far is None else far)
        assert windows.threshold == Matcher(bank, knowing, far=root).threshold
        assert windows.threshold > matcher.threshold
        assert windows.for_windows().threshold == windows.threshold
        frames = [(0.0, moving(0, 0)[0])]
        assert (
            Watch(lambda it=matcher: it, places_of(frames)).matcher.threshold == windows.threshold
        )
        session = LiveSession(lambda word, far=far: Matcher(bank, knowing, threshold=word, far=far))
        assert session.plan["threshold"] == windows.threshold
        session.close()
    for own in ("off", 0.3):
        matcher = Matcher(bank, knowing, threshold=own)
        assert matcher.for_windows().threshold == matcher.threshold


@pytest.mark.parametrize("ways", [1, 2, 3])
@pytest.mark.parametrize("shots", [1, 3])
def test_banks_of_any_size_are_calibrated(knowing, ways, shots) -> None:
    support = {f"class{k}": [moving(k, s) for s in range(shots)] for k in range(ways)}
    matcher = Matcher(enroll(support, knowing, cache=False), knowing)
    known, strange = matcher(moving(0, 8)), matcher(moving(6, 2))
    assert known.p_none < strange.p_none
    assert strange.none or ways == 1  # the weights above are made up
    assert "only one class" not in (strange.warning or "")


def test_a_still_clip_is_said_to_be_still(bank, knowing) -> None:
    still = np.repeat(moving(0, 5)[6:7], 12, axis=0)
    answer = Matcher(bank, knowing)(still)
    assert (answer.label, answer.none, answer.p_none) == (None, True, 1.0)
    assert answer.warning == "still: nothing moves in this clip"
    off = Matcher(bank, knowing, threshold="off")(still)
    assert off.label is not None
    assert off.warning.startswith("still")
    # Where the classes themselves are still, a still clip is judged like any other.
    stills = {
        f"class{k}": [np.repeat(moving(k, s)[6:7], 4, axis=0) for s in range(2)] for k in range(2)
    }
    answer = Matcher(enroll(stills, knowing, cache=False), knowing)(still)
    assert answer.p_none < 1.0
    assert "still" not in (answer.warning or "")


def test_background_clips_become_none(knowing, tmp_path) -> None:
    video = tmp_path / "idle.mp4"
    idle = np.concatenate([moving(5, s) for s in range(12)])
    write_video(video, iter(idle), 12.0)
    support = {f"class{k}": [moving(k, s) for s in range(2)] for k in range(2)}
    bank = enroll(support, knowing, fps=12.0, none=video, cache=False)
    windows = [clip for clip in bank.clips if clip.is_background]
    assert len(windows) == 6  # 12 seconds in windows of 2, as no support file has a clock
    assert [clip.start for clip in windows] == [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
    assert len(bank.labels) == 2
    without = enroll(support, knowing, fps=12.0, cache=False)
    query = moving(5, 40)
    assert Matcher(bank, knowing)(query).p_none > Matcher(without, knowing)(query).p_none
    both = enroll(support, knowing, fps=12.0, none=[video, moving(5, 77)], cache=False)
    assert sum(clip.is_background for clip in both.clips) == 7
    assert len(windows) < MOST_WINDOWS


def test_a_source_of_background_that_is_not_there_is_named(knowing, tmp_path) -> None:
    support = {"a": [moving(0, 0)]}
    with pytest.raises(MissingError, match=r"^none='nowhere\.mp4': no such file or folder"):
        enroll(support, knowing, none="nowhere.mp4", cache=False)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="a folder without a clip"):
        enroll(support, knowing, none=tmp_path / "empty", cache=False)


@pytest.mark.parametrize("far", [0, 1, -0.1, True, "0.1"])
def test_a_rate_out_of_range_is_refused(bank, knowing, far) -> None:
    with pytest.raises(InputError, match=r"^far must be a number between 0 and 1"):
        Matcher(bank, knowing, far=far)
    with pytest.raises(InputError, match=r"^far must be a number between 0 and 1"):
        enroll({"a": [moving(0, 0)]}, knowing, far=far, cache=False)


def test_a_bank_without_negatives_answers_as_before(encoder, bank, knowing) -> None:
    support = {f"class{k}": [moving(k, s) for s in range(2)] for k in range(2)}
    plain = enroll(support, encoder, text="off", cache=False)
    assert plain.none is None
    answer = Matcher(plain, encoder)(moving(6, 1))
    assert (answer.p_none, answer.none, answer.label is None) == (None, False, False)
    for asked in ({"threshold": 0.5}, {"far": 0.1}):
        with pytest.raises(UnavailableError, match="p_none is not calibrated in this bank"):
            Matcher(plain, encoder, **asked)
    # Adding clips by a model that brings negatives calibrates an old bank.
    old = mafsar.Bank(
        **{f: getattr(bank, f) for f in bank.__dataclass_fields__} | {"none": None, "motion": None}
    )
    more = enroll({"class0": [moving(0, 50)]}, knowing, add_to=old, cache=False)
    assert more.none is not None
    assert (more.motion == -1).sum() == len(old)


def test_features_of_an_older_cache_have_no_motion(knowing, tmp_path) -> None:
    cache = FeatureCache(tmp_path / "cache")
    support = {"a": [moving(0, 0)], "b": [moving(1, 0)]}
    enroll(support, knowing, cache=cache)
    for path in cache.folder.glob("??/*.safetensors"):
        key = path.parent.name + path.stem
        entry = cache.get(key)
        if entry is not None and entry.pop("motion", None) is not None:
            cache.put(key, entry)
    again = enroll(support, knowing, cache=cache)
    assert (again.motion == -1).all()


def test_a_leaner_bank_is_refused_where_its_negatives_are_gone(bank, tmp_path) -> None:
    from safetensors import safe_open
    from safetensors.numpy import save_file

    from mafsar.runtime.bank import layout

    path = bank.save(tmp_path / "bank.safetensors")
    with safe_open(path, framework="numpy") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        document = json.loads(file.metadata()["mafsar"])
    del tensors["negatives"]
    text = json.dumps(document)
    save_file(tensors, path, {"mafsar": text, "sha256": layout.checksum(text, tensors)})
    with pytest.raises(InputError, match="negatives is missing"):
        mafsar.read_bank(path)

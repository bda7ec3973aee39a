"""The verdict on a support against chance, and advice that is true when followed."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from mafsar.choices import Scoring
from mafsar.data.support import SupportClass
from mafsar.runtime.bank.bank import Bank, read_bank
from mafsar.runtime.bank.clips import EnrolledClip
from mafsar.runtime.bank.edit import remove, settle
from mafsar.runtime.bank.enroll import enroll
from mafsar.runtime.bank.left_out import left_out_clips
from mafsar.runtime.bank.quality import judge
from mafsar.runtime.bank.text_choice import TextChoice
from mafsar.runtime.encoder import BankModel
from mafsar.runtime.scoring.verdict import Verdict, wilson
from mafsar.video import Geometry

T, E = 4, 12


@pytest.fixture
def make_bank(encoder):
    """A bank of random clips around class centres."""

    def make(counts, noise: float, seed: int = 0, views="raw", swapped: int = 0) -> Bank:
        rng = np.random.default_rng(seed)
        own = np.repeat(np.arange(len(counts)), counts)
        looks = own.copy()
        looks[:swapped] = len(counts) - 1  # the first clips show the last class
        frames = rng.normal(size=(len(counts), T, E))[looks]
        frames = (frames + noise * rng.normal(size=(len(own), T, E))).astype(np.float32)
        clips = tuple(
            EnrolledClip(None, f"c{c}", name=f"clip {i}", content_sha256=f"{i:064x}")
            for i, c in enumerate(own)
        )
        model = replace(BankModel.of(encoder.spec), scoring=Scoring(lam=0.1, views=views))
        return settle(
            Bank(
                classes=tuple(SupportClass(f"c{c}", f"c{c}") for c in range(len(counts))),
                words_known=(True,) * len(counts),
                clips=clips,
                query=frames,
                pooled=frames.mean(axis=1),
                support=None,
                text=None,
                model=model,
                geometry=Geometry(),
                text_choice=TextChoice("off", False, 0.0, ""),
            )
        )

    return make


def test_wilson_has_the_published_values():
    """Agresti and Coull 1998: 0 of 10 and 5 of 10."""
    np.testing.assert_allclose(wilson(0, 10), (0.0, 0.2775), atol=1e-4)
    np.testing.assert_allclose(wilson(5, 10), (0.2366, 0.7634), atol=1e-4)
    assert wilson(0, 0) == (0.0, 1.0)


def test_wilson_covers_what_it_says():
    """The exact coverage by the binomial distribution, averaged over shares."""
    from math import comb

    n = 30
    covered = []
    for p in np.linspace(0.05, 0.95, 91):
        inside = [k for k in range(n + 1) if wilson(k, n)[0] <= p <= wilson(k, n)[1]]
        covered.append(sum(comb(n, k) * p**k * (1 - p) ** (n - k) for k in inside))
    assert abs(np.mean(covered) - 0.95) < 0.01


@pytest.mark.parametrize(
    ("right", "judged", "chance", "kind"),
    [
        (30, 60, 0.5, "chance"), (38, 60, 0.5, "apart"), (37, 60, 0.5, "chance"),
        (41, 45, 0.2, "apart"), (0, 0, 0.5, "unjudged"), (5, 5, 1.0, "unjudged"),
        (3, 3, 0.5, "few"), (4, 4, 0.5, "apart"), (2, 45, 0.2, "chance"),
    ],
)  # fmt: skip
def test_kinds(right, judged, chance, kind):
    assert Verdict(right, judged, chance).kind == kind


def test_sentences(make_bank):
    apart = judge(make_bank([9, 9, 9, 9, 9], 0.2))
    assert apart.verdict == (
        "right on 45 of 45 left-out clips (100 %, 95 % interval 92 to 100 %), chance is 9: "
        "these classes are told apart"
    )
    noise = judge(make_bank([30, 30], 50.0))
    assert noise.verdict.endswith("chance is 30: this model cannot tell c0 from c1")
    assert noise.kind == "chance"
    three = judge(make_bank([9, 9, 9], 50.0, seed=1))
    assert three.verdict.endswith("this model cannot tell these 3 classes apart")
    single = judge(make_bank([1, 1, 1], 0.1))
    assert single.verdict == "cannot judge these clips: no class has a second one"
    assert single.interval is None
    assert judge(make_bank([4], 0.1)).verdict.startswith("cannot judge one class alone")
    assert judge(make_bank([2, 1], 0.1)).verdict.endswith("too few clips to judge")
    mixed = judge(make_bank([9, 9, 9], 2.4, seed=2))
    assert mixed.kind == "apart"
    assert "are mixed up" in mixed.verdict
    for report in (apart, noise, single, mixed):
        json.dumps(report.to_json(), allow_nan=False)


@pytest.mark.parametrize("views", ["raw", 0.5])
@pytest.mark.parametrize("seed", range(6))
def test_advice_is_true_when_followed(make_bank, views, seed):
    """Removing what the report names, one after the other, never lowers the accuracy."""
    bank = make_bank([5, 6, 2, 4], 1.2 + 0.4 * (seed % 3), seed, views, swapped=seed % 3)
    report = judge(bank)
    hurting = [clip for clip in report.clips if clip.hurts]
    assert len(hurting) <= 3
    assert all(clip.gain > 0 for clip in hurting)
    assert not any(clip.hurts for clip in report.clips if clip.label == "c2")  # two clips
    if report.kind != "apart":
        assert not hurting
    accuracy = report.accuracy
    for line in report.advice:
        if not line.startswith("remove "):
            continue
        name = line.removeprefix("remove ").partition(":")[0]
        counts = np.bincount(bank.class_index)
        bank = _without(bank, name)
        assert np.bincount(bank.class_index).min() >= min(2, counts.min())
        after = left_out_clips(bank).accuracy
        assert after > accuracy
        accuracy = after


def test_some_support_has_a_clip_that_hurts(make_bank):
    """The test above is not empty."""
    reports = [judge(make_bank([5, 6, 2, 4], 1.6, seed, swapped=2)) for seed in range(8)]
    assert any(clip.hurts for report in reports for clip in report.clips)


def _without(bank: Bank, name: str) -> Bank:
    from mafsar.runtime.bank.edit import merge_banks

    kept = [i for i, clip in enumerate(bank.clips) if clip.location != name]
    rows = np.array(kept)
    return merge_banks(
        replace(
            bank,
            clips=tuple(bank.clips[i] for i in kept),
            query=bank.query[rows],
            pooled=bank.pooled[rows],
        )
    )


def test_the_spare_twin_may_go(encoder, support_folder, cache):
    shutil.copytree(support_folder / "wave" / "clip0", support_folder / "jump" / "twin")
    bank = enroll(support_folder, encoder, text="off", cache=cache)
    report = judge(bank)
    (line,) = [line for line in report.advice if "is also in another class" in line]
    spare = line.partition("; remove ")[2]
    assert spare.endswith("jump/twin")
    after = judge(remove(bank, clip_names=[spare]))
    assert (after.accuracy or 0) >= (report.accuracy or 0)


def test_the_verdict_is_kept_in_the_bank(make_bank, tmp_path):
    bank = make_bank([30, 30], 50.0)
    kept = read_bank(bank.save(tmp_path / "b.safetensors"))
    assert kept.verdict == bank.verdict
    assert kept.verdict is not None
    assert kept.verdict.kind == "chance"


def test_views_are_kept_in_the_bank(encoder, support_folder, cache, tmp_path):
    plain = enroll(support_folder, encoder, text="off", cache=cache)
    bank = enroll(support_folder, encoder, text="off", views=0.25, cache=cache)
    kept = read_bank(bank.save(tmp_path / "b.safetensors"))
    assert (plain.views, kept.views, kept.scoring.views, kept.scoring.lam) == (
        "auto",
        0.25,
        0.25,
        0.1,
    )
    query = support_folder / "wave" / "clip0"
    answer = kept.match(query, encoder)
    assert answer.views == answer.to_json()["views"] == 0.25
    same = plain.match(query, encoder, views=0.25)
    assert [row.distance for row in same.topk] == [row.distance for row in answer.topk]
    raw = kept.match(query, encoder, views="raw")
    assert raw.views == "raw"
    assert [row.distance for row in raw.topk] == [
        row.distance for row in plain.match(query, encoder).topk
    ]
    # The picture's lines are those of the distances that decided.
    assert answer.evidence is not None
    assert raw.evidence is not None
    assert not np.allclose(answer.evidence.distances, raw.evidence.distances)

"""Matching from Python: sources in all forms, batches, scoring, errors, plots and notebooks."""

from __future__ import annotations

import html.parser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mafsar


def pictures(folder: Path) -> list[Image.Image]:
    return [Image.open(file).convert("RGB") for file in sorted(folder.iterdir())]


def array_of(folder: Path) -> np.ndarray:
    return np.stack([np.asarray(image) for image in pictures(folder)])


def softmax(logits) -> np.ndarray:
    shifted = np.exp(logits - np.max(logits))
    return shifted / shifted.sum()


@pytest.fixture
def bank(encoder, support_folder):
    return mafsar.enroll(support_folder, encoder, text="on", cache=False)


@pytest.fixture
def queries(make_clip, tmp_path) -> Path:
    """A folder with one clip of each class, in the order of the labels."""
    for kind in range(3):
        make_clip(tmp_path / "queries" / f"q{kind}", kind, variant=50)
    return tmp_path / "queries"


def test_one_source_gives_a_match_in_all_forms(bank, encoder, queries):
    clip = queries / "q1"
    frames = array_of(clip)
    expected = bank.match(clip, encoder)
    assert isinstance(expected, mafsar.Match)
    assert (expected.label, expected.query) == ("jump", str(clip))
    matcher = mafsar.Matcher(bank, encoder)
    for source in (str(clip), clip, frames, list(frames), tuple(frames), pictures(clip)):
        for found in (bank.match(source, encoder), matcher(source)):
            assert isinstance(found, mafsar.Match)
            assert found.topk == expected.topk
    assert matcher(frames, fps=12.0).clip.duration_seconds == pytest.approx(0.5)
    assert matcher(frames).clip.fps is None
    assert matcher(list(frames), times=[0, 1, 2, 3, 4, 9]).clip.duration_seconds == 10.0


def test_several_sources_give_a_list_in_order(bank, encoder, queries):
    clips = [queries / f"q{kind}" for kind in range(3)]
    matcher = mafsar.Matcher(bank, encoder)
    expected = [matcher(clip).topk for clip in clips]
    arrays = [array_of(clip) for clip in clips]
    for source in (
        queries,
        str(queries),
        clips,
        [str(clip) for clip in clips],
        arrays,
        [list(array) for array in arrays],
        [pictures(clip) for clip in clips],
        [clips[0], arrays[1], pictures(clips[2])],
        (clip for clip in clips),
    ):
        found = matcher(source)
        assert [answer.label for answer in found] == ["clap_hands", "jump", "wave"]
        assert [answer.topk for answer in found] == expected
    assert [answer.query for answer in matcher(arrays)] == ["clip 1", "clip 2", "clip 3"]
    assert [answer.label for answer in bank.match(arrays, encoder)] == [
        "clap_hands",
        "jump",
        "wave",
    ]
    assert matcher([]) == []
    assert isinstance(matcher([clips[0]]), list)  # a list of one clip is a list


@pytest.mark.parametrize("batch", [1, 2, 8])
def test_batches_do_not_change_answers(batch, bank, encoder, queries):
    clips = [queries / f"q{kind}" for kind in (0, 1, 2, 1, 0)]
    sizes = []
    original = encoder.encode_query

    def spy(frames):
        sizes.append(len(frames))
        return original(frames)

    encoder.encode_query = spy
    one_by_one = [mafsar.Matcher(bank, encoder)(clip) for clip in clips]
    sizes.clear()
    found = mafsar.Matcher(bank, encoder, batch=batch)(clips)
    assert sizes == {1: [1] * 5, 2: [2, 2, 1], 8: [5]}[batch]
    assert [answer.label for answer in found] == [answer.label for answer in one_by_one]
    for left, right in zip(found, one_by_one, strict=True):
        for a, b in zip(left.topk, right.topk, strict=True):
            # A product of another size may be summed in another order: rounding of float32.
            assert a.score == pytest.approx(b.score, abs=1e-5)


@pytest.mark.parametrize("metric", ["otam", "bimhm", "mean"])
@pytest.mark.parametrize("text", ["on", "off"])
def test_the_scoring_of_a_matcher_decides(metric, text, bank, encoder, queries, restated_matching):
    alpha = 0.4 if text == "on" else None
    matcher = mafsar.Matcher(bank, encoder, metric=metric, text=text, alpha=alpha)
    scoring = matcher.scoring
    assert isinstance(scoring, mafsar.Scoring)
    own = encoder.spec.scoring
    assert scoring == mafsar.Scoring(
        metric, own.lam, alpha or 0.0, own.visual_scale, own.text_scale
    )
    frames = array_of(queries / "q2")
    picked = [int(6 * (i + 0.5) / 4) for i in range(4)]  # 6 frames, of which the model sees 4
    features = encoder.encode_query(frames[picked][None])
    query, pooled = features.frames[0].astype(float), features.pooled[0].astype(float)
    support = (bank.support if text == "on" else bank.query).astype(float)
    distances = np.array(
        [
            restated_matching.distance(
                metric, query, support[bank.class_index == c].mean(axis=0), scoring.lam
            )
            for c in range(3)
        ]
    )
    factor = 1.0 if metric == "otam" else 4.0
    scores = softmax(-scoring.visual_scale * factor * distances)
    if text == "on":
        cosines = [restated_matching.cosine(pooled, encoder.word(c.text)) for c in bank.classes]
        worded = softmax(scoring.text_scale * np.array(cosines))
        scores = scoring.alpha * worded + (1 - scoring.alpha) * scores
    found = {item.label: item for item in matcher(frames).topk}
    for index, label in enumerate(bank.labels):
        assert found[label].distance == pytest.approx(distances[index], rel=1e-4, abs=1e-4)
        assert found[label].score == pytest.approx(scores[index], abs=1e-4)


def test_a_matcher_takes_the_choices_of_its_bank(encoder, support_folder):
    for text in ("on", "off"):
        bank = mafsar.enroll(support_folder, encoder, text=text, cache=False)
        matcher = mafsar.Matcher(bank, encoder)
        assert matcher.scoring == bank.scoring
        assert matcher.use_text is (text == "on")


def test_a_query_in_memory_that_was_enrolled_is_left_out(encoder, support_folder, tmp_path):
    clips = {
        label: [array_of(support_folder / label / f"clip{i}") for i in range(3)]
        for label in ("jump", "wave")
    }
    bank = mafsar.enroll(clips, encoder, text="off", cache=False)
    saved = mafsar.read_bank(bank.save(tmp_path / "b.safetensors"))
    only_others = mafsar.enroll(
        {"jump": clips["jump"], "wave": clips["wave"][1:]}, encoder, text="off", cache=False
    )
    # The content counts, not the object or the form: an array, its frames, or PIL images.
    same = (clips["wave"][0], list(clips["wave"][0]), pictures(support_folder / "wave" / "clip0"))
    for held in (bank, saved):
        for query in same:
            left_out = held.match(query, encoder)
            assert "wave, clip 1 has the same content and was left out" in left_out.warning
            assert left_out.topk == only_others.match(query, encoder).topk
            kept = held.match(query, encoder, keep_query=True)
            assert kept.warning is None
            assert kept.topk[0].distance < left_out.topk[0].distance
    other = clips["wave"][0].copy()
    other[0, 0, 0, 0] ^= 1
    assert bank.match(other, encoder).warning is None


def test_match_enrolls_and_answers_in_one_call(bank, encoder, support_folder, queries, tmp_path):
    clips = {label: [support_folder / label / "clip0"] for label in bank.labels}
    path = bank.save(tmp_path / "b.safetensors")
    query = queries / "q0"
    for support in (support_folder, str(support_folder), clips, bank, path):
        answer = mafsar.match(support, query, encoder)
        assert isinstance(answer, mafsar.Match)
        assert answer.label == "clap_hands"
    for support in (bank, path):
        assert mafsar.match(support, query, encoder).topk == bank.match(query, encoder).topk
    answers = mafsar.match(support_folder, queries, encoder, topk=1)
    assert [answer.label for answer in answers] == ["clap_hands", "jump", "wave"]
    off = mafsar.match(support_folder, query, encoder, text="off")
    assert all(item.text_score is None for item in off.topk)
    with pytest.raises(mafsar.InputError, match="hflip=True"):
        mafsar.match(bank, query, encoder, geometry=mafsar.Geometry(hflip=True))


def test_match_loads_a_model_once(encoder, support_folder, queries, monkeypatch):
    loads = []

    def load(name):
        loads.append(name)
        return encoder

    monkeypatch.setattr("mafsar.runtime.match.matcher.load_model", load)
    assert mafsar.match(support_folder, queries / "q0").label == "clap_hands"
    assert loads == ["tiny"]


def test_errors_are_of_their_kind_and_name_arguments(bank, encoder, queries, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"not a video")
    (tmp_path / "empty").mkdir()
    frames = array_of(queries / "q0")
    for kind, source, options, words in (
        (mafsar.VideoError, tmp_path / "gone.mp4", {}, "gone.mp4: no such file; check the path"),
        (mafsar.VideoError, broken, {}, "broken.mp4"),
        (mafsar.VideoError, [queries / "q0", broken], {}, "broken.mp4"),
        (mafsar.InputError, tmp_path / "empty", {}, "a folder without a clip"),
        (mafsar.InputError, 7, {}, "a clip is a path, a uint8 RGB array"),
        (mafsar.InputError, frames.astype(float), {}, "array: must be a uint8 RGB array"),
        (mafsar.InputError, [frames, frames[..., :2]], {}, "clip 2: must be a uint8 RGB array"),
        (mafsar.InputError, frames, {"fps": 0.0}, "fps must be finite and > 0"),
        (mafsar.InputError, queries / "q0", {"fps": 25.0}, "fps and times are for arrays"),
        (mafsar.InputError, frames, {"topk": 0}, "topk must be ≥ 1, got 0"),
        (mafsar.InputError, frames, {"text": "maybe"}, "text must be one of auto, on, off, got"),
        (mafsar.InputError, frames, {"text": "off", "alpha": 0.5}, "alpha=0.5: text is off; use text='on'"),
        (mafsar.UnavailableError, frames, {"threshold": 0.5}, "threshold=0.5: p_none is not calibrated"),
    ):  # fmt: skip
        with pytest.raises(kind) as error:
            bank.match(source, encoder, **options)
        message = str(error.value)
        assert words in message
        assert "\n" not in message
        assert "--" not in message
    single = mafsar.enroll({"wave": [frames]}, encoder, text="off")
    with pytest.raises(mafsar.InputError, match="keep them with keep_query=True"):
        single.match(frames, encoder)


def test_plot_writes_a_png(bank, encoder, queries, tmp_path):
    path = tmp_path / "plots" / "q.png"
    assert bank.match(queries / "q0", encoder).plot(str(path)) == path
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert np.asarray(image.convert("RGB")).std() > 10
    assert bank.match(array_of(queries / "q0"), encoder).picture().mode == "RGB"
    evidence = mafsar.Matcher(bank, encoder, evidence=True)(queries)
    assert all(each.evidence is not None for each in evidence)
    for each in bank.match(queries, encoder):
        with pytest.raises(mafsar.UnavailableError, match=r"no evidence to draw; .*evidence=True"):
            each.plot(tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


def test_a_plot_of_clips_in_memory_uses_the_small_pictures(
    encoder, support_folder, queries, tmp_path
):
    clips = {
        label: [array_of(support_folder / label / f"clip{i}") for i in range(2)]
        for label in ("jump", "wave")
    }
    bank = mafsar.enroll(clips, encoder, cache=False)
    saved = mafsar.read_bank(bank.save(tmp_path / "b.safetensors"))
    bare = mafsar.enroll(clips, encoder, images=False, cache=False)
    for number, held in enumerate((bank, saved, bare)):
        assert held.match(queries / "q1", encoder).plot(tmp_path / f"{number}.png").is_file()


class Checked(html.parser.HTMLParser):
    """Fails at tags that are not closed, and keeps tags and text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):  # noqa: ARG002 - as in the base class
        self.tags.append(tag)
        if tag not in ("img", "meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    @classmethod
    def of(cls, text: str) -> Checked:
        parser = cls()
        parser.feed(text)
        parser.close()
        assert parser.open == []
        return parser


def test_reprs_are_short(bank, encoder, queries):
    matcher = mafsar.Matcher(bank, encoder)
    answer = matcher(queries / "q2")
    second = answer.topk[1]
    assert repr(answer) == (
        f"Match(wave {answer.score:.2f}, runner-up {second.label} {second.score:.2f}, "
        f"{answer.seconds.total:.2f} s)"
    )
    assert repr(bank) == "Bank(3 classes: clap_hands, jump, wave; 9 clips; fake; text on)"
    assert len(bank) == 9
    assert repr(matcher).startswith("Matcher(Bank(3 classes")
    assert all(len(text) < 250 and "\n" not in text for text in (repr(answer), repr(matcher)))


def test_notebooks_show_pictures_and_escape_labels(encoder, support_folder, queries, tmp_path):
    evil = "<script>alert('&')</script>"
    bank = mafsar.enroll(
        {evil: [support_folder / "jump" / "clip0"], "wave": [support_folder / "wave" / "clip0"]},
        encoder,
        text="off",
        cache=False,
    )
    answers = [bank.match(queries / "q1", encoder), *bank.match([queries / "q1"], encoder)]
    cells = [Checked.of(each._repr_html_()) for each in (bank, *answers)]
    for cell in cells:
        assert "script" not in cell.tags
        assert evil in cell.text
    assert cells[0].tags.count("img") == 2  # one strip for each class
    assert [cell.tags.count("img") for cell in cells[1:]] == [1, 0]  # a list has no evidence
    page = Checked.of(bank.report(tmp_path / "quality.html").read_text(encoding="utf-8"))
    assert "script" not in page.tags
    assert evil in page.text

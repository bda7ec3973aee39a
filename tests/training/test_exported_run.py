"""What the export is for: a bundle answers as the run folder that it was made of."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from mafsar.export.job import export_model
from mafsar.runtime.bank.enroll import enroll
from mafsar.runtime.engines.bundle import Bundle
from mafsar.runtime.engines.loading import load_model
from mafsar.runtime.match.matcher import Matcher
from mafsar.training.loop import train

CLASSES = ("left_down", "right_down", "shrink")


def test_a_bundle_answers_as_the_run_does(small_run, moving_squares: Path, tmp_path: Path) -> None:
    run = tmp_path / "läufe und mehr" / "h 1"  # as folders of users are called
    train(small_run(), run, device="cpu")
    support, queries = tmp_path / "support", []
    for label in CLASSES:
        shutil.copytree(moving_squares / label / "clip0", support / label / "clip0")
        queries += [moving_squares / label / f"clip{number}" for number in (1, 2, 3)]
    path = run.with_name("h 1.mafsar")
    export_model(run, path)
    assert Bundle.open(path).precisions() == ["fp32", "fp16"]

    def answers(name: Path, engine: str) -> tuple[list[str], np.ndarray]:
        encoder = load_model(name, engine=engine, device="cpu")
        assert encoder.engine == engine
        bank = enroll(support, encoder, text="on", cache=False)
        found = list(Matcher(bank, encoder, text="on", topk=len(CLASSES)).stream(queries))
        scores = [{item.label: item.score for item in answer.topk} for answer in found]
        return [answer.label for answer in found], np.array(
            [[score[label] for label in CLASSES] for score in scores]
        )

    labels, scores = answers(run, "torch")
    assert np.ptp(scores) > 1e-3  # or equal scores would say nothing
    exported_labels, exported_scores = answers(path, "onnx")
    assert exported_labels == labels
    np.testing.assert_allclose(exported_scores, scores, atol=1e-4)

"""What a person reads of a run: means over a stated window, the time left, curves."""

from __future__ import annotations

from pathlib import Path

import pytest

from mafsar.cli import voice
from mafsar.cli.train import _Watch
from mafsar.training import window
from mafsar.training.loop import StepReport
from mafsar.training.run_log import curves
from mafsar.training.trainer import StepResult
from mafsar.training.validate import ValResult


def test_means_are_over_the_last_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window, "STEPS", 3)
    found = window.Window(10.0)
    for number in range(1, 6):
        found.add(float(number), 10.0 * number, 10.0 + number**2)
    assert len(found) == 3
    assert (found.loss, found.accuracy) == (4.0, 40.0)
    assert found.seconds_step == pytest.approx((25 - 4) / 3)


def test_a_line_says_what_its_numbers_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    voice.reset()
    monkeypatch.setattr("mafsar.cli.train.QUIET_LINES_SECONDS", -1.0)
    result = StepResult(1.0, 1.0, None, 50.0, 1e-4, 1.0)
    validation = ValResult(61.25, 60.0, None, 1.0, None)  # type: ignore[arg-type]

    def report(step: int, found: ValResult | None) -> StepReport:
        return StepReport(step, 200, result, 50, 1.2345, 54.0, 3.7, 640.0, 2**29, 0.1, found)

    watch = _Watch(Path("runs/t"))
    watch(report(100, validation))
    watch(report(101, None))
    watch(report(200, None))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "run: runs/t"
    assert lines[2] == (
        "step 101/200: mean of 50 steps: loss 1.234, accuracy 54 % · validation 61.2 % at step 100"
        " · 3.7 episodes/s · 0.5 GiB · 11 min left"
    )
    assert lines[3].endswith("0.5 GiB")


@pytest.mark.parametrize("steps", [1, 3, 400])
def test_curves_have_whole_steps_and_legends_that_hide_no_data(steps: int) -> None:
    pytest.importorskip("matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    lines = []
    for step in range(1, steps + 1):
        loss = {"loss": 2 / step, "loss_visual": 1 / step, "loss_text": 1 / step}
        lines.append({"kind": "train", "step": step, **loss, "accuracy": 50.0})
        if step % 3 == 0 or step == steps:
            lines.append({"kind": "val", "step": step, "accuracy": 99.0, "accuracy_visual": 20.0})
    figure = curves(lines)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    for axes in figure.axes:
        box = axes.get_legend().get_window_extent()
        assert not box.overlaps(axes.get_window_extent())
        assert box.y0 >= 0  # the legend is inside the picture
        ticks = axes.get_xticks()
        assert all(tick == round(tick) for tick in ticks)
    said = [text.get_text() for axes in figure.axes for text in axes.get_legend().get_texts()]
    assert ("training, visual (mean of 8 steps)" in said) == (steps == 400)

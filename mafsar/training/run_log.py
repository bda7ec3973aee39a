"""The log of a run: `metrics.jsonl`, TensorBoard events and `curves.png`."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from mafsar.documents import number, one_of, optional, parse_json, read_text, record, whole
from mafsar.errors import InputError
from mafsar.files import written_beside

METRICS_FILE = "metrics.jsonl"
CURVES_FILE = "curves.png"
TENSORBOARD_FOLDER = "tensorboard"
_MOST_BYTES = 1 << 30
_DRAWN = ("loss", "loss_visual", "loss_text", "accuracy", "accuracy_visual")
_LINE = record(
    {"kind": one_of("train", "val"), "step": whole(0, 1_000_000_000)},
    dict.fromkeys(_DRAWN, optional(number())),
    open_to_more=True,
)


class RunLog:
    """Appends to a run's metrics; first drops the lines that a resumed run will write again."""

    def __init__(self, run: Path, *, step: int, tensorboard: bool) -> None:
        """Opens the files.

        Args:
            run: The run's folder.
            step: Steps done; lines of later steps are dropped.
            tensorboard: Whether to write events, if TensorBoard is installed.
        """
        self._run = run
        path = run / METRICS_FILE
        kept = [line for line in read_metrics(run) if line["step"] <= step]
        with written_beside(path) as beside:
            beside.write_text("".join(_line(values) for values in kept), encoding="utf-8")
        self._file: TextIO = path.open("a", encoding="utf-8")
        self._board = _open_board(run / TENSORBOARD_FOLDER, step) if tensorboard else None

    def write(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """Writes one line, and its numbers to TensorBoard.

        Args:
            kind: "train" or "val".
            step: Optimiser steps done.
            values: JSON values.
        """
        self._file.write(_line({"schema": 1, "kind": kind, "step": step, **values}))
        self._file.flush()
        if self._board is not None:
            for name, value in values.items():
                if isinstance(value, int | float) and not isinstance(value, bool):
                    self._board.add_scalar(f"{kind}/{name}", value, step)

    def sync(self) -> None:
        """Forces the lines to the disk; called before the checkpoint of the same step is written."""
        os.fsync(self._file.fileno())
        if self._board is not None:
            self._board.flush()

    def draw(self) -> None:
        """Draws the curves up to now."""
        draw_curves(self._run)

    def close(self) -> None:
        """Closes the files."""
        self._file.close()
        if self._board is not None:
            self._board.close()


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics, without a last line that was cut short by a kill.

    Raises:
        InputError: Another line is not one of a run's.
    """
    path = run / METRICS_FILE
    if not path.is_file():
        return []
    lines = []
    text = read_text(path, most_bytes=_MOST_BYTES)
    for number_of, line in enumerate(text.splitlines(keepends=True), start=1):
        if line.endswith("\n"):
            try:
                values = parse_json(line, "the line")
                _LINE(values, "")
            except InputError as error:
                raise InputError(f"{path} line {number_of}: {error}; remove the line") from error
            lines.append(values)
    return lines


def draw_curves(run: Path) -> None:
    """Draws loss and accuracy over the steps into `curves.png`, if matplotlib is installed."""
    lines = read_metrics(run)
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
    except ImportError:
        return
    figure = curves(lines)
    FigureCanvasAgg(figure)
    with written_beside(run / CURVES_FILE) as beside:
        figure.savefig(beside, format="png", dpi=110)


def curves(lines: list[dict[str, Any]]) -> Any:
    """Loss and accuracy over the steps, as a matplotlib figure.

    Args:
        lines: The run's metrics.

    Returns:
        The figure: steps are whole numbers, and the legends stand below the axes.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    train = [line for line in lines if line["kind"] == "train"]
    val = [line for line in lines if line["kind"] == "val"]
    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    width = _width(len(train))
    over = "each step" if width == 1 else f"mean of {width} steps"
    for name, label, colour in _LOSSES:
        points = [(line["step"], line[name]) for line in train if line.get(name) is not None]
        if points:
            left.plot(*_smoothed(points, width), label=label, color=colour, lw=1.2)
    left.set(title=f"training loss ({over})")
    if train:
        points = [(line["step"], line["accuracy"]) for line in train]
        label = f"training, visual ({over})"
        right.plot(*_smoothed(points, width), label=label, color="#8aa5c2", lw=1)
    for name, label, colour in _ACCURACIES if val else ():
        steps = [line["step"] for line in val]
        right.plot(steps, [line[name] for line in val], "o-", label=label, color=colour, ms=3)
    right.set(title="accuracy, %")
    for axes in (left, right):
        axes.set_xlabel("step")
        axes.set_xlim(0, 1.03 * max((line["step"] for line in lines), default=1))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(alpha=0.3)
        if axes.lines:
            # Below the axes, where it hides nothing.
            axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)
    return figure


_LOSSES = (
    ("loss", "whole loss", "#1f5a99"),
    ("loss_visual", "visual term", "#2a9d62"),
    ("loss_text", "text terms", "#c2691f"),
)
_ACCURACIES = (
    ("accuracy", "validation, fused", "#1f5a99"),
    ("accuracy_visual", "validation, visual", "#2a9d62"),
)


def _width(points: int) -> int:
    """Steps of the running mean: a fiftieth of all."""
    return max(1, points // 50)


def _smoothed(points: list[tuple[int, float]], width: int) -> tuple[list[int], list[float]]:
    """Steps, and running means over `width` points."""
    values = [value for _, value in points]
    means = [
        sum(values[max(0, i + 1 - width) : i + 1]) / min(width, i + 1) for i in range(len(values))
    ]
    return [step for step, _ in points], means


def _open_board(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=step + 1)


def _line(values: Mapping[str, Any]) -> str:
    return json.dumps(values, ensure_ascii=False, allow_nan=False) + "\n"

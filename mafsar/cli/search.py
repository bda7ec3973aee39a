"""``mafsar search``: finds the actions of banks in an index."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mafsar.cli import options as opt
from mafsar.cli import targets, voice

if TYPE_CHECKING:
    from mafsar.runtime.archive.index import Index
    from mafsar.runtime.archive.scorer import BankScorer
    from mafsar.runtime.archive.search import Found

TOPK = 10


def search(
    banks: Annotated[list[str], typer.Argument(metavar="BANK", help="A bank, or several banks.")],
    place: Annotated[str, typer.Argument(metavar="INDEX", help="What mafsar index wrote.")],
    topk: Annotated[
        int, typer.Option("--topk", metavar="K", min=1, help="Moments of each class, at most.")
    ] = TOPK,
    classes: Annotated[
        str | None,
        typer.Option("--class", metavar="A,B", help="Look for these classes only."),
    ] = None,
    events: Annotated[
        bool,
        typer.Option(
            "--events",
            help="Also list the events that watch would give; computes p_none of every window.",
        ),
    ] = False,
    exact: Annotated[
        bool,
        typer.Option(
            "--exact",
            help="Compare every window of an index of more than 200,000 too, without a shortlist.",
        ),
    ] = False,
    threshold: Annotated[
        str,
        typer.Option(
            "--threshold",
            metavar="auto|off|X",
            callback=opt.check_threshold,
            autocompletion=opt.complete(("auto", "off")),
            help="Call a moment none where p_none is above this; auto aims at the rate of --far.",
        ),
    ] = "auto",
    far: opt.FarOption = None,
    alpha: opt.AlphaOption = None,
    text: opt.TextOption = "auto",
    views: opt.ViewsOption = "auto",
    metric: opt.MetricOption = None,
    csv: opt.CsvOption = None,
    report: Annotated[
        Path | None,
        typer.Option(
            "--report",
            metavar="F.html",
            help="Write an HTML page with pictures of the moments whose files are here.",
        ),
    ] = None,
    out: opt.ResultsOption = None,
    overwrite: opt.OverwriteFlag = False,
    json_lines: opt.JsonFlag = False,
    _verbose: opt.VerboseFlag = 0,
    _quiet: opt.QuietFlag = False,
) -> None:
    """Find the actions of banks in an index: the best moments of each class, and events."""
    from mafsar.cli.outputs import results_to
    from mafsar.cli.search_outputs import SearchOutputs
    from mafsar.runtime.archive.index import open_index
    from mafsar.runtime.archive.scorer import BankScorer, ScoringChoice
    from mafsar.runtime.archive.search import search_index
    from mafsar.runtime.bank.bank import read_bank

    targets.check_outputs(
        {"--csv": csv, "--report": report, "--out": out},
        overwrite,
        inputs={"the bank": banks},
    )
    choice = ScoringChoice(
        text=text,  # type: ignore[arg-type]
        alpha=alpha,
        metric=metric,  # type: ignore[arg-type]
        views=opt.views_of(views),
        threshold=opt.threshold_of(threshold),
        far=far,
    )
    index = open_index(place)
    scorers = [BankScorer(read_bank(bank), index, choice) for bank in banks]
    _say(index, scorers)
    with results_to(out, overwrite=overwrite) as stream:
        outputs = SearchOutputs(stream, json_lines=json_lines, csv_path=csv, overwrite=overwrite)
        whole = False
        try:
            for scorer in scorers:
                with voice.progress("searching", total=len(index)) as bar:
                    wanted = _of_bank(scorer, scorers, opt.listed(classes))
                    for found in search_index(
                        index,
                        scorer,
                        topk=topk,
                        labels=wanted,
                        events=events,
                        exact=exact or None,
                        progress=bar,
                    ):
                        outputs.add(found)
            whole = True
        finally:
            # Also after an interrupt: what is known is not lost.
            outputs.finish(several_banks=len(scorers) > 1, whole=whole)
    if report is not None:
        _write_report(report, outputs.found, index, scorers)


def _of_bank(
    scorer: BankScorer, scorers: Sequence[BankScorer], labels: Sequence[str]
) -> list[str] | None:
    """The classes to look for in one bank; a class that no bank has is an error."""
    from mafsar.data.labels import nfc

    if not labels:
        return None
    for label in map(nfc, labels):
        if not any(label in each.bank.labels for each in scorers):
            scorer.class_number(label)
    return [label for label in map(nfc, labels) if label in scorer.bank.labels]


def _say(index: Index, scorers: Sequence[BankScorer]) -> None:
    from mafsar.cli.inputs import views_line

    voice.note(
        f"index: {opt.count(len(index), 'window')} of {opt.count(len(index.sources), 'file')},"
        f" {index.settings.model}"
    )
    for scorer in scorers:
        for line in views_line(scorer.scoring, scorer.bank.model.adapters):
            voice.note(line)


def _write_report(
    path: Path, found: Sequence[Found], index: Index, scorers: Sequence[BankScorer]
) -> None:
    from mafsar.cli.outputs import say_written
    from mafsar.files import write_text
    from mafsar.runtime.report.search_page import search_page

    with voice.progress("pictures of moments", total=len(found)) as bar:
        page = search_page(found, index, [scorer.bank for scorer in scorers], progress=bar)
    write_text(path, page)
    say_written(path)

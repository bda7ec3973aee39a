"""``mafsar match``: names the action of each query clip."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mafsar.cli import options as opt
from mafsar.cli import voice
from mafsar.errors import InputError

TOPK = 5
"""Classes of an answer where ``--topk`` does not say."""


def match(
    support: Annotated[
        str,
        typer.Argument(
            metavar="SUPPORT", help="A folder of class folders, a CSV path,label, or a bank."
        ),
    ],
    queries: Annotated[
        list[str],
        typer.Argument(
            metavar="QUERY",
            help="Clips: a file, a frame folder, a folder of clips, a glob, NAME=SOURCE, or - for paths on"
            " stdin.",
        ),
    ],
    topk: Annotated[
        int | None,
        typer.Option(
            "--topk",
            metavar="K",
            min=1,
            help="Classes listed for each query. Default: 5; in the table 2.",
        ),
    ] = None,
    threshold: Annotated[
        str,
        typer.Option(
            "--threshold",
            metavar="auto|off|X",
            callback=opt.check_threshold,
            autocompletion=opt.complete(("auto", "off")),
            help="Answer none where p_none is above this; auto aims at the rate of --far.",
        ),
    ] = "auto",
    far: opt.FarOption = None,
    alpha: opt.AlphaOption = None,
    metric: opt.MetricOption = None,
    batch: Annotated[
        int | None,
        typer.Option(
            "--batch",
            metavar="N",
            min=1,
            help="Queries encoded at once. Default: 1 on a CPU, 8 on a GPU.",
        ),
    ] = None,
    csv: opt.CsvOption = None,
    save_video: Annotated[
        Path | None,
        typer.Option(
            "--save-video",
            metavar="DIR",
            help="Write each query as a video with the answer under the picture.",
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot",
            metavar="DIR",
            help="Write a picture of each query and the nearest support clip.",
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            "--report", metavar="F.html", help="Write one HTML page with all answers and pictures."
        ),
    ] = None,
    ray: opt.RayOption = None,
    model: opt.ModelOption = None,
    engine: opt.EngineOption = "auto",
    device: opt.DeviceOption = "auto",
    precision: opt.PrecisionOption = "fp32",
    text: opt.TextOption = "auto",
    views: opt.ViewsOption = "auto",
    roi: opt.RoiOption = None,
    fit: opt.FitOption = None,
    rotate: opt.RotateOption = None,
    hflip: opt.HflipFlag = None,
    keep_query: Annotated[
        bool,
        typer.Option(
            "--keep-query", help="Keep a support clip that has the same content as the query."
        ),
    ] = False,
    skip_bad: opt.SkipBadFlag = False,
    frames_pattern: opt.FramesPatternOption = None,
    ignore_clock: opt.IgnoreClockOption = None,
    no_cache: opt.NoCacheFlag = False,
    out: opt.ResultsOption = None,
    overwrite: opt.OverwriteFlag = False,
    json_lines: opt.JsonFlag = False,
    _verbose: opt.VerboseFlag = 0,
    _quiet: opt.QuietFlag = False,
) -> None:
    """Name the action of each query clip from a few clips of each class."""

    from mafsar.cli.inputs import engine_choice, geometry_of, open_support, say_bank
    from mafsar.cli.match_outputs import MatchFiles, answer_all
    from mafsar.cli.queries import expand
    from mafsar.runtime.bank.bank import is_bank
    from mafsar.runtime.match.matcher import Matcher

    asked = expand(queries, frames_pattern)
    wanted = MatchFiles.plan(
        asked,
        {"--csv": csv, "--report": report, "--out": out},
        plot=plot,
        save_video=save_video,
        json_lines=json_lines,
        overwrite=overwrite,
        ignore_clock=ignore_clock,
        inputs={"the support": [support], "the model": [model]},
    )
    if ray is not None and (wanted.needs_evidence or wanted.videos):
        raise InputError(
            "--ray: --plot, --report and --save-video draw what one machine has seen; use them without"
            " --ray, for the clips that matter"
        )
    engines = engine_choice(engine, device, precision, cache=not no_cache)
    bank, encoder = open_support(
        support,
        model,
        engines,
        text=text,
        views=opt.views_of(views),
        geometry=geometry_of(roi, fit, rotate, hflip),
        skip_bad=skip_bad,
        frames_pattern=frames_pattern,
        ignore_clock=ignore_clock,
    )
    chosen: dict[str, Any] = {
        # A support that was just enrolled has made its choice of text and views by what was asked.
        "text": text if is_bank(support) else "auto",
        "views": opt.views_of(views) if is_bank(support) else "auto",
        "metric": metric,
        "threshold": opt.threshold_of(threshold),
        "far": far,
    }
    matcher = Matcher(
        bank,
        encoder,
        topk=topk or TOPK,
        alpha=alpha,
        keep_query=keep_query,
        ignore_clock=ignore_clock,
        evidence=wanted.needs_evidence,
        batch=batch,
        **chosen,
    )
    say_bank(matcher)
    answers = matcher.stream(asked)
    if ray is not None:
        from mafsar.runtime.archive.ray_clips import match_on_ray
        from mafsar.runtime.archive.ray_pool import RayPool
        from mafsar.runtime.match.queries import Query

        pool = RayPool(
            encoder.spec.path or encoder.spec.name, engines, ray, None, voice.is_verbose()
        )
        chosen |= {
            "topk": topk or TOPK,
            "alpha": alpha,
            "keep_query": keep_query,
            "ignore_clock": ignore_clock,
            "batch": batch,
        }
        answers = match_on_ray(pool, matcher, chosen, [Query.of(each) for each in asked])
    answer_all(answers, asked, bank, encoder, wanted, topk=topk or TOPK, listed=topk or 2)

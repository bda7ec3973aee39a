"""``mafsar eval``: accuracy over frozen episodes, ± 95 % confidence interval."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from mafsar.cli import options as opt
from mafsar.cli import outputs, table, targets, voice
from mafsar.cli.wording import worded
from mafsar.errors import InputError

if TYPE_CHECKING:
    from mafsar.choices import EngineChoice
    from mafsar.data.support import SupportSet
    from mafsar.runtime.cache.clip_jobs import RunJobs
    from mafsar.runtime.encoder import Encoder
    from mafsar.runtime.evaluation.evaluate import EvalResult


def evaluate(
    model: Annotated[
        str | None,
        typer.Argument(metavar="MODEL", help="Model name, run folder or bundle. Default: tiny."),
    ] = None,
    named: opt.TopModel = None,
    data: opt.DataOption = None,
    split: Annotated[
        Path | None,
        typer.Option(
            "--split",
            metavar="F",
            help="JSON or TOML with the train, val and test classes of --data.",
        ),
    ] = None,
    part: Annotated[
        str,
        typer.Option(
            "--part",
            metavar="|".join(opt.PARTS),
            callback=opt.one_of(opt.PARTS),
            autocompletion=opt.complete(opt.PARTS),
            help="Part of the split to evaluate on.",
        ),
    ] = "test",
    way: Annotated[
        int, typer.Option("--way", min=2, metavar="N", help="Classes in each episode.")
    ] = 5,
    shot: Annotated[
        int, typer.Option("--shot", min=1, metavar="N", help="Support clips of each class.")
    ] = 1,
    query: Annotated[
        int, typer.Option("--query", min=1, metavar="N", help="Queries of each class.")
    ] = 1,
    episodes: Annotated[
        int, typer.Option("--episodes", min=1, metavar="N", help="Number of episodes.")
    ] = 10000,
    seed: Annotated[int, typer.Option("--seed", metavar="S", help="Seed of the episodes.")] = 0,
    episodes_file: Annotated[
        Path | None,
        typer.Option(
            "--episodes-file",
            metavar="F",
            help="Read the episodes from F if it exists, else write them to F.",
        ),
    ] = None,
    groups: Annotated[
        Path | None,
        typer.Option(
            "--groups",
            metavar="F.csv",
            help="CSV path,group: no support clip of an episode shares a query's group.",
        ),
    ] = None,
    metric: opt.MetricOption = None,
    views: opt.ViewsOption = "auto",
    text: opt.TextOption = "auto",
    confusion: Annotated[
        Path | None,
        typer.Option(
            "--confusion",
            metavar="F.png",
            help="Draw the confusion matrix and write F.csv beside it.",
        ),
    ] = None,
    dataset: opt.DatasetOption = None,
    root: opt.RootOption = None,
    lists: opt.ListsOption = None,
    frames_pattern: opt.FramesPatternOption = None,
    engine: opt.EngineOption = "auto",
    device: opt.DeviceOption = "auto",
    precision: opt.PrecisionOption = "fp32",
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Go on without clips that cannot be read.")
    ] = False,
    ignore_clock: opt.IgnoreClockOption = None,
    ray: opt.RayOption = None,
    no_cache: opt.NoCacheFlag = False,
    out: opt.ResultsOption = None,
    overwrite: opt.OverwriteFlag = False,
    json_lines: opt.JsonFlag = False,
    _verbose: opt.VerboseFlag = 0,
    _quiet: opt.QuietFlag = False,
) -> None:
    """Measure accuracy over seeded few-shot episodes of labelled clips."""
    from mafsar.cli.inputs import engine_choice, load_encoder, views_line
    from mafsar.data.store import is_store
    from mafsar.runtime.evaluation.evaluate import evaluate as run

    if model is not None and named is not None:
        raise InputError(f"eval {model} --model {named}: name the model once")
    if data is None and dataset is None:
        raise typer.BadParameter(
            "eval: no clips were named; add --data DIR (a folder of class folders), or --dataset"
            " NAME --root DIR"
        )
    packed = data is not None and is_store(data)
    if dataset is None and split is None and part != "test" and not packed:
        raise InputError(
            f"--part {part}: without --split every class is a test class; add --split F"
        )
    table_file = _beside(confusion)
    targets.check_outputs(
        {"--confusion": confusion, "--confusion (.csv)": table_file, "--out": out},
        overwrite,
        inputs={
            "the data": [data],
            "the split": [split],
            "the episodes": [episodes_file],
            "the groups": [groups],
            "the model": [model, named],
        },
        kinds={"--confusion": "picture"},
    )
    with outputs.results_to(out, overwrite=overwrite) as stream:
        clips: SupportSet | Path | None = data
        if dataset is not None or root is not None or lists is not None or packed:
            clips, text = _standard(dataset, root, lists, data, split, part, text, frames_pattern)
            split, part = None, "test"
        assert clips is not None
        choice = engine_choice(engine, device, precision, cache=not no_cache)
        encoder = load_encoder(model or named, choice)
        options: dict[str, Any] = {
            "metric": metric,
            "views": opt.views_of(views),
            "text": text,
            "part": part,
        }
        with voice.progress("evaluating") as bar:
            result = run(
                encoder,
                clips,
                split=split,
                way=way,
                shot=shot,
                query=query,
                episodes=episodes,
                seed=seed,
                episodes_file=episodes_file,
                groups=groups,
                frames_pattern=frames_pattern,
                cache=not no_cache,
                progress=bar,
                ignore_clock=ignore_clock,
                on_error="skip" if skip_bad else "raise",
                run=None if ray is None else _on_ray(ray, encoder, choice),
                **options,
            )
        if views == "auto":
            for line in views_line(encoder.spec.scoring, encoder.spec.adapters):
                voice.note(line)
        voice.note(f"text: {'on' if result.text else 'off'} ({result.why_text})")
        voice.warn_of_repairs(result.repairs)
        for line in result.notes:
            voice.note(f"note: {worded(line)}")
        if result.clips_again:
            again = opt.count(result.clips_again, "clip")
            voice.note(f"note: {again} left out: the same content as another")
        if json_lines:
            outputs.print_json(stream, result.to_json())
        else:
            _show(stream, result)
    if confusion is not None and table_file is not None:
        _write_confusion(confusion, table_file, result)


def _standard(
    dataset: str | None,
    root: Path | None,
    lists: Path | None,
    data: Path | None,
    split: Path | None,
    part: Any,
    text: str,
    frames_pattern: str | None,
) -> tuple[SupportSet, str]:
    """The clips of a standard data set's part, and whether its class names are there to use."""
    from mafsar.data.open_data import open_data
    from mafsar.data.support import part_clips

    catalogue = open_data(
        dataset=dataset, root=root, lists=lists, data=data, split=split,
        frames_pattern=frames_pattern,
    )  # fmt: skip
    clips, named = part_clips(catalogue, part)
    if named or text == "off":
        return clips, text
    if text == "on":
        raise InputError(
            f"--text on: some {part} classes of {catalogue.title} have only numbers; add their"
            " names to the lists, or use --text off"
        )
    voice.note(f"text: off (some {part} classes of {catalogue.title} have only numbers)")
    return clips, "off"


def _on_ray(address: str, encoder: Encoder, choice: EngineChoice) -> RunJobs:
    """Encodes the clips by the actors of a cluster."""
    from mafsar.runtime.archive.ray_clips import encode_on_ray
    from mafsar.runtime.archive.ray_pool import RayPool

    named = encoder.spec.path or encoder.spec.name
    return encode_on_ray(RayPool(named, choice, address, None, voice.is_verbose()), encoder)


def _beside(picture: Path | None) -> Path | None:
    """The CSV beside the confusion picture."""
    if picture is None:
        return None
    if picture.suffix.lower() != ".png":
        raise InputError(f"--confusion {picture}: a PNG is drawn; name it {picture.stem}.png")
    return picture.with_suffix(".csv")


def _show(stream: TextIO, result: EvalResult) -> None:
    encoding = getattr(stream, "encoding", None)
    rows = table.new_table(("class", "fold"), ("right, %", "right"), "")
    for label, share in result.per_class.items():
        if share is None:
            table.add_row(rows, label, "–", "")
        else:
            table.add_row(
                rows, label, f"{share:.1f}", table.bar(share / 100, encoding=encoding, number=False)
            )
    by_text = "" if result.accuracy_text is None else f", by text {result.accuracy_text:.2f} %"
    accuracy = (
        f"accuracy {result.accuracy:.2f} ± {result.ci95:.2f} %"
        f" (visual {result.accuracy_visual:.2f} %{by_text}); calibration error {result.ece:.3f}"
    )
    how = (
        f"{result.way}-way {result.shot}-shot, {opt.count(result.query, 'query')} a class,"
        f" {opt.count(result.episodes, 'episode')}, seed {result.seed} · {result.metric},"
        f" views {result.views} ·"
        f" {result.model} ({_tuned(result)}) on {result.engine} ·"
        f" {opt.count(result.clips_encoded, 'clip')} encoded · {result.seconds:.1f} s"
    )
    table.show(stream, rows, after=["", accuracy, how])


def _tuned(result: EvalResult) -> str:
    names = {"none": "plain frozen CLIP", "adapters": "trained adapters", "full": "fully tuned"}
    return names[result.tuned]


def _write_confusion(picture: Path, table_file: Path, result: EvalResult) -> None:
    from mafsar.files import written_beside
    from mafsar.runtime.report.confusion import draw_confusion, write_confusion_csv

    image = draw_confusion(
        result.labels,
        result.confusion,
        title=f"{result.model}: {result.accuracy:.1f} ± {result.ci95:.1f} %",
        subtitle=f"{result.way}-way {result.shot}-shot, {opt.count(result.episodes, 'episode')};"
        " rows: true class, columns: answer, % of the row",
    )
    with written_beside(picture) as temporary:
        image.save(temporary, "PNG")
    write_confusion_csv(table_file, result.labels, result.confusion)
    outputs.say_written(picture, table_file)

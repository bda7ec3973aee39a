"""``mafsar watch``: finds actions in cameras, streams and long videos."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mafsar.cli import options as opt
from mafsar.cli import outputs, targets, voice

if TYPE_CHECKING:
    from mafsar.choices import EngineChoice
    from mafsar.cli.watch_outputs import EventOutputs
    from mafsar.runtime.live.watch import Watch
    from mafsar.runtime.match.matcher import Matcher


def watch(
    support: Annotated[
        str,
        typer.Argument(metavar="BANK|SUPPORT", help="A bank, a folder of class folders, or a CSV."),
    ],
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE",
            help="Cameras (0, /dev/video0, v4l2://, csi://N), streams (rtsp://, http://), files, folders,"
            " NAME=SOURCE, or - for a video on stdin.",
        ),
    ],
    model: opt.TopModel = None,
    window: Annotated[
        str,
        typer.Option(
            "--window",
            metavar="auto|S[,S]",
            help="Lengths of the windows, one to three, seconds. auto: by the durations of the clips.",
        ),
    ] = "auto",
    stride: Annotated[
        str,
        typer.Option(
            "--stride",
            metavar="auto|S",
            help="Step between windows, seconds. auto: an eighth to half of their length, or"
            " what this machine sustains.",
        ),
    ] = "auto",
    threshold: Annotated[
        str,
        typer.Option(
            "--threshold",
            metavar="auto|off|X",
            callback=opt.check_threshold,
            help="Answer none where p_none is above this.",
        ),
    ] = "auto",
    far: opt.FarOption = None,
    gap: Annotated[
        float,
        typer.Option("--gap", metavar="S", min=0, help="Join events closer than this, seconds."),
    ] = 1.0,
    min_duration: Annotated[
        float,
        typer.Option("--min-duration", metavar="S", min=0, help="Shortest event, seconds."),
    ] = 0.3,
    jsonl: Annotated[
        Path | None, typer.Option("--jsonl", metavar="F", help="Append events to F as JSON Lines.")
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option("--csv", metavar="F", help="Write one line per finished event to F."),
    ] = None,
    save_video: Annotated[
        Path | None,
        typer.Option("--save-video", metavar="F", help="Write the video with its events."),
    ] = None,
    show: Annotated[bool, typer.Option("--show", help="Show the video in a window.")] = False,
    serve: Annotated[
        str | None,
        typer.Option(
            "--serve",
            metavar="[HOST:]PORT",
            help="Serve a page with the video, the last events, /healthz and /metrics.",
        ),
    ] = None,
    max_fps: Annotated[
        float | None, typer.Option("--max-fps", metavar="X", help="Frames per second to look at.")
    ] = None,
    heartbeat: Annotated[
        float, typer.Option("--heartbeat", metavar="S", help="Seconds between status events.")
    ] = 60.0,
    webhook: Annotated[
        str | None, typer.Option("--webhook", metavar="URL", help="Post each event there.")
    ] = None,
    mqtt: Annotated[
        str | None,
        typer.Option(
            "--mqtt",
            metavar="URL",
            help="Publish each event to a broker: mqtt://HOST:1883/TOPIC.",
        ),
    ] = None,
    engine: opt.EngineOption = "auto",
    device: opt.DeviceOption = "auto",
    precision: opt.PrecisionOption = "fp32",
    text: opt.TextOption = "auto",
    views: opt.ViewsOption = "auto",
    metric: opt.MetricOption = None,
    roi: Annotated[
        list[str] | None,
        typer.Option(
            "--roi",
            metavar="NAME=X,Y,W,H",
            help="Watch only this region: pixels, or fractions from 0 to 1; repeatable, each has events"
            " of its own.",
        ),
    ] = None,
    fit: opt.FitOption = None,
    rotate: opt.RotateOption = None,
    hflip: opt.HflipFlag = None,
    ignore_clock: opt.IgnoreClockOption = None,
    skip_bad: opt.SkipBadFlag = False,
    frames_pattern: opt.FramesPatternOption = None,
    no_cache: opt.NoCacheFlag = False,
    out: opt.ResultsOption = None,
    overwrite: opt.OverwriteFlag = False,
    json_lines: opt.JsonFlag = False,
    _verbose: opt.VerboseFlag = 0,
    _quiet: opt.QuietFlag = False,
) -> None:
    """Find actions in live or long video: the start and end of each, as soon as they are known."""
    from mafsar.cli.inputs import engine_choice
    from mafsar.cli.watch_outputs import EventOutputs
    from mafsar.cli.watch_pictures import Pictures, video_targets
    from mafsar.runtime.live.watch import Watch, WatchOptions
    from mafsar.video.live.place import places_of_all

    places = places_of_all(sources)
    videos = video_targets(save_video, len(places))
    targets.check_outputs(
        {"--csv": csv, "--save-video": videos, "--out": out},
        overwrite,
        inputs={
            "the support": [support],
            "the model": [model],
            "the source": [place.where for place in places if place.kind == "file"],
        },
        kinds={"--save-video": "video"},
        growing={"--jsonl": jsonl},
    )
    options = WatchOptions(
        window=opt.window_lengths(window),
        stride=opt.seconds_or_auto("--stride", stride),
        gap=gap,
        min_duration=min_duration,
        roi=_regions(roi),
        max_fps=max_fps,
        heartbeat=heartbeat,
        ignore_clock=ignore_clock,
    )
    senders = _senders(webhook, mqtt)
    open_matcher = _opener(
        support,
        model,
        engine_choice(engine, device, precision, cache=not no_cache),
        text=text,
        views=views,
        metric=metric,
        threshold=threshold,
        far=far,
        picture=(fit, rotate, hflip),
        skip_bad=skip_bad,
        frames_pattern=frames_pattern,
        ignore_clock=ignore_clock,
    )
    pictures = Pictures(places, videos, show=show, serve=serve)
    written = EventOutputs(json_lines=json_lines, senders=senders)

    def status(what: Any) -> None:
        written.status(what)
        pictures.status(what)

    try:
        watched = Watch(open_matcher, places, options, status=status, viewer=pictures.viewer)
        _say_plan(watched)
        pictures.start(watched)
        with outputs.results_to(out, overwrite=overwrite) as results:
            written.open(results, jsonl=jsonl, csv_path=csv)
            _run(watched, written, pictures)
    finally:
        written.close()
        pictures.close()
    _refuse_failures(watched)


def _run(watched: Watch, written: EventOutputs, pictures: Any) -> None:
    """Takes all events; signals end it, reload the bank, or open the files again."""
    from mafsar.runtime.live.systemd import Notifier

    notifier = Notifier()
    notifier.ready()

    def turned() -> None:
        notifier.alive()
        pictures.turned()

    watched.on_turn = turned
    handlers: dict[str, Callable[[], None]] = {
        "SIGINT": watched.stop,
        "SIGTERM": watched.stop,
        "SIGHUP": watched.reload,
        "SIGUSR1": written.ask_to_reopen,
    }
    began = time.perf_counter()
    with _handled(handlers):
        for event in watched:
            written.event(event)
            pictures.event(event)
    notifier.stopping()
    _say_speed(watched, time.perf_counter() - began)


@contextlib.contextmanager
def _handled(handlers: dict[str, Callable[[], None]]) -> Iterator[None]:
    """Runs handlers on signals; a second interrupt ends the program at once."""
    before: dict[signal.Signals, Any] = {}

    def handler_of(name: str, act: Callable[[], None]) -> Callable[[int, Any], None]:
        def handle(number: int, _frame: Any) -> None:
            act()
            if name == "SIGINT":
                signal.signal(number, signal.default_int_handler)

        return handle

    try:
        for name, act in handlers.items():
            kind = getattr(signal, name, None)
            if kind is not None:
                before[kind] = signal.signal(kind, handler_of(name, act))
    except ValueError:
        pass  # not in the main thread: a program that calls this handles its signals itself
    try:
        yield
    finally:
        for kind, old in before.items():
            signal.signal(kind, old)


def _opener(
    support: str,
    model: str | None,
    choice: EngineChoice,
    *,
    text: Any,
    views: str,
    metric: Any,
    threshold: str,
    far: float | None,
    picture: tuple[str | None, str | None, bool | None],
    **reading: Any,
) -> Callable[[], Matcher]:
    """What reads bank and model, at the start and again at each reload."""

    def open_matcher() -> Matcher:
        from mafsar.cli.inputs import geometry_of, open_support, say_bank
        from mafsar.runtime.bank.bank import is_bank
        from mafsar.runtime.match.matcher import Matcher

        chosen_views = opt.views_of(views)
        bank, encoder = open_support(
            support,
            model,
            choice,
            text=text,
            views=chosen_views,
            geometry=geometry_of(None, *picture),
            **reading,
        )
        known = is_bank(support)
        limit: Any = threshold if threshold in ("auto", "off") else float(threshold)
        matcher = Matcher(
            bank,
            encoder,
            text=text if known else "auto",
            views=chosen_views if known else "auto",
            metric=metric,
            threshold=limit,
            far=far,
        )
        say_bank(matcher)
        return matcher

    return open_matcher


def _senders(webhook: str | None, mqtt: str | None) -> dict[str, Any]:
    from mafsar.runtime.live.send import Mqtt, Webhook

    found: dict[str, Any] = {}
    if webhook is not None:
        found["--webhook"] = Webhook(webhook)
    if mqtt is not None:
        found["--mqtt"] = Mqtt(mqtt)
    return found


def _regions(words: list[str] | None) -> dict[str, Any] | None:
    from mafsar.video.geometry import parse_roi

    regions: dict[str, Any] = {}
    for word in words or []:
        name, equals, numbers = word.rpartition("=")
        name = name if equals else f"region{len(regions) + 1}"
        if name in regions:
            raise typer.BadParameter(f"--roi {word}: there are two regions {name!r}")
        regions[name] = parse_roi(numbers)
    return regions or None


def _say_plan(watched: Watch) -> None:
    """One line on the windows, and one on what this machine sustains for live sources."""
    plan = watched.plan
    each = ", ".join(
        f"{length:.2g} s every {stride:.2g} s"
        for length, stride in zip(plan.lengths, plan.strides, strict=True)
    )
    line = f"windows: {each}"
    if watched.sustained is not None:
        live = sum(place.is_live for place in watched.places)
        line += (
            f"; this machine sustains {watched.sustained:.1f} windows a second, the"
            f" {opt.count(live, 'live source')} will ask for {plan.per_second * live:.1f}"
        )
    voice.note(line)


def _say_speed(watched: Watch, seconds: float) -> None:
    """One line on what was watched, and how fast."""
    done = watched.watched_seconds
    if done <= 0 or seconds <= 0:
        return
    voice.note(
        f"watched {done:.1f} s of {opt.count(len(watched.places), 'source')} in {seconds:.1f} s:"
        f" {done / seconds:.1f} times real time, {watched.windows / seconds:.1f} windows a second"
    )


def _refuse_failures(watched: Watch) -> None:
    """Exit 1 where some sources could not be read; the events of the others stand."""
    from mafsar.cli.wording import worded
    from mafsar.errors import VideoError

    failed = [(name, error) for name, error in watched.errors if name in _ended(watched)]
    if len(failed) == 1 and len(watched.places) == 1:
        raise failed[0][1]
    if failed:
        raise VideoError(
            f"{len(failed)} of {len(watched.places)} sources could not be read; the first: "
            f"{worded(failed[0][1])}"
        )


def _ended(watched: Watch) -> set[str]:
    """Sources that do not come back."""
    return {place.name for place in watched.places if not place.is_live}

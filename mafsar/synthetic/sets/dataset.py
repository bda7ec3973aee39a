"""A labelled data set of rendered clips as files, in the layout that every command takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mafsar.data.parallel import in_processes
from mafsar.data.splits import Part
from mafsar.synthetic.actions.classes import action
from mafsar.synthetic.clips.captions import caption
from mafsar.synthetic.clips.render import Take
from mafsar.synthetic.clips.stream import Event, plan_stream
from mafsar.synthetic.painting.photos import load_photos
from mafsar.synthetic.sets.files import open_csv, write_manifest, write_tables
from mafsar.synthetic.sets.recipe import Recipe, choose_classes, clip_seed

SHOTS, SHOT_SECONDS = 5, 2.0
"""Support clips of each class beside the long videos, and how long they usually are."""
_TEMPO_STREAM = 113
_TEMPO = (0.6, 1.5)  # a clip's length against the usual one, at least and at most
Progress = Callable[[int, int], object]


@dataclass(frozen=True)
class WrittenClip:
    """One clip that was rendered.

    Attributes:
        path: Relative to the data set, with forward slashes.
        label: Its class, which is its folder's name.
        part: Train, val or test, as its class.
        seed: What ``render_clip`` takes to paint it again.
        seconds: Its length.
        caption: What it shows.
    """

    path: str
    label: str
    part: Part
    seed: int
    seconds: float
    caption: str


@dataclass(frozen=True)
class WrittenStream:
    """One long video that was rendered.

    Attributes:
        path: Relative to the data set, with forward slashes.
        truth: Its table of events, likewise.
        seconds: Its length.
        events: What happens in it.
    """

    path: str
    truth: str
    seconds: float
    events: list[Event]


def _silent(_done: int, _total: int) -> None:
    """Report nothing."""


def write_dataset(
    folder: Path, recipe: Recipe, *, workers: int | None = None, progress: Progress = _silent
) -> Iterator[WrittenClip]:
    """Render clips of some classes; what is there is in order at any moment.

    ``CLASS/clip-000.mp4``, ``labels.csv`` (folder, text), ``split.json`` (train, val and test
    classes), ``captions.csv`` (what each clip shows) and ``synth.json`` (the recipe).

    Args:
        folder: Where to; see ``files.clear`` for one that has something in it.
        recipe: What; any kind but ``stream``.
        workers: Processes; one a core. The files do not depend on it.
        progress: Called with the clips done and their number.

    Yields:
        Each clip, in order, when it is written.

    Raises:
        InputError: There are not so many classes.
        UnavailableError: Photographs are wanted and not installed.
    """
    names = choose_classes(recipe)
    if recipe.photos:
        load_photos()  # an error here, not in a process of its own
    write_manifest(folder, recipe)
    write_tables(folder, names)
    jobs = [_Job(folder, name, number, recipe) for name in names for number in range(recipe.clips)]
    columns = ("path", "label", "part", "seconds", "seed", "caption")
    with open_csv(folder / "captions.csv", columns) as add:
        for done, clip in enumerate(in_processes(_render_clip, jobs, workers=workers), start=1):
            add((clip.path, clip.label, clip.part, f"{clip.seconds:.3f}", clip.seed, clip.caption))
            progress(done, len(jobs))
            yield clip


def write_streams(
    folder: Path, recipe: Recipe, *, workers: int | None = None, progress: Progress = _silent
) -> Iterator[WrittenStream]:
    """Render long videos with their truth, and support clips of their actions.

    ``streams/stream-000.mp4`` has its events in ``streams/stream-000.csv`` (t_start, t_end in
    seconds, label); ``support/`` is a data set that shows the actions by others elsewhere.

    Args:
        folder: Where to; see ``files.clear`` for one that has something in it.
        recipe: ``classes`` actions, ``clips`` videos of ``seconds`` each.
        workers: Processes; one a core. The files do not depend on it.
        progress: Called with the files done and their number.

    Yields:
        Each long video, in order, when it is written.

    Raises:
        InputError: There are not so many classes.
        UnavailableError: Photographs are wanted and not installed.
    """
    names = choose_classes(recipe)
    total = len(names) * SHOTS + recipe.clips
    write_manifest(folder, recipe)
    shown = replace(recipe, clips=SHOTS, seconds=SHOT_SECONDS)
    for _ in write_dataset(
        folder / "support", shown, workers=workers, progress=lambda done, _: progress(done, total)
    ):
        pass
    jobs = [_Job(folder, "", number, recipe) for number in range(recipe.clips)]
    for done, stream in enumerate(in_processes(_render_stream, jobs, workers=workers), start=1):
        progress(len(names) * SHOTS + done, total)
        yield stream


@dataclass(frozen=True)
class _Job:
    folder: Path
    name: str
    number: int
    recipe: Recipe


def _render_clip(job: _Job) -> WrittenClip:
    # PyAV is wanted only here: drawing needs nothing but numpy and Pillow.
    from mafsar.video import write_video

    recipe = job.recipe
    seed = clip_seed(recipe.seed, job.name, job.number)
    rng = np.random.default_rng([_TEMPO_STREAM, seed])
    count = max(2, round(recipe.seconds * recipe.fps * float(rng.uniform(*_TEMPO))))
    take = Take(job.name, seed=seed, frames=count, size=recipe.size, photos=recipe.photos)
    path = f"{job.name}/clip-{job.number:03d}.mp4"
    write_video(job.folder / path, take.stage.pictures(), recipe.fps)
    entry = action(job.name)
    who = "a person " if entry.scene == "person" else ""
    words = [f"{who}{entry.text}", *take.words(count // 2)[1:]]
    return WrittenClip(path, job.name, entry.split, seed, count / recipe.fps, caption(words, rng))


def _render_stream(job: _Job) -> WrittenStream:
    from mafsar.video import write_video

    recipe = job.recipe
    stream = plan_stream(
        choose_classes(recipe),
        seed=clip_seed(recipe.seed, "stream", job.number),
        seconds=recipe.seconds,
        fps=recipe.fps,
        size=recipe.size,
        photos=recipe.photos,
    )
    stem = f"streams/stream-{job.number:03d}"
    write_video(job.folder / f"{stem}.mp4", stream.stage.pictures(), recipe.fps)
    with open_csv(job.folder / f"{stem}.csv", ("t_start", "t_end", "label")) as add:
        for event in stream.events:
            add((f"{event.start:.3f}", f"{event.end:.3f}", event.label))
    seconds = stream.stage.frames / recipe.fps
    return WrittenStream(f"{stem}.mp4", f"{stem}.csv", seconds, stream.events)

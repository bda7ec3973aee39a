"""A labelled data set of rendered clips as files, in the layout that every command takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mafsar.choices import Progress
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
"""Support clips of each class that go with the long videos, and their usual length."""
_RENDERING = "rendering"
_TEMPO_STREAM = 113
_TEMPO = (0.6, 1.5)  # smallest and largest length of a clip, relative to the usual one


@dataclass(frozen=True)
class WrittenClip:
    """One clip that was rendered.

    Attributes:
        path: Relative to the data set, with forward slashes.
        label: Its class, which is also the name of its folder.
        part: The part of its class: train, val or test.
        seed: The seed with which ``render_clip`` paints it again.
        seconds: Its length.
        caption: A sentence about what it shows.
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
        truth: Path of its table of events, likewise.
        seconds: Its length.
        events: What happens in it, and when.
    """

    path: str
    truth: str
    seconds: float
    events: list[Event]


def write_dataset(
    folder: Path, recipe: Recipe, *, workers: int | None = None, progress: Progress | None = None
) -> Iterator[WrittenClip]:
    """Render clips of some classes; the tables are valid at any moment.

    ``CLASS/clip-000.mp4``, ``labels.csv`` (folder, text), ``split.json`` (train, val and test
    classes), ``captions.csv`` (what each clip shows) and ``synth.json`` (the recipe).

    Args:
        folder: The folder to write; ``files.clear`` empties one that was rendered before.
        recipe: What to render; any kind except ``stream``.
        workers: Number of processes; None is one per core. The files do not depend on it.
        progress: Called with the number of clips done and their total.

    Yields:
        Each clip, in order, once it is written.

    Raises:
        InputError: There are fewer classes than the recipe asks for.
        UnavailableError: The recipe asks for photographs, and they are not installed.
    """
    names = choose_classes(recipe)
    if recipe.photos:
        load_photos()  # raises here, not in a worker process
    write_manifest(folder, recipe)
    write_tables(folder, names)
    jobs = [_Job(folder, name, number, recipe) for name in names for number in range(recipe.clips)]
    columns = ("path", "label", "part", "seconds", "seed", "caption")
    with open_csv(folder / "captions.csv", columns) as add:
        for done, clip in enumerate(in_processes(_render_clip, jobs, workers=workers), start=1):
            add((clip.path, clip.label, clip.part, f"{clip.seconds:.3f}", clip.seed, clip.caption))
            if progress is not None:
                progress(done, len(jobs), _RENDERING)
            yield clip


def write_streams(
    folder: Path, recipe: Recipe, *, workers: int | None = None, progress: Progress | None = None
) -> Iterator[WrittenStream]:
    """Render long videos with their truth, and support clips of their actions.

    ``streams/stream-000.mp4`` has its events in ``streams/stream-000.csv`` (t_start, t_end in
    seconds, label); ``support/`` is a data set of the actions, shown by other people in other places.

    Args:
        folder: The folder to write; ``files.clear`` empties one that was rendered before.
        recipe: ``classes`` actions, ``clips`` videos of ``seconds`` each.
        workers: Number of processes; None is one per core. The files do not depend on it.
        progress: Called with the number of files done and their total.

    Yields:
        Each long video, in order, once it is written.

    Raises:
        InputError: There are fewer classes than the recipe asks for.
        UnavailableError: The recipe asks for photographs, and they are not installed.
    """
    names = choose_classes(recipe)
    total = len(names) * SHOTS + recipe.clips
    write_manifest(folder, recipe)
    shown = replace(recipe, clips=SHOTS, seconds=SHOT_SECONDS)

    def support_done(done: int, _clips: int, what: str) -> None:
        if progress is not None:
            progress(done, total, what)

    for _ in write_dataset(folder / "support", shown, workers=workers, progress=support_done):
        pass
    jobs = [_Job(folder, "", number, recipe) for number in range(recipe.clips)]
    for done, stream in enumerate(in_processes(_render_stream, jobs, workers=workers), start=1):
        support_done(len(names) * SHOTS + done, total, _RENDERING)
        yield stream


@dataclass(frozen=True)
class _Job:
    folder: Path
    name: str
    number: int
    recipe: Recipe


def _render_clip(job: _Job) -> WrittenClip:
    # Only this needs PyAV; drawing needs numpy and Pillow alone.
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

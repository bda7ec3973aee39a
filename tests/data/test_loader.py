"""Training episodes: the same for any number of workers and processes, and after a resume."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from mafsar.data.catalogue import Catalogue
from mafsar.data.episodes import draw_episodes
from mafsar.data.folders import read_own
from mafsar.data.frames import DecodedFrames, StoredFrames, frames_of, training_crop
from mafsar.data.loader import EpisodeBatch, EpisodeDataset, EpisodeLoader
from mafsar.data.pack import pack
from mafsar.data.store import Store, StoreSettings
from mafsar.errors import VideoError
from mafsar.video import load_clip

SIZE = 28  # the training crop's short side is then 32


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, numbered_tree: Path) -> Path:
    path = tmp_path_factory.mktemp("store") / "s.sqlite"
    pack(read_own(numbered_tree), path, StoreSettings(24, 48, 95))
    return path


def dataset(catalogue: Catalogue, *, seed: int = 3, train: bool = True) -> EpisodeDataset:
    data = catalogue.select("test")
    episodes = draw_episodes(
        data.class_index, data.labels, way=3, shot=1, query=2, episodes=12, seed=seed
    )
    return EpisodeDataset(
        data, episodes, frames_of(catalogue), frames=8, size=SIZE, train=train, flip=train
    )


def same(left: EpisodeBatch, right: EpisodeBatch) -> bool:
    return (
        left.index == right.index
        and torch.equal(left.support, right.support)
        and torch.equal(left.query, right.query)
        and torch.equal(left.classes, right.classes)
    )


def test_an_episode_is_what_was_drawn(numbered_tree: Path) -> None:
    catalogue = read_own(numbered_tree)
    episodes = dataset(catalogue, train=False)
    batch = episodes.load(5)
    assert batch.support.shape == (3, 1, 8, SIZE, SIZE, 3)
    assert batch.query.shape == (3, 2, 8, SIZE, SIZE, 3)
    assert batch.support.dtype == torch.uint8
    data = catalogue.select("test")
    assert batch.classes.tolist() == episodes.episodes.classes[5].tolist()
    for way in range(3):
        for query in range(2):
            clip = data.clips[int(episodes.episodes.queries[5, way, query])]
            assert clip.path is not None
            assert clip.label == data.labels[int(batch.classes[way])]
            whole = load_clip(clip.path, frames=8, size=SIZE).pixels
            assert np.array_equal(batch.query[way, query].numpy(), whole)


@pytest.mark.parametrize(("workers", "context"), [(1, "fork"), (2, "fork"), (1, "spawn")])
def test_workers_change_nothing(store: Path, workers: int, context: str) -> None:
    episodes = dataset(Store(store).catalogue())
    alone = list(EpisodeLoader(episodes, workers=0))
    shared = list(EpisodeLoader(episodes, workers=workers, context=context))
    assert [batch.index for batch in shared] == list(range(12))
    assert all(same(left, right) for left, right in zip(alone, shared, strict=True))


def test_workers_may_be_forked_after_decoding(numbered_tree: Path) -> None:
    """Decoders' threads do not survive a fork; a worker that freed them would hang."""
    episodes = dataset(read_own(numbered_tree))
    alone = [episodes.load(index) for index in range(3)]
    shared = EpisodeLoader(episodes, workers=1, context="fork")
    assert all(same(left, right) for left, right in zip(alone, shared, strict=False))


def test_processes_share_and_a_resumed_run_goes_on(store: Path) -> None:
    episodes = dataset(Store(store).catalogue())
    alone = [episodes.load(index) for index in range(12)]
    for world in (1, 2, 5):
        parts = [
            list(EpisodeLoader(episodes, rank=r, world=world, workers=0)) for r in range(world)
        ]
        together = sorted((b for part in parts for b in part), key=lambda batch: batch.index)
        assert all(same(left, right) for left, right in zip(alone, together, strict=True))
    resumed = list(EpisodeLoader(episodes, start=7, workers=0))
    assert all(same(left, right) for left, right in zip(alone[7:], resumed, strict=True))
    again = dataset(Store(store).catalogue(), seed=4).load(0)
    assert not torch.equal(again.support, alone[0].support)


def test_moments_are_random_in_their_segments(
    numbered_tree: Path, store: Path, numbers_of: Callable[[np.ndarray], list[int]]
) -> None:
    """24 frames in 8 segments: the frame of segment i is 3i, 3i + 1 or 3i + 2."""
    for catalogue in (read_own(numbered_tree), Store(store).catalogue()):
        episodes = dataset(catalogue)
        seen = set()
        for index in range(12):
            batch = episodes.load(index)
            numbers = episodes.episodes.support[index, :, 0].tolist()
            for clip, pixels in zip(numbers, batch.support[:, 0].numpy(), strict=True):
                shown = np.array(numbers_of(pixels))
                if not episodes.data.clips[clip].name.endswith("3.mp4"):
                    assert (shown // 3 == np.arange(8)).all()
                    seen |= set((shown % 3).tolist())
                else:  # 5 frames: they repeat, in order
                    assert (np.diff(shown) >= 0).all()
                    assert shown.max() <= 4
        assert seen == {0, 1, 2}


def test_the_crop_is_one_for_all_frames_and_uniform() -> None:
    height, width, size = 32, 40, 28
    y, x = np.mgrid[:height, :width]
    picture = np.stack([x, y, np.zeros_like(x)], axis=-1).astype(np.uint8)
    clip = np.repeat(picture[None], 8, axis=0)
    corners = np.zeros((height - size + 1, width - size + 1), int)
    mirrored = 0
    rng = np.random.default_rng(0)
    for _ in range(3000):
        crop = training_crop(clip, size, rng, flip=True)
        assert crop.shape == (8, size, size, 3)
        assert (crop == crop[:1]).all()
        flip = crop[0, 0, 0, 0] > crop[0, 0, 1, 0]
        mirrored += flip
        straight = crop[:, :, ::-1] if flip else crop
        left, top = straight[0, 0, 0, :2].tolist()
        assert (straight[0] == picture[top : top + size, left : left + size]).all()
        corners[top, left] += 1
    assert abs(mirrored - 1500) < 4 * np.sqrt(750)
    expected = 3000 / corners.size
    chi2 = ((corners - expected) ** 2 / expected).sum()
    assert chi2 < corners.size + 4 * np.sqrt(2 * corners.size)
    for _ in range(50):
        crop = training_crop(clip, size, rng, flip=False)
        assert crop[0, 0, 0, 0] < crop[0, 0, 1, 0]


def test_sizes_before_the_crop(numbered_tree: Path, store: Path) -> None:
    clip = read_own(numbered_tree).clips[0]
    stored = next(item for item in Store(store).catalogue().clips if item.name == clip.name)
    for short_side in (24, 32, 48, 60):
        # 64×48 clips: the long side is rounded down, as torchvision does.
        shape = (8, short_side, int(short_side * 64 / 48), 3)
        rng = np.random.default_rng(0)
        direct = DecodedFrames().training(clip, frames=8, short_side=short_side, rng=rng)
        packed = StoredFrames(Store(store)).training(
            stored, frames=8, short_side=short_side, rng=rng
        )
        assert direct.shape == packed.shape == shape


def test_a_broken_clip_ends_the_loop_in_one_line(
    tmp_path: Path, write_numbered: Callable[..., Path]
) -> None:
    for label in ("a", "b", "c"):
        for clip in range(3):
            write_numbered(tmp_path / label / f"{clip}.mp4", 12)
    episodes = dataset(read_own(tmp_path))
    (tmp_path / "b" / "1.mp4").write_bytes(b"broken")
    with pytest.raises(VideoError, match=r"b/1\.mp4") as caught:
        list(EpisodeLoader(episodes, workers=1))
    assert "\n" not in str(caught.value)


def test_waiting_is_measured(store: Path) -> None:
    loader = EpisodeLoader(dataset(Store(store).catalogue()), workers=0)
    assert loader.wait_share == 0.0
    began = time.perf_counter()
    for _ in loader:
        time.sleep(0.02)
    total = time.perf_counter() - began
    assert loader.busy_seconds >= 12 * 0.02
    assert 0 < loader.wait_seconds < total - loader.busy_seconds
    both = loader.wait_seconds + loader.busy_seconds
    assert loader.wait_share == pytest.approx(loader.wait_seconds / both)

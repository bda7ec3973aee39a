"""Episodes side by side give the bits of episodes one after another, on any number of threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from mafsar import kernels
from mafsar.data.frames import DecodedFrames
from mafsar.errors import VideoError
from mafsar.model.config import named_config
from mafsar.training.learner import is_small
from mafsar.training.processes import Processes
from mafsar.training.trainer import Trainer, open_clips


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """Restores the numbers of threads."""
    before = torch.get_num_threads(), kernels.get_num_threads()
    yield
    torch.set_num_threads(before[0])
    kernels.set_num_threads(before[1])


def trainer_of(config, threads: int) -> Trainer:
    torch.set_num_threads(threads)
    kernels.set_num_threads(threads)
    return Trainer(config, open_clips(config), Processes(0, 1, "cpu"))


def test_side_by_side_is_as_one_after_another(small_run) -> None:
    config = small_run(episodes=11, optim__batch=5, val__episodes=30)  # the last step has one
    states, results, validations = [], [], []
    for count in (1, 3):
        trainer = trainer_of(config, count)
        assert trainer.learner.at_once == count
        batches = iter(trainer.episodes_from(0))
        results.append([trainer.step(step, batches) for step in range(3)])
        states.append([value.clone() for value in trainer.tuned.values()])
        assert trainer.validator is not None
        validations.append(trainer.validator.run(trainer.network, trainer.autocast, "cpu"))
        assert (torch.get_num_threads(), kernels.get_num_threads()) == (count, count)
    assert results[0] == results[1]
    assert validations[0] == validations[1]
    assert all(torch.equal(one, other) for one, other in zip(*states, strict=True))


def test_each_thread_computes_whole_episodes(small_run, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = trainer_of(small_run(episodes=8, optim__batch=8), 2)
    seen: list[tuple[int, int]] = []
    encode = trainer.learner._encode

    def spy(*inputs):
        seen.append((threading.get_ident(), torch.get_num_threads()))
        return encode(*inputs)

    monkeypatch.setattr(trainer.learner, "_encode", spy)
    trainer.step(0, iter(trainer.episodes_from(0)))
    assert len({thread for thread, _ in seen} - {threading.get_ident()}) == 2
    assert {count for _, count in seen} == {1}


def test_large_networks_divide_their_operations(small_run) -> None:
    clips = 10  # five ways, one shot, one query
    assert is_small(named_config("tiny"), clips)
    assert not is_small(named_config("vit-b-32"), clips)
    assert not is_small(named_config("vit-b-16"), clips)
    assert not is_small(named_config("rn50"), clips)
    assert trainer_of(small_run(optim__batch=1), 4).learner.at_once == 1
    assert trainer_of(small_run(run__compile=True), 4).learner.at_once == 1


def test_a_clip_that_cannot_be_read_ends_the_step(
    small_run, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trainer_of(small_run(episodes=4, optim__batch=4), 2)

    def broken(*_: object, **__: object) -> None:
        raise VideoError("clip.mp4: broken")

    monkeypatch.setattr(DecodedFrames, "training", broken)
    with pytest.raises(VideoError, match=r"clip\.mp4: broken"):
        trainer.step(0, iter(trainer.episodes_from(0)))
    assert torch.get_num_threads() == 2

"""`mafsar.train` as a Python user calls it."""

from __future__ import annotations

from pathlib import Path

import pytest

import mafsar
from mafsar.errors import InputError, MismatchError, MissingError, TrainingError
from mafsar.model.sources import load_trained
from mafsar.model.weights import weights_sha256
from mafsar.training.config import TrainConfig, build_config, flat
from mafsar.training.loop import StepReport

QUICK = {
    "model.frames": 4, "data.workers": 0, "optim.batch": 2, "val.every": 0,
    "run.tensorboard": False,
}  # fmt: skip


def test_keywords_a_configuration_and_a_file_give_the_same_run(
    moving_squares: Path, base_clip: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    split = moving_squares / "split.json"
    steps: list[StepReport] = []
    by_keywords = mafsar.train(
        data=moving_squares, split=split, model=base_clip, way=3, episodes=4, fields=QUICK,
        device="cpu", report=steps.append,
    )  # fmt: skip
    assert by_keywords.run == Path("runs") / moving_squares.name
    assert [step.step for step in steps] == [1, 2]
    config = TrainConfig(
        data={"folder": moving_squares, "split": split, "workers": 0}, way=3, episodes=4,
        model={"name": base_clip, "frames": 4}, optim={"batch": 2}, val={"every": 0},
        run={"tensorboard": False},
    )  # fmt: skip
    by_config = mafsar.train(config, device="cpu")
    assert by_config.run == Path("runs") / f"{moving_squares.name}-2"
    by_file = mafsar.train(str(by_keywords.run / "config.toml"), "third", seed=0, device="cpu")
    saved = [build_config(result.run / "config.toml") for result in (by_keywords, by_config)]
    assert flat(saved[0]) == flat(saved[1]) == flat(build_config(by_file.run / "config.toml"))
    runs = [result.run for result in (by_keywords, by_config, by_file)]
    assert len({weights_sha256(load_trained(run)) for run in runs}) == 1

    again = mafsar.train(out="third", resume=True, device="cpu")
    assert (again.run, again.steps, again.match) == (Path("third"), 2, by_file.match)
    with pytest.raises(MismatchError, match="was started with way=3, not 2"):
        mafsar.train(out="third", resume=True, way=2, device="cpu")
    # A field of a file counts where it has the default value too.
    Path("other.toml").write_text("way = 5\n")
    with pytest.raises(MismatchError, match="was started with way=3, not 5"):
        mafsar.train("other.toml", "third", resume=True, device="cpu")
    mafsar.train(str(by_keywords.run / "config.toml"), "third", resume=True, device="cpu")


def test_messages_name_arguments(moving_squares: Path, base_clip: str, tmp_path: Path) -> None:
    given = {"data": moving_squares, "split": moving_squares / "split.json", "model": base_clip}
    with pytest.raises(InputError, match=r"^resume=True: name the run's folder with out$"):
        mafsar.train(resume=True)
    with pytest.raises(MissingError, match=r"^resume=True: there is no run in "):
        mafsar.train(out=tmp_path, resume=True)
    with pytest.raises(MissingError, match="no such configuration file"):
        mafsar.train(tmp_path / "none.toml")
    with pytest.raises(InputError, match=r"did you mean optim\.learning_rate\?"):
        mafsar.train(**given, fields={"learning_rate": 1.0})
    with pytest.raises(InputError, match="device must be auto, cpu, cuda or cuda:N, got 'gpu'"):
        mafsar.train(**given, out=tmp_path / "run", device="gpu")
    with pytest.raises(InputError, match=r"^model='.*': a run refers to its towers by name"):
        mafsar.train(**(given | {"model": str(tmp_path)}), out=tmp_path / "run", way=3)
    high = QUICK | {"optim.learning_rate": 1e30, "optim.warm_up": 0.0, "model.frames": 4}
    with pytest.raises(TrainingError, match=r"lower optim\.learning_rate"):
        mafsar.train(**given, out=tmp_path / "run", way=3, fields=high, device="cpu")

"""What weight decay applies to, in new runs and in runs that were started before there was a choice."""

from __future__ import annotations

from pathlib import Path

import torch

from mafsar.training.decay import is_weight, parameter_groups
from mafsar.training.fields import OptimFields
from mafsar.training.loop import train
from mafsar.training.processes import Processes
from mafsar.training.run_folder import CONFIG_FILE, saved_config
from mafsar.training.trainer import Trainer, open_clips


def test_biases_norms_and_embeddings_do_not_decay(small_run) -> None:
    config = small_run()
    trainer = Trainer(config, open_clips(config), Processes(0, 1, "cpu"))
    decayed, free = trainer.optimizer.param_groups
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.05, 0.0)
    names = {id(parameter): name for name, parameter in trainer.tuned.items()}
    kept = {names[id(parameter)] for parameter in decayed["params"]}
    left = {names[id(parameter)] for parameter in free["params"]}
    assert kept | left == set(trainer.tuned)
    assert all(name.endswith("weight") for name in kept)
    assert any(name.endswith("temporal_embedding") for name in left)
    assert all(name in left for name in trainer.tuned if name.endswith("bias"))


def test_everything_decays_where_that_is_asked() -> None:
    tuned = {
        "a.weight": torch.nn.Parameter(torch.ones(2, 2)),
        "a.bias": torch.nn.Parameter(torch.ones(2)),
        "ln.weight": torch.nn.Parameter(torch.ones(2)),
        "temporal_embedding": torch.nn.Parameter(torch.ones(2, 2)),
    }
    (group,) = parameter_groups(tuned, OptimFields(decay="all"))
    assert (len(group["params"]), group["weight_decay"]) == (4, 0.05)
    assert [name for name in tuned if is_weight(name, tuned[name])] == ["a.weight"]


def test_an_older_run_resumes_with_its_own_groups(small_run, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(small_run(episodes=4, val__every=0, optim__decay="all"), out, device="cpu")
    written = (out / CONFIG_FILE).read_text()
    (out / CONFIG_FILE).write_text(written.replace('decay = "all"\n', ""))
    assert "\ndecay" not in (out / CONFIG_FILE).read_text()
    assert saved_config(out).optim.decay == "all"
    train(out=out, resume=True, device="cpu")
    (out / CONFIG_FILE).write_text(written.replace('decay = "all"', 'decay = "weights"'))
    assert saved_config(out).optim.decay == "weights"

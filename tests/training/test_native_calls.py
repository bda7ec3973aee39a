"""Which native kernels a training step, a half-precision encoder and a validation reach."""

from __future__ import annotations

import dataclasses
import threading
from collections import Counter

import numpy as np
import pytest
import torch

from mafsar.kernels import dispatch
from mafsar.kernels.torch_ops import adapter, adapter_steps, matching
from mafsar.model.config import named_config
from mafsar.model.network import build_network
from mafsar.runtime.engines.torch_encoder import TorchEncoder
from mafsar.training.processes import Processes
from mafsar.training.trainer import Trainer, open_clips

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(
    not (torch.cuda.is_available() and dispatch.has_cuda()), reason="no GPU, or no GPU kernels"
))]  # fmt: skip
pytestmark = pytest.mark.skipif(dispatch.native() is None, reason="no native module")


@pytest.fixture
def native_calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each function of the native module is called from here on."""
    calls: Counter[str] = Counter()
    module = dispatch.native()
    lock = threading.Lock()  # episodes are computed side by side

    class Counted:
        def __getattr__(self, name: str) -> object:
            with lock:
                calls[name] += 1
            return getattr(module, name)

    counted = Counted()
    from mafsar.kernels.torch_ops import adapter_cuda, matching_cuda

    for place in (adapter, adapter_steps, matching, adapter_cuda, matching_cuda):
        monkeypatch.setattr(place, "native", lambda: counted)
    return calls


def count(calls: Counter[str], name: str) -> int:
    """Calls of a kernel on a CPU or on a GPU."""
    return calls[name] + calls[f"cuda_{name}"]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("metric", ["otam", "bimhm"])
def test_a_training_step_within_autocast(small_run, native_calls, device: str, metric: str) -> None:
    config = small_run(metric=metric, run__precision="bf16", text_dropout=0.0)
    trainer = Trainer(config, open_clips(config), Processes(0, 1, device))
    batches = iter(trainer.episodes_from(0))
    native_calls.clear()
    trainer.step(0, batches)
    blocks, episodes, branches = trainer.network.config.vision.layers, config.optim.batch, 2
    runs = blocks * episodes * branches
    if device == "cpu":
        assert native_calls["match_forward"] == native_calls["match_backward"] == episodes
        # Few rows: one call a block. The backward pass of so many rows goes step by step, and the
        # first block's tokens need no gradient where nothing below is tuned.
        assert native_calls["adapter_forward"] == runs
        assert count(native_calls, "adapter_backward") + native_calls["gelu_backward"] == runs
    else:
        assert native_calls["cuda_match"] == 3 * episodes  # forward, and the gradient of each side
        assert native_calls["cuda_adapter_forward"] == native_calls["cuda_adapter_backward"] == runs


@pytest.mark.parametrize("device", DEVICES)
def test_half_precision_inference(small_clip_config, native_calls, device: str) -> None:
    config = dataclasses.replace(small_clip_config, adapters=named_config("tiny").adapters)
    encoder = TorchEncoder(build_network(config, seed=3), device=device)
    # Offered on a GPU only; a CPU computes the same, slowly.
    encoder.precision = "fp16"
    size = config.vision.image_size
    clips = np.random.default_rng(0).integers(0, 256, (2, config.frames, size, size, 3), np.uint8)
    features = encoder.encode_query(clips)
    assert count(native_calls, "adapter_forward") == config.vision.layers
    encoder.precision = "fp32"
    exact = encoder.encode_query(clips)
    # Half precision keeps 11 bits; over two blocks errors add up to a few of the last.
    largest = float(np.abs(exact.frames).max())
    np.testing.assert_allclose(features.frames, exact.frames, atol=16 * 2.0**-11 * largest)


@pytest.mark.parametrize("device", DEVICES)
def test_a_validation_matches_on_the_device(small_run, native_calls, device: str) -> None:
    config = small_run(run__precision="bf16")
    trainer = Trainer(config, open_clips(config), Processes(0, 1, device))
    assert trainer.validator is not None
    native_calls.clear()
    trainer.validator.run(trainer.network, trainer.autocast, trainer.device)
    # All forty episodes are matched in one call; the numpy functions take no part.
    assert native_calls["match_forward" if device == "cpu" else "cuda_match"] == 1
    assert count(native_calls, "adapter_forward") > 0

"""How long does a training step take, and how much memory, against an honest twin?

One 5-way 1-shot episode, one query a class, T = 8: forward, loss, backward, AdamW. The twin has the
same frozen weights (`requires_grad` off), `nn.MultiheadAttention(need_weights=False)`, the same
batching, and OTAM as a double loop over cells. Losses and gradients of both are compared first.
`full` is ours with `model.tune = "full"`. Rounds alternate the sides; each runs once a round. Peak
memory is that of a process of its own (CPU: its resident set; GPU: torch's allocations).

    python benchmarks/train_step.py [--model vit-b-32:random] [--rounds 3] [--threads 2] [--write]
    python benchmarks/train_step.py --device cuda --rounds 20 --write
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mafsar import kernels
from mafsar.data.loader import EpisodeBatch
from mafsar.model.network import MafsarNetwork
from mafsar.model.towers import Block
from mafsar.training.config import build_config
from mafsar.training.episode import run_episode
from mafsar.training.losses import episode_loss, text_loss
from mafsar.training.start import start_network

RESULTS = Path(__file__).parent / "results"
SIDES = ("ours", "twin", "full")
LAM = 0.5


class TwinAttention(nn.Module):
    """torch's own attention with a block's weights."""

    def __init__(self, block: Block, width: int) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(width, block.attn.heads, batch_first=True)
        self.inner.in_proj_weight = block.attn.in_proj_weight
        self.inner.in_proj_bias = block.attn.in_proj_bias
        self.inner.out_proj.weight = block.attn.out_proj.weight
        self.inner.out_proj.bias = block.attn.out_proj.bias

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x, x, x, need_weights=False)[0]


class Twin(nn.Module):
    """METHOD section 1 and 2 as one would write them down, over the same parameters."""

    def __init__(self, network: MafsarNetwork) -> None:
        super().__init__()
        self.network = network
        blocks, width = network.visual.transformer.resblocks, network.config.vision.width
        self.attention = nn.ModuleList(TwinAttention(block, width) for block in blocks)
        tpcm = network.tpcm
        self.mixing = TwinAttention(tpcm, network.config.embed_dim)
        self.train()

    def encode(self, frames: Tensor, text: Tensor | None) -> tuple[Tensor, Tensor]:
        net, time_ = self.network, frames.shape[1]
        tower, adapters = net.visual, net.adapters
        z = tower.embed(net._normalise(frames).flatten(0, 1))
        z = z.unflatten(0, (-1, time_)) + adapters.temporal_embedding[:, None]
        z = tower.ln_pre(z.flatten(0, 1))
        for block, parts, attend in zip(
            tower.transformer.resblocks, adapters.blocks, self.attention, strict=True
        ):
            c = z[:, 0].unflatten(0, (-1, time_))
            c = c + parts.gta.adapter(attend(block.ln_1(c)))
            tokens = [z, c.flatten(0, 1)[:, None]]
            if text is not None:
                t = parts.lma.text_fc(text)
                tokens.append(t[:, None].repeat(1, time_, 1).flatten(0, 1)[:, None])
            u = torch.cat(tokens, dim=1)
            a = attend(block.ln_1(u))
            v = (u + a + parts.lma.adapter(a))[:, : z.shape[1]]
            y = block.ln_2(v)
            z = v + block.mlp(y) + parts.joint.scale * parts.joint.adapter(y)
        raw = tower.project(z[:, 0]).unflatten(0, (-1, time_))
        if text is None:
            x = raw + self.mixing(raw)
        else:
            q, k = raw + text[:, None], torch.cat([text[:, None], raw], dim=1)
            x = q + self.mixing.inner(q, k, k, need_weights=False)[0]
        return x + net.tpcm.ffn(x), raw.mean(dim=1)


def cell_by_cell(distances: Tensor) -> Tensor:
    """OTAM in one direction, a torch operation for each cell; distances (Q, C, Tq, Ts)."""
    d = F.pad(distances, (1, 1))
    rows, columns = d.shape[-2:]
    zero = torch.zeros_like(d[..., 0, 0])
    above = [zero]
    for m in range(1, columns):
        above.append(d[..., 0, m] + above[-1])
    for row in range(1, rows):
        here = [zero]
        for m in range(1, columns):
            steps = [above[m - 1], here[m - 1]] + [above[m]] * (m in (1, columns - 1))
            soft = -LAM * torch.logsumexp(torch.stack(steps) / -LAM, dim=0)
            here.append(d[..., row, m] + soft)
        above = here
    return above[-1]


class Side:
    """One way to take a step."""

    def __init__(self, name: str, model: str, device: str) -> None:
        tune = "full" if name == "full" else "adapters"
        config = build_config(None, {"model.name": model, "model.tune": tune})
        self.network = start_network(config).to(device).train()
        generator = torch.Generator().manual_seed(0)
        self.tuned = list(self.network.tunable_parameters().values())
        if tune == "adapters":
            with torch.no_grad():  # adapters that are off at the start would hide differences
                for value in self.tuned:
                    value += 0.01 * torch.randn(value.shape, generator=generator).to(device)
        self.optimizer = torch.optim.AdamW(self.tuned, lr=1e-5)
        size, width = self.network.config.vision.image_size, self.network.config.embed_dim
        shape = (5, 1, 8, size, size, 3)
        clips = [
            torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator).to(device)
            for _ in range(2)
        ]
        self.batch = EpisodeBatch(0, *clips, torch.arange(5))
        self.texts = torch.randn(5, width, generator=generator).to(device)
        self.match = self.network.config.match
        self.twin = Twin(self.network) if name == "twin" else None
        self.device = device

    def loss(self) -> Tensor:
        """The episode's loss."""
        with self._autocast():
            if self.twin is None:
                guided = self.network.config.adapters is not None
                return run_episode(
                    self.network.encode_support, self.batch, self.texts, self.match,
                    guided=guided, smooth=0.1,
                ).loss  # fmt: skip
            s, s_pooled = self.twin.encode(self.batch.support.flatten(0, 1), self.texts)
            q, q_pooled = self.twin.encode(self.batch.query.flatten(0, 1), None)
        unit = [F.normalize(x.float(), dim=-1) for x in (q, s)]
        distances = 1 - torch.einsum("qie,cje->qcij", *unit)
        cost = cell_by_cell(distances) + cell_by_cell(distances.transpose(-1, -2))
        labels = torch.arange(5, device=cost.device)
        scale = self.match.text_scale
        worded = [
            text_loss(p.float(), self.texts, labels, scale, 0.1) for p in (s_pooled, q_pooled)
        ]
        return episode_loss(-cost, labels, self.match.alpha, (worded[0], worded[1]))

    def step(self) -> None:
        """Forward, backward, AdamW."""
        self.optimizer.zero_grad(set_to_none=True)
        self.loss().backward()
        self.optimizer.step()
        if self.device != "cpu":
            torch.cuda.synchronize()

    def _autocast(self) -> contextlib.AbstractContextManager[object]:
        if self.device == "cpu":
            return contextlib.nullcontext()
        return torch.autocast("cuda", dtype=torch.bfloat16)


def compare(ours: Side, twin: Side) -> tuple[float, float]:
    """Relative differences of loss and gradient."""
    gradients = []
    losses = []
    for side in (ours, twin):
        loss = side.loss()
        loss.backward()
        losses.append(float(loss.detach()))
        zeros = (torch.zeros_like(p) if p.grad is None else p.grad for p in side.tuned)
        gradients.append(torch.cat([g.flatten() for g in zeros]))
        side.optimizer.zero_grad(set_to_none=True)
    gap = (gradients[0] - gradients[1]).norm() / gradients[1].norm()
    return abs(losses[0] - losses[1]) / abs(losses[1]), float(gap)


def matrix_rate(device: str, clock: Callable[[], float], seconds: float = 2.0) -> float:
    """Floating point operations a second of the MLP's product, as torch does it."""
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    a, b = torch.randn(2080, 768), torch.randn(768, 3072)
    a, b = a.to(device, dtype), b.to(device, dtype)
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        began = clock()
        _ = a @ b
        if device != "cpu":
            torch.cuda.synchronize()
        best = min(best, clock() - began)
    return 2 * 2080 * 768 * 3072 / best


def peak_memory(side: Side) -> float:
    """GiB at most, of two steps; meant for a process of its own."""
    for _ in range(2):
        side.step()
    if side.device != "cpu":
        return torch.cuda.max_memory_allocated() / 2**30
    # Not getrusage: a child's peak there begins with its parent's.
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 2**20


def memory_of(name: str, arguments: argparse.Namespace) -> float:
    """`peak_memory` in a process of its own."""
    words = ["--memory", name, "--model", arguments.model, "--device", arguments.device]
    line = [sys.executable, __file__, *words, "--threads", str(arguments.threads)]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="vit-b-32:random")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--memory", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--write", action="store_true", help=f"keep the figures in {RESULTS.name}/")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    kernels.set_num_threads(arguments.threads)
    if arguments.memory:
        print(peak_memory(Side(arguments.memory, arguments.model, arguments.device)))
        return
    sides = {name: Side(name, arguments.model, arguments.device) for name in SIDES}
    loss_gap, gradient_gap = compare(sides["ours"], sides["twin"])
    assert max(loss_gap, gradient_gap) < (1e-3 if arguments.device == "cpu" else 0.1)
    with FlopCounterMode(display=False) as counter:
        sides["ours"].loss().backward()
    flops = counter.get_total_flops()
    # One thread's own time is the same on a busy machine; more threads wait for one another.
    alone = arguments.device == "cpu" and arguments.threads == 1
    clock = time.process_time if alone else time.perf_counter
    seconds: dict[str, list[float]] = {name: [] for name in SIDES}
    for round_ in range(arguments.rounds + 1):
        for name in SIDES if round_ % 2 else SIDES[::-1]:
            began = clock()
            sides[name].step()
            if round_:  # the first warms up
                seconds[name].append(clock() - began)
    rate = matrix_rate(arguments.device, clock)
    times = {name: statistics.median(found) for name, found in seconds.items()}
    memory = {name: memory_of(name, arguments) for name in SIDES}
    table = {
        "model": arguments.model,
        "device": arguments.device,
        "machine": platform.processor() or platform.machine(),
        "threads": arguments.threads,
        "clock": "the thread's own" if alone else "wall",
        "torch": torch.__version__,
        "rounds": arguments.rounds,
        "relative_difference": {"loss": loss_gap, "gradient": gradient_gap},
        "seconds": times,
        "seconds_fastest": {name: min(found) for name, found in seconds.items()},
        "peak_memory_gib": memory,
        "speedup_over_twin": times["twin"] / times["ours"],
        "memory_over_twin": memory["ours"] / memory["twin"],
        "adapters_over_full": {
            "time": times["ours"] / times["full"], "memory": memory["ours"] / memory["full"],
        },
        "flops_ours": flops,
        "matrix_rate_gflops": rate / 1e9,
        "share_of_matrix_rate": flops / times["ours"] / rate,
    }  # fmt: skip
    text = json.dumps(table, indent=1)
    print(text)
    if arguments.write:
        RESULTS.mkdir(exist_ok=True)
        kind = "cpu" if arguments.device == "cpu" else "gpu"
        (RESULTS / f"train_step_{kind}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

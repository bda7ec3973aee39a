"""Traces a network into ONNX graphs in memory, one per branch.

The support branch has one token more than the query branch, so a single graph for both would
silently give wrong prototypes.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir
import onnxscript.optimizer
import torch
from onnx_ir.passes.common import ClearMetadataAndDocStringPass
from torch import Tensor, nn

from mafsar.errors import UnavailableError
from mafsar.export.graphs.weight_names import name_weights
from mafsar.model.network import MafsarNetwork

OPSET = 20
IR_VERSION = 10  # the newest that ONNX Runtime 1.23 reads, the last for Python 3.10 on aarch64
_NO_LIMIT = 2**62


class QueryGraph(nn.Module):
    """frames → features, pooled."""

    def __init__(self, network: MafsarNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        return self.network.encode_query(frames)


class SupportGraph(nn.Module):
    """frames, text → features, pooled."""

    def __init__(self, network: MafsarNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, frames: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        return self.network.encode_support(frames, text)


class TextGraph(nn.Module):
    """tokens → embedding."""

    def __init__(self, network: MafsarNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, tokens: Tensor) -> Tensor:
        return self.network.encode_text(tokens)


@dataclass(frozen=True)
class GraphSpec:
    """A graph to export.

    Attributes:
        name: `query`, `support` or `text`.
        module: The module to trace.
        inputs: Names of the inputs, in order; the first axis of each is the batch.
        outputs: Names of the outputs, in order.
    """

    name: str
    module: nn.Module
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def graph_specs(network: MafsarNetwork) -> tuple[GraphSpec, ...]:
    """The graphs of a network; a plain CLIP has no support graph."""
    features = ("features", "pooled")
    query = GraphSpec("query", QueryGraph(network), ("frames",), features)
    support = GraphSpec("support", SupportGraph(network), ("frames", "text"), features)
    text = GraphSpec("text", TextGraph(network), ("tokens",), ("embedding",))
    if network.config.adapters is None:
        return query, text
    return query, support, text


def example_inputs(network: MafsarNetwork, spec: GraphSpec, batch: int) -> tuple[Tensor, ...]:
    """Inputs of the right shapes for a graph: seeded noise, a moving edge, random tokens.

    Half of the clips are noise, on which errors of attention show; the other half have structure,
    on which errors of position and order show.
    """
    config = network.config
    generator = torch.Generator().manual_seed(batch)
    size, frames = config.input_size, config.frames
    clips = torch.randint(
        0, 256, (batch, frames, size, size, 3), dtype=torch.uint8, generator=generator
    )
    ramp = torch.arange(size)
    for index in range(0, batch, 2):
        for frame in range(frames):
            edge = (ramp > size * (frame + 1) // (frames + 1)).to(torch.uint8) * 200
            clips[index, frame] = edge[None, :, None] + (ramp[:, None, None] % 56).to(torch.uint8)
    made = {
        "frames": clips,
        "text": torch.randn(batch, config.feature_dim, generator=generator),
        "tokens": torch.randint(
            0, config.text.vocab_size, (batch, config.text.context_length), generator=generator
        ),
    }
    return tuple(made[name] for name in spec.inputs)


def trace(network: MafsarNetwork, spec: GraphSpec) -> ir.Model:
    """Exports one graph, float32, with a dynamic batch.

    Args:
        network: In evaluation mode, on the CPU.
        spec: One of `graph_specs`.

    Returns:
        The graph: opset 20, IR 10, standard operators only, weights named after their parameters
        and in the order in which the layers use them, and no trace of the machine that made it.

    Raises:
        UnavailableError: The exporter failed; the message gives its reason.
    """
    # Two, because the exporter makes a batch of one a constant.
    inputs = example_inputs(network, spec, batch=2)
    try:
        with quiet(), torch.no_grad():
            program = torch.onnx.export(
                spec.module.eval(),
                inputs,
                dynamo=True,
                opset_version=OPSET,
                input_names=list(spec.inputs),
                output_names=list(spec.outputs),
                dynamic_shapes=tuple({0: torch.export.Dim.DYNAMIC} for _ in inputs),
                optimize=True,
                verbose=False,
            )
            if program is None:
                raise UnavailableError("torch.onnx.export returned nothing; update torch")
            model = program.model
            # Slices and transposes of weights become weights: the graph holds each matrix as it
            # is used, so an engine does not compute it again at each start.
            onnxscript.optimizer.fold_constants(
                model, input_size_limit=_NO_LIMIT, output_size_limit=_NO_LIMIT
            )
            onnxscript.optimizer.remove_unused_nodes(model)
    except torch.onnx.errors.OnnxExporterError as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UnavailableError(
            f"torch.onnx.export failed on the {spec.name} graph: {reason}"
        ) from error
    _tidy(model, spec)
    name_weights(model, {k: v.detach().numpy() for k, v in network.state_dict().items()})
    return model


def _tidy(model: ir.Model, spec: GraphSpec) -> None:
    """Removes what differs between machines and runs, and names the batch axis."""
    ClearMetadataAndDocStringPass()(model)
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    model.graph.name = spec.name
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version = "mafsar", None
    for value in (*model.graph.inputs, *model.graph.outputs):
        if value.shape is not None:
            value.shape = ir.Shape(["batch", *list(value.shape)[1:]])
        value.metadata_props.clear()
    for node in model.graph:
        node.name = None
        node.metadata_props.clear()
        for value in node.outputs:
            value.metadata_props.clear()
            if not value.is_graph_output():
                value.shape, value.type = None, None
                # The exporter names values after torch's operators, one of which is `embedding`.
                if value.name in spec.outputs:
                    value.name = f"{value.name}_inside"
    for value in model.graph.initializers.values():
        value.metadata_props.clear()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppresses what the exporter prints, logs and warns about its internals; errors still raise."""
    names = ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    # A child with a level of its own would not follow its parent.
    manager = logging.Logger.manager.loggerDict
    children = [
        logger
        for name, logger in list(manager.items())
        if isinstance(logger, logging.Logger)
        and name.startswith(tuple(f"{parent}." for parent in names))
        and logger.level != logging.NOTSET
    ]
    child_levels = [logger.level for logger in children]
    for logger in (*loggers, *children):
        logger.setLevel(logging.ERROR)
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip((*loggers, *children), (*levels, *child_levels), strict=True):
            logger.setLevel(level)

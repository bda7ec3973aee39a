"""Weights of the photo embedding's networks, from what their makers published.

BlazePose lite is a TensorFlow Lite file of the npm package `@mediapipe/pose` (Apache-2.0), which
`npm pack` fetches. Its graph is a plain chain, so the convolutions are taken in their order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mafsar.errors import InputError, MissingError, UnavailableError
from mafsar.model.photo import PeopleNetwork

_BUILTIN = {"CONV_2D": 3, "DEPTHWISE_CONV_2D": 4, "DEQUANTIZE": 6}
_SHA256 = "f17bfbecadb61c3be1baa8b8d851cc6619c870a87167b32848ad20db306b9d61"
_LAST = 285  # the tensor that `PeopleNetwork` ends with


def load_people_weights(path: Path) -> dict[str, Tensor]:
    """Return the state dict of `PeopleNetwork`, float32.

    Args:
        path: ``pose_landmark_lite.tflite``.

    Raises:
        MissingError: There is no such file.
        UnavailableError: The package `tflite` is not installed.
        InputError: Another file, or other layers in it.
    """
    if not path.is_file():
        raise MissingError(f"{path}: no such file; npm pack @mediapipe/pose has it")
    if hashlib.sha256(path.read_bytes()).hexdigest() != _SHA256:
        raise InputError(f"{path}: not the file of @mediapipe/pose 0.5.1675469404; pack it again")
    network = PeopleNetwork()
    layers = [
        (name, layer) for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d)
    ]
    state: dict[str, Tensor] = {}
    found = list(_convolutions(path))
    for (name, layer), (weight, bias) in zip(layers, found, strict=False):
        if weight.shape != layer.weight.shape or layer.bias is None:
            raise InputError(
                f"{path}: {name} should be {tuple(layer.weight.shape)}, got {tuple(weight.shape)}"
            )
        state |= {f"{name}.weight": weight, f"{name}.bias": bias}
    if len(found) != len(layers):
        raise InputError(f"{path}: {len(layers)} convolutions are wanted, got {len(found)}")
    return state


def _convolutions(path: Path) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields weights (out, in / groups, k, k) and biases on the way to the last tensor, in order."""
    try:
        import tflite
    except ImportError as error:
        raise UnavailableError(
            "reading TensorFlow Lite files needs tflite, which is not installed; pip install tflite"
        ) from error
    model = tflite.Model.GetRootAsModel(path.read_bytes(), 0)
    graph = model.Subgraphs(0)
    operators = [graph.Operators(index) for index in range(graph.OperatorsLength())]

    def kind(operator: tflite.Operator) -> int:
        code = model.OperatorCodes(operator.OpcodeIndex())
        return max(int(code.BuiltinCode()), int(code.DeprecatedBuiltinCode()))

    source = {int(one.Outputs(0)): one for one in operators}
    wanted, waiting = set(), [_LAST]
    while waiting:
        place = waiting.pop()
        operator = source.get(place)
        if operator is not None and place not in wanted:
            wanted.add(place)
            waiting += [int(operator.Inputs(i)) for i in range(operator.InputsLength())]

    def constant(place: int) -> Tensor:
        operator = source.get(place)
        if operator is not None and kind(operator) == _BUILTIN["DEQUANTIZE"]:
            place = int(operator.Inputs(0))
        tensor = graph.Tensors(place)
        data = model.Buffers(tensor.Buffer()).DataAsNumpy().tobytes()
        kinds = {tflite.TensorType.FLOAT16: np.float16, tflite.TensorType.FLOAT32: np.float32}
        values = np.frombuffer(data, kinds[tensor.Type()]).reshape(tensor.ShapeAsNumpy())
        return torch.from_numpy(values.astype(np.float32))

    for operator in operators:
        if int(operator.Outputs(0)) not in wanted:
            continue
        if kind(operator) == _BUILTIN["CONV_2D"]:  # (out, k, k, in)
            weight = constant(int(operator.Inputs(1))).permute(0, 3, 1, 2)
        elif kind(operator) == _BUILTIN["DEPTHWISE_CONV_2D"]:  # (1, k, k, channels)
            weight = constant(int(operator.Inputs(1))).permute(3, 0, 1, 2)
        else:
            continue
        yield weight.contiguous(), constant(int(operator.Inputs(2)))

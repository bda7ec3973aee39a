"""Counts the layers of a TensorRT network or engine by type and precision, and checks them.

The parsed network shows which precision was asked for and, on a GPU, the built engine shows which
one it got. Both are checked: TensorRT has built fp32 engines from fp16 graphs with only a warning.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from mafsar.errors import MismatchError, option

Layers = dict[str, dict[str, int]]
WEIGHT_SHARE = 0.6  # most weight bytes of an fp16 engine, as a share of the fp32 graph's
_PRODUCTS = {"fp16": "HALF", "fp32": "FLOAT"}
_SIZES = {"FLOAT": 4, "HALF": 2, "BF16": 2, "INT8": 1}
# The inspector's spellings of a type differ by version and layout, such as `Half` or
# `Row major linear FP16 format`.
_SPELLINGS = {
    "BF16": ("BFLOAT16", "BF16"),
    "HALF": ("HALF", "FP16", "FLOAT16"),
    "FLOAT": ("FLOAT", "FP32"),
    "INT8": ("INT8",),
}


def member_name(member: Any) -> str:
    """Name of an enumeration's member, `HALF` for `DataType.HALF`, in every binding."""
    return str(getattr(member, "name", member)).rpartition(".")[2]


def count_network(network: Any) -> tuple[Layers, int]:
    """Layers of a parsed network by type and first output's precision, and its weight bytes."""
    counts: dict[str, Counter[str]] = {}
    total = 0
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        kind, dtype = member_name(layer.type), member_name(layer.get_output(0).dtype)
        counts.setdefault(kind, Counter())[dtype] += 1
        if kind == "CONSTANT" and dtype in _SIZES:
            volume = 1
            for side in layer.get_output(0).shape:
                volume *= side
            total += volume * _SIZES[dtype]
    return _sorted(counts), total


def count_engine(engine: Any, trt: Any, batch: int) -> Layers:
    """Layers of a built engine by type and precision of their first input.

    Args:
        engine: Built with detailed verbosity, deserialised on a GPU.
        trt: The module.
        batch: Batch size of the engine's first profile; types are known only once shapes are.

    Returns:
        The layers; empty where the inspector gives no types.
    """
    inspector = engine.create_engine_inspector()
    # Nothing runs, so the context needs no memory.
    context = engine.create_execution_context(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
    if context is not None:
        for index in range(engine.num_io_tensors):
            name = engine.get_tensor_name(index)
            if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT:
                shape = (batch, *tuple(engine.get_tensor_shape(name))[1:])
                context.set_input_shape(name, shape)
        inspector.execution_context = context
    text = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    return read_layers(text)


def read_layers(text: str) -> Layers:
    """The layers in an inspector's JSON, without those whose type is unknown."""
    counts: dict[str, Counter[str]] = {}
    for layer in json.loads(text).get("Layers", []):
        tensors = (
            layer.get("Inputs", []) if isinstance(layer, dict) else []
        )  # names only without detail
        dtype = next(filter(None, map(_tensor_type, tensors)), None)
        if dtype is not None:
            kind = "PRODUCT" if _is_product(layer) else str(layer.get("LayerType", "?"))
            counts.setdefault(kind, Counter())[dtype] += 1
    return _sorted(counts)


def _is_product(layer: dict[str, Any]) -> bool:
    # Fused attention is generated code (`kgen`) with a tactic named `_gemm_mha_…`.
    words = f"{layer.get('LayerType', '')} {layer.get('TacticName', '')}".lower()
    return "gemm" in words or "matrixmultiply" in words or "matmul" in words


def _tensor_type(tensor: Any) -> str | None:
    """The type of one tensor in the JSON; None for integers and unknown types."""
    if not isinstance(tensor, dict):
        return None
    found = str(tensor.get("Format/Datatype") or tensor.get("Datatype") or "").upper()
    for dtype, spellings in _SPELLINGS.items():
        if any(spelling in found for spelling in spellings):
            return dtype
    return None


def check_network(
    graph: str, precision: str, layers: Layers, weight_bytes: int, full_bytes: int | None
) -> None:
    """Fails where a parsed network is not of its precision.

    Args:
        graph: Its file's name.
        precision: "fp32" or "fp16".
        layers: From `count_network`.
        weight_bytes: From `count_network`.
        full_bytes: Weight bytes of the fp32 graph, for an fp16 graph.

    Raises:
        MismatchError: A matrix product has another type, or the weights take more than 0.6 of the
            fp32 graph's bytes.
    """
    products = layers.get("MATRIX_MULTIPLY", {})
    wanted = _PRODUCTS[precision]
    if not products or set(products) != {wanted}:
        raise MismatchError(
            f"{graph}: matrix products are {_listed(products)}, an {precision} engine needs {wanted} "
            "only; export the graph again with this mafsar"
        )
    if full_bytes is not None and weight_bytes > WEIGHT_SHARE * full_bytes:
        raise MismatchError(
            f"{graph}: its weights take {weight_bytes} bytes, the fp32 graph's {full_bytes}; "
            f"fp16 must not exceed {WEIGHT_SHARE} of them"
        )


def check_engine(graph: str, precision: str, layers: Layers) -> None:
    """Fails where a built fp16 engine has matrix products but none in half precision.

    Raises:
        MismatchError: No matrix product is in half precision.
    """
    products = layers.get("PRODUCT", {})
    if precision == "fp16" and products and "HALF" not in products:
        raise MismatchError(
            f"{graph}: the engine's matrix products are {_listed(products)}, none is HALF although "
            "the graph's are; use ",
            option(engine="onnx"),
            ", or another version of TensorRT",
        )


def _listed(products: dict[str, int]) -> str:
    return ", ".join(f"{count} {dtype}" for dtype, count in products.items()) or "none"


def _sorted(counts: dict[str, Counter[str]]) -> Layers:
    return {kind: dict(sorted(found.items())) for kind, found in sorted(counts.items())}

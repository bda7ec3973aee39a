"""Writes graphs whose large weights are in one file that a precision's graphs share (no torch)."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import onnx_ir as ir

from mafsar.model.names import weights_file

if TYPE_CHECKING:
    from typing_extensions import Self

SHARED_FROM_BYTES = 1024  # smaller tensors stay inside the graphs
_ALIGNMENT = 64  # bytes: a cache line, and every vector width


class WeightStore:
    """The weights file of one precision, open while graphs are written.

    Equal tensors are stored once.

    Args:
        folder: Where the graphs and their weights file are written.
        precision: "fp32", "fp16" or "int8".
    """

    def __init__(self, folder: Path, precision: str) -> None:
        self._folder = folder
        self._name = weights_file(precision)
        self._stored: dict[str, int] = {}  # sha256 of dtype, shape and bytes → offset
        path = folder / self._name
        path.unlink(missing_ok=True)  # it may be a hard link to a file of another bundle
        self._file = path.open("wb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def write(self, model: ir.Model, file: str) -> Path:
        """Writes a graph as `file` and its large weights to the shared file; changes `model`."""
        for value in model.graph.initializers.values():
            tensor = value.const_value
            if tensor is None or tensor.nbytes < SHARED_FROM_BYTES:
                continue
            data = tensor.tobytes()
            value.const_value = ir.ExternalTensor(
                self._name,
                offset=self._place(tensor, data),
                length=len(data),
                dtype=tensor.dtype,
                shape=ir.Shape(list(tensor.shape.numpy())),
                name=value.name or "",
                base_dir=self._folder,
            )
        path = self._folder / file
        path.unlink(missing_ok=True)
        path.write_bytes(ir.to_proto(model).SerializeToString(deterministic=True))
        return path

    def _place(self, tensor: ir.TensorProtocol, data: bytes) -> int:
        kind = f"{tensor.dtype.name} {list(tensor.shape)}\n"
        key = hashlib.sha256(kind.encode() + data).hexdigest()
        if key not in self._stored:
            self._file.write(b"\0" * (-self._file.tell() % _ALIGNMENT))
            self._stored[key] = self._file.tell()
            self._file.write(data)
        return self._stored[key]

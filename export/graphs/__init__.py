"""Graphs: a network or a bundle as ONNX, in float32, half and int8."""

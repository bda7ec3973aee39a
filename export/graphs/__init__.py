"""Writes a network or a bundle as ONNX graphs in float32, half precision and int8; runs them."""

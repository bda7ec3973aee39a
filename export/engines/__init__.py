"""Builds TensorRT engines from the graphs of a bundle, checks them and adds them to it."""

"""TensorRT engines: built from the graphs of a bundle, checked, added to it."""

"""Export: a network or a bundle to ONNX graphs and TensorRT engines, each of them verified.

Rooms, bottom to top: `graphs` writes and runs ONNX graphs, `verify` compares them with their
reference, `engines` builds TensorRT engines; `job` holds `mafsar.export_model`.
"""

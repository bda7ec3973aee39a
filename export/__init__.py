"""Exporters: adapted encoders to ONNX bundles. Absolute imports only, see ARCHITECTURE.md."""

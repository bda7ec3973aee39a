"""Engines: a bundle or a network behind the one `Encoder` protocol."""

"""Engines: programs that run a bundle or a network, all behind the `Encoder` protocol."""

"""Painting: figures, things, backgrounds and the effects of a camera."""

"""Painting: figures, things, places and what cameras do to them."""

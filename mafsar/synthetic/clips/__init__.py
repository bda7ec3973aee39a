"""Clips: an action, a person or things, a place and a camera turned into frames."""

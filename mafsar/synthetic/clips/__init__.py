"""Clips: an action, a person or thing, a place and a camera as frames."""

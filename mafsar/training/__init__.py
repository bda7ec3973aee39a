"""Episodic training of what adapts a CLIP, and the recipe of the starter."""

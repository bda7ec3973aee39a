"""Episodic training of the adapters of a CLIP on a user's clips."""

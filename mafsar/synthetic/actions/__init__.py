"""Actions: what is done, as motions over time."""

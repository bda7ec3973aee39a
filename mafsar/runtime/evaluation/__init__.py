"""Evaluation: accuracy over episodes, and times."""

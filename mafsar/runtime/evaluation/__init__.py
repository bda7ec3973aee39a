"""Evaluation: accuracy over few-shot episodes, and timing."""

"""Scoring: distances, probabilities and leave-one-out."""

"""Matching: naming the action of query clips by a bank."""

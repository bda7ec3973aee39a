"""Matching: query clips against a bank."""

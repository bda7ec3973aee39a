"""Verification: every graph held against the network it was made from."""

"""Compares every artefact with the network or the fp32 graphs that it was made from."""

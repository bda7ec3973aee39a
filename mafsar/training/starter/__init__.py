"""The recipe of the shipped starter model `tiny`."""

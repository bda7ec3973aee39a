"""Banks: support clips encoded once, their quality and their text."""

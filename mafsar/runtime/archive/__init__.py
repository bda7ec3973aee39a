"""Archives: videos encoded once into an index of windows, in which banks are searched."""

"""Data sets: their classes and clips, splits and episodes, stores, and rendered clips."""

"""Labelled data sets of rendered clips, and the demo."""

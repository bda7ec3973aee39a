"""Sets: labelled folders of rendered clips, and the demo."""

"""Watching long videos and cameras: windows of them are matched, and answers become events."""

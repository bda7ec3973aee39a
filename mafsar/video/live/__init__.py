"""Frames of long videos, cameras and streams, one after another with their times."""

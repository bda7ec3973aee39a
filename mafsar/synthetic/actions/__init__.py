"""Actions: motions of people and things over time."""

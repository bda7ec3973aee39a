"""The machine: what works here, and the command that fixes what does not."""

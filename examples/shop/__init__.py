"""The task types of a small shop."""

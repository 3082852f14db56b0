"""A schedule from its first slot to its end."""

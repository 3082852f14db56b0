"""A service that is told how tasks ended."""

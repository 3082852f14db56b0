"""The registry of task types and the types that are built in."""

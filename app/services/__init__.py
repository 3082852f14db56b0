"""What can be done with tasks: one verb a file."""

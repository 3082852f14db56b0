"""The embedded default: local servers as child processes, and web and worker on top of them."""

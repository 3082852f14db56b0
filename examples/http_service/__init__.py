"""A service that Arqive calls, as it could be written in any language."""

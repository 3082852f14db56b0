"""Measurements of Arqive: `make bench` measures the service, `make bench-engine` the engine alone."""

"""The load generator, in a process of its own: as little Python per request as there can be."""

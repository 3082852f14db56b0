"""Redis and arq, the bell. Nothing outside this package names either."""

"""Measures Arqive's engine beside stock arq; `make bench-engine` runs it and writes docs/performance.md."""

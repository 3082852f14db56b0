"""The queue layer beside stock arq, and the whole path at idle: `make bench-engine`."""

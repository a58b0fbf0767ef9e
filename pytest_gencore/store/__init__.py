"""Stores: where archives go from many machines. fsspec reads and writes them; ``url`` needs nothing of it."""

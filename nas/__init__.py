"""Finds the fastest network that is accurate enough: sample, train, compress, measure, pick, deploy."""

__version__ = "0.1.0"

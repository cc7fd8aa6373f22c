"""Surrogates: what a design's objectives will be, with how much uncertainty, from those that were measured."""

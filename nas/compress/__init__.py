"""Compression: what is done to a trained network, each step physical, in one legal order."""

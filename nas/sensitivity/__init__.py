"""Sensitivity: how much accuracy each stage of a trained network loses when that stage alone is compressed."""

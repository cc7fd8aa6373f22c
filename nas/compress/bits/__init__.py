"""Fewer bits: grids, calibration, integer and half precision graphs, their stored form, and what the runtime runs."""

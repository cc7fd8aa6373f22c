"""Estimates of a latency without measuring it, each checked against networks that it never saw.

Three ways, from the plainest to the most precise: the textbook's FLOPs over FLOP/s (``nas.measure.platform``), a
roofline over the kernels that run (``roofline``), and a predictor that learned from this machine's own measurements
(``predictor``). They screen; they are never reported as measurements.
"""

"""Measuring on another machine: an agent on the device, and a measurer that asks it over HTTP.

The agent (``nas.measure.remote.agent``) needs numpy and ONNX Runtime alone. It runs ONNX files by ONNX Runtime and
nothing else, one at a time, for whoever has its token. What goes over the network is JSON and raw numbers, never a
pickle; files and images are sent once and known by their SHA-256.
"""

"""What a model costs: latency, load time and memory on a target, operations, and what the machine itself can do.

Everything but ``complexity`` and ``platform`` works without torch, as a machine that serves has none.
"""

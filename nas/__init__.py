"""Finds the fastest network that is accurate enough: sample, train, compress, measure, pick, deploy."""

import os

__version__ = "0.1.0"

# OpenMP's threads spin while they wait for each other; on a machine that others use too, a thread that waits then takes
# the core from the one it waits for, and training slows down up to fifty times. Sleeping costs next to nothing. This
# must be in the environment before torch is first imported; whoever sets the variable is obeyed.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

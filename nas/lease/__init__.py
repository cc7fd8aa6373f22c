"""The machine-wide lease: nobody trains while somebody measures, whatever study, process or user they belong to.

Training takes ``working()`` around each batch, a measurement ``measuring()`` around its window: training pauses at the
next border of a batch, for the window only. There are two kernel locks (``flock``) on files in a folder that all users
of the machine share. A measurer shuts the *turnstile* and then waits until the *room* is empty; whoever works passes
the turnstile and stays in the room, beside others, for a batch. So a measurer waits for batches that have begun, never
for new ones, however many trainers there are. The kernel lets a lock go when its process dies, however it dies.

The lease holds among processes that see the same folder: a container with a ``/tmp`` of its own, or a process with
another ``TMPDIR``, is on its own. ``NAS_LEASE_FOLDER`` names another folder. Where there can be no lease (no ``flock``,
a folder that cannot be written) all goes on without; ``available`` says why, and a warning once.
"""

from __future__ import annotations

from nas.lease.lease import PATIENCE_S, Lease, Working, available, machine, measuring, working

__all__ = ["PATIENCE_S", "Lease", "Working", "available", "machine", "measuring", "working"]

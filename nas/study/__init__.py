"""A study's folder: where its recipe, records, cache and results lie, who owns it, and how it is read.

Reading needs neither torch nor optuna. One process at a time may write: it holds a kernel lock on a file in the
folder, which the kernel lets go when the process dies, however it dies.
"""

from __future__ import annotations

from nas.study.folder import LOCK_FILE, SHARED_FILE, StudyFolder
from nas.study.standing import Standing, spent
from nas.study.study import Study
from nas.study.trials import check_one_machine, counted, read_trials

__all__ = [
    "LOCK_FILE",
    "SHARED_FILE",
    "Standing",
    "Study",
    "StudyFolder",
    "check_one_machine",
    "counted",
    "read_trials",
    "spent",
]

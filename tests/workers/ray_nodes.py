"""A Ray cluster of several nodes in processes of this machine: a head that trains nothing, one that does, a board."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

# What the nodes import beside the package.
FOLDERS = [str(Path(__file__).parent), str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "search")]
BOARD = "target:board"
SMALL = {"object_store_memory": 80 * 10**6}
# A dead node refuses connections and is known to be dead within two seconds, not fifteen; a slow one has time.
WATCHFUL = {"health_check_period_ms": 500, "health_check_failure_threshold": 4, "health_check_timeout_ms": 10_000}


@contextmanager
def several_nodes() -> Iterator[Any]:
    """The nodes, as ``ray.cluster_utils.Cluster``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([*FOLDERS, os.environ.get("PYTHONPATH", "")]))
        patch.syspath_prepend(FOLDERS[-1])
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.delenv("RAY_ADDRESS", raising=False)
        from ray.cluster_utils import Cluster

        head = {"num_cpus": 0, "include_dashboard": False, "_system_config": WATCHFUL, **SMALL}
        made = Cluster(initialize_head=True, head_node_args=head)
        made.add_node(num_cpus=2, **SMALL)
        made.add_node(num_cpus=0, resources={BOARD: 1}, **SMALL)
        try:
            yield made
        finally:
            made.shutdown()

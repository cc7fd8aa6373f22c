"""A worker of a search, see ``nas.workers.worker``: ``python -P -m nas.search.worker DESCRIPTOR``."""

from __future__ import annotations

import sys

from nas.search.work import evaluator
from nas.workers.worker import main

if __name__ == "__main__":
    main(int(sys.argv[1]), evaluator)

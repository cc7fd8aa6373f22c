"""What makes a search one of several on the same study: the database, the study's name there, the cache of them all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nas.search.ledger import Ledger
from nas.search.prepared import Prepared
from nas.search.samplers import SamplerHints
from nas.search.shared.database import Database, parse_url
from nas.search.shared.ledger import SharedLedger
from nas.shared_cache import SharedStore
from nas.study import StudyFolder


@dataclass(frozen=True)
class Sharing:
    """How searchers share a study.

    Args:
        url: Of a PostgreSQL database.
        name: The study's name there.
        cache: Address of the cache where each finds what the others trained, and the front its artifacts.
    """

    url: str
    name: str
    cache: str

    def store(self, folder: StudyFolder, limit_bytes: int) -> SharedStore:
        """The cache of a searcher.

        Raises:
            NasError: It cannot be used.
        """
        store = SharedStore(folder.cache, limit_bytes, self.cache)
        store.check()
        return store

    def ledger(self, prepared: Prepared, folder: StudyFolder) -> Callable[[Callable[[], SamplerHints]], Ledger]:
        """What opens the searcher's ledger. All that may not differ between searchers is what their latencies and
        accuracies depend on: recipe, data, space, and the machine that measures.

        Raises:
            StudyError, UnsupportedError: When it is opened: the database cannot be used, or has another study of this
                name.
        """
        inputs = prepared.inputs | {f"machine of {target}": print_ for target, print_ in prepared.here.items()}

        def opened(hints: Callable[[], SamplerHints]) -> Ledger:
            database = Database(parse_url(self.url))
            return SharedLedger(database, self.name, folder, prepared.recipe, prepared.space, inputs, hints)

        return opened

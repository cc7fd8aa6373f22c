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

    def join(self, prepared: Prepared, folder: StudyFolder) -> str:
        """Makes sure, before anything is spent, that database and cache can be used; gives words on them.

        Raises:
            NasError: One cannot, or the database has another study of this name.
        """
        SharedStore(folder.cache, prepared.recipe.cache_limit_mb * 10**6, self.cache).check()
        database = Database(parse_url(self.url))
        ledger = SharedLedger(database, self.name, folder, prepared.recipe, prepared.space, self._inputs(prepared))
        try:
            return f"shared: study '{self.name}' in {database.place}; trained networks and artifacts in {self.cache}"
        finally:
            ledger.close()

    def ledger(self, prepared: Prepared, folder: StudyFolder) -> Callable[[Callable[[], SamplerHints]], Ledger]:
        """What opens the searcher's ledger. All that may not differ between searchers is what their latencies and
        accuracies depend on: recipe, data, space, and the machine that measures.

        Raises:
            StudyError, UnsupportedError: When it is opened: the database cannot be used, or has another study of this
                name.
        """

        def opened(hints: Callable[[], SamplerHints]) -> Ledger:
            database = Database(parse_url(self.url))
            return SharedLedger(
                database, self.name, folder, prepared.recipe, prepared.space, self._inputs(prepared), hints
            )

        return opened

    def _inputs(self, prepared: Prepared) -> dict[str, str]:
        return prepared.inputs | {f"machine of {target}": here for target, here in prepared.here.items()}

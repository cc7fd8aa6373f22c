"""What ``nas finalize`` found: designs trained again at full budget over several seeds. Read without torch."""

from nas.finalized.files import (
    artifact_store,
    finalized_folder,
    history_path,
    read_finalized,
    read_histories,
    read_history,
    write_history,
)
from nas.finalized.ranking import Coefficient, Ranking, rankings
from nas.finalized.runs import ORIGIN, Finalized, FullBudget, History, Run, Timed
from nas.finalized.spread import Spread, spread

__all__ = [
    "ORIGIN",
    "Coefficient",
    "Finalized",
    "FullBudget",
    "History",
    "Ranking",
    "Run",
    "Spread",
    "Timed",
    "artifact_store",
    "finalized_folder",
    "history_path",
    "rankings",
    "read_finalized",
    "read_histories",
    "read_history",
    "spread",
    "write_history",
]

"""One search of this project's, with the log that ``plain_loop.py`` writes; what ``search_efficiency.py`` runs.

    python tests/benchmarks/efficiency_ours.py studies/fashion-mnist.yaml --minutes 15 --log runs/ours/log.jsonl

It is ``nas search``: the recipe as it is, but for seed and budget. Every finished trial is a line, written at once:
``seconds`` since the start (after the imports; the loading of data and a strategy's trying out of costs count),
``outcome``, ``origin``, ``design``, ``parts`` (seconds by stage), and of a measured one ``accuracy`` and
``latency_ms``. The study lies beside the log.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from nas.design import Design
from nas.outcome import Outcome
from nas.recipe import load_recipe
from nas.record import TrialRecord
from nas.search.run import search
from nas.study import Study


class Logging:
    """Watches a search and writes a line for each trial.

    Args:
        log: Where to.
        latency: The key of the latency.
        start: ``time.monotonic()`` at the start.
    """

    def __init__(self, log: Path, latency: str, start: float) -> None:
        self.log, self.latency, self.start = log, latency, start

    def note(self, text: str) -> None:
        print(text, flush=True)

    def began(self, study: Study) -> None: ...

    def asked(self, number: int, design: Design) -> None: ...

    def progress(self, stage: str, share: float, number: int | None = None) -> None: ...

    def told(self, record: TrialRecord, study: Study) -> None:
        line: dict[str, Any] = {
            "seconds": time.monotonic() - self.start,
            "number": record.number,
            "origin": record.origin,
            "outcome": str(record.outcome),
            "design": record.design.to_json(),
            "parts": parts_of(record),
        }
        if record.outcome is Outcome.MEASURED:
            line |= {"accuracy": record.value("accuracy"), "latency_ms": record.value(self.latency)}
        with self.log.open("a") as file:
            file.write(json.dumps(line) + "\n")


def parts_of(record: TrialRecord) -> dict[str, float]:
    """Seconds by stage, and of all else that a trial's time went into."""
    seconds: dict[str, float] = {}
    for stage in record.stages:
        seconds[stage.stage] = seconds.get(stage.stage, 0.0) + stage.seconds
    return seconds | {"rest": max(0.0, record.seconds - sum(seconds.values()))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--strategy", help="in place of the recipe's")
    options = parser.parse_args()
    start = time.monotonic()
    recipe = load_recipe(options.recipe)
    budget = recipe.budget.model_copy(update={"trials": None, "minutes": options.minutes})
    changes: dict[str, Any] = {"budget": budget, "seed": options.seed}
    if options.strategy is not None:
        changes["strategy"] = options.strategy
    latency = next(item.key for item in recipe.parsed_objectives if item.name == "latency_ms")
    watcher = Logging(options.log, latency, start)
    study, ended = search(recipe.model_copy(update=changes), options.log.parent / "study", watcher)
    print(f"{len(study.records)} trials in {time.monotonic() - start:.0f} s, the end included: {ended.why}")


if __name__ == "__main__":
    main()

"""Hand-made records of a guided search: predictions, rungs, what was screened out and what was spared."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path
from typing import Any

from fakes import TARGET, make_design, make_recipe, make_record, write_study

from nas.design import Design
from nas.outcome import How, Outcome, Quantity, Reason
from nas.record import StageResult, TrialRecord
from nas.study import Study

EPOCHS = 20


def design_of(number: int, **compression: Any) -> Design:
    """A design with an architecture of its own for each number."""
    design = make_design(**compression)
    return dataclasses.replace(design, architecture=dict(design.architecture) | {"stem.width": 8 + number})


def foreseen(accuracy: float, latency_ms: float, spread: float = 0.03, level: float = 0.9) -> tuple[Quantity, Quantity]:
    """What a surrogate said: the accuracy ± ``spread``, the latency ± ten times that share of it."""
    low, high = 1 - 10 * spread, 1 + 10 * spread
    detail = {"level": level}
    return (
        Quantity(
            "predicted_accuracy", accuracy, "1", How.PROXY, None, accuracy - spread, accuracy + spread, detail=detail
        ),
        Quantity(
            "predicted_latency_ms", latency_ms, "ms", How.PROXY, TARGET, low * latency_ms, high * latency_ms,
            detail=detail,
        ),
    )  # fmt: skip


def given_up(
    number: int,
    outcome: Outcome,
    reason: Reason,
    proxies: tuple[Quantity, ...] = (),
    design: Design | None = None,
    **fields: Any,
) -> TrialRecord:
    """A trial that did not come to its end, with what was known of it."""
    record = make_record(number, outcome=outcome, design=design or design_of(number), **fields)
    counted = (Quantity("params", 12_345, "1", How.COUNTED), Quantity("flops", 2e6, "FLOP", How.COUNTED))
    timed = (
        Quantity("proxy_latency_ms", 0.0777, "ms", How.PROXY, target=TARGET),
        Quantity("proxy_size_bytes", 44_444, "bytes", How.PROXY),
    )
    return dataclasses.replace(record, reason=reason, quantities=(*counted, *timed, *proxies))


def screened(number: int, **fields: Any) -> TrialRecord:
    """A trial that was screened out."""
    reason = Reason("screened", "at best 87.00 % at 0.310 ms, which trial 3 beats")
    return given_up(number, Outcome.SCREENED, reason, foreseen(0.8, 0.31), stages=(), seconds=0.2, **fields)


def stopped(number: int, epochs: int, **fields: Any) -> TrialRecord:
    """A trial whose training was stopped after so many epochs."""
    reason = Reason("rung", f"after {epochs} of {EPOCHS} epochs: place 7 of 9, accuracy 81.23 %")
    at_rung = Quantity("rung_accuracy", 0.8123, "1", How.PROXY, target=f"epoch-{epochs}")
    stages = (StageResult("train", "key", 1.0 * epochs, False, {"epochs": epochs}),)
    known = (*foreseen(0.84, 0.12), at_rung)
    return given_up(
        number, Outcome.STOPPED, reason, known, epochs=epochs, seconds=1.0 * epochs + 1, **{"stages": stages} | fields
    )


def measured(number: int, accuracy: float, latency_ms: float, **fields: Any) -> TrialRecord:
    """A trial that was trained to its end, and measured."""
    train = StageResult("train", "key", 1.0 * EPOCHS, False, {"epochs": EPOCHS})
    stages = (train, StageResult("score", "", 1.0, False), StageResult("measure", "", 3.0, False))
    defaults = {"design": design_of(number), "stages": stages}
    record = make_record(number, accuracy, latency_ms, **defaults | fields)
    return dataclasses.replace(record, seconds=25.0)


def every_kind() -> list[TrialRecord]:
    """Trials of all outcomes and all origins, most of them predicted; one prediction in ten is far off."""
    draw = random.Random(0)
    origins = ["baseline", "first", "prior", "warm", *["asked"] * 20, "unseen", *["supernet"] * 24]
    records = []
    for number, origin in enumerate(origins):
        accuracy, latency = 0.99 - 0.2 * draw.random() ** 2, 0.02 * 10 ** draw.random()
        known: tuple[Quantity, ...] = ()
        if number >= 5:
            off = -0.08 if number % 10 == 0 else draw.uniform(-0.025, 0.025)
            known = foreseen(min(accuracy + off, 0.995), latency * (1 + draw.uniform(-0.25, 0.25)))
        if origin == "supernet":
            inherited = accuracy - 0.15 + draw.uniform(-0.02, 0.02)
            known += (Quantity("inherited_accuracy", inherited, "1", How.PROXY),)
        spared = origin == "asked" and number % 2 == 1
        records.append(measured(number, accuracy, latency, origin=origin, quantities=known, spared=spared))
    count = len(records)
    records += [stopped(count, 2), dataclasses.replace(stopped(count + 1, 6), origin="drawn")]
    goes_on = StageResult("train", "key", 18.0, False, {"epochs": EPOCHS - 2})
    records.append(
        measured(
            count + 2, 0.97, 0.05, origin="promotion", parent=count, stages=(goes_on,), design=design_of(count),
            quantities=foreseen(0.96, 0.052),
        )
    )  # fmt: skip
    cached = StageResult("train", "key", 0.01, True, {"epochs": EPOCHS})
    records.append(
        measured(
            count + 3, 0.975, 0.03, origin="fan", parent=4, stages=(cached,), design=design_of(4, weight_bits=8),
            quantities=foreseen(0.97, 0.03),
        )
    )  # fmt: skip
    records += [screened(number) for number in range(count + 4, count + 12)]
    limit = Reason("constraint", "size_bytes <= 40000, but it is about 44.4 kB")
    records.append(given_up(count + 12, Outcome.INFEASIBLE, limit, stages=(), seconds=0.1))
    records.append(make_record(count + 13, outcome=Outcome.INFEASIBLE, design=design_of(count + 13), stages=()))
    records.append(make_record(count + 14, outcome=Outcome.FAILED, design=design_of(count + 14), stages=()))
    duplicate = make_record(count + 15, outcome=Outcome.DUPLICATE, design=records[4].design, stages=())
    records.append(dataclasses.replace(duplicate, reason=None, duplicate_of=4))
    return records


def guided_study(folder: Path) -> Study:
    """A study of them."""
    return write_study(folder / "guided", every_kind(), make_recipe(budget={"trials": 60, "epochs": EPOCHS}))

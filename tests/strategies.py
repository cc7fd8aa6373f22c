"""Hypothesis strategies of what is stored: designs, quantities, records."""

from __future__ import annotations

from hypothesis import strategies as st

from nas.design import Design
from nas.outcome import How, Outcome, Quantity, Realisation, Reason
from nas.record import StageResult, TrialRecord

texts = st.text(max_size=8)
finite = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**15), 10**15)
json_values = st.recursive(
    st.none() | st.booleans() | finite | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=4,
)
json_mappings = st.dictionaries(texts, json_values, max_size=2)

halves = st.dictionaries(texts, st.booleans() | finite | texts, max_size=4)
designs = st.builds(Design, texts, halves, halves)
reasons = st.builds(Reason, texts, texts, st.booleans())
quantities = st.builds(
    Quantity,
    name=texts,
    value=finite,
    unit=texts,
    how=st.sampled_from(How),
    target=st.none() | texts,
    low=st.none() | finite,
    high=st.none() | finite,
    samples_ref=st.none() | texts,
    environment_id=st.none() | texts,
    detail=st.dictionaries(texts, finite | texts | st.booleans(), max_size=2),
)
stage_results = st.builds(StageResult, texts, texts, finite, st.booleans(), json_mappings)
records = st.builds(
    TrialRecord,
    number=st.integers(0, 10**6),
    origin=texts,
    design=designs,
    outcome=st.sampled_from(Outcome),
    seed=st.integers(0, 2**32 - 1),
    reason=st.none() | reasons,
    duplicate_of=st.none() | st.integers(0, 10**6),
    teacher=st.none() | texts,
    teacher_trial=st.none() | st.integers(0, 10**6),
    quantities=st.lists(quantities, max_size=2).map(tuple),
    labels=st.dictionaries(texts, st.sampled_from(Realisation), max_size=2),
    stages=st.lists(stage_results, max_size=2).map(tuple),
    artifact_sha256=st.none() | texts,
    manifest=json_mappings,
    environment=json_mappings,
    started_at=texts,
    seconds=finite,
    notes=st.lists(texts, max_size=2).map(tuple),
)

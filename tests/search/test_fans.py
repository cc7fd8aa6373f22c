"""The compressions of a trained network that were not tried yet."""

from __future__ import annotations

from fakes import make_record
from search_fakes import make_space

from nas.design import Design
from nas.outcome import Outcome
from nas.search import fans
from nas.search.fans import Fans, Trained
from nas.space import SearchSpace, load_space


def design_of(space: SearchSpace, **values: object) -> Design:
    architecture = {"stem.width": 8, "stages": 1, "stage1.conv": "standard"}
    compression = {"pruning_ratio": 0.0, "weight_sharing": "none", "distillation": False}
    return space.design({**architecture, **compression, **values})  # type: ignore[dict-item]


def test_every_compression_of_a_trained_network_and_of_no_other() -> None:
    space = make_space()
    one, other = design_of(space), design_of(space, **{"stem.width": 16})
    records = [make_record(0, design=one), make_record(1, design=other, outcome=Outcome.STOPPED)]
    found = Fans(space, seed=0).unseen(records, {one.digest}, teacher=True)
    assert {design.architecture_digest for _, design in found} == {one.architecture_digest}
    assert len(found) == 3, "two ratios by two, less the one that was tried"
    assert {record.number for record, _ in found} == {0}
    assert all(space.contains(design) for _, design in found)


def test_nothing_is_distilled_without_a_teacher() -> None:
    space = make_space()
    found = Fans(space, seed=0).unseen([make_record(0, design=design_of(space))], set(), teacher=False)
    assert [design.step("distillation") for _, design in found] == [False, False]


def test_of_many_compressions_some_are_drawn_the_same_each_time(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    space = load_space("convnet")
    assert space.baseline is not None
    record = make_record(0, design=space.baseline)
    whole = Fans(space, seed=0).unseen([record], set(), teacher=True)
    monkeypatch.setattr(fans, "MOST_COMPRESSIONS", 20)
    drawn = Fans(space, seed=0).unseen([record], set(), teacher=True)
    assert 10 < len(drawn) <= 20 < len(whole)
    assert [d for _, d in drawn] == [d for _, d in Fans(space, seed=0).unseen([record], set(), teacher=True)]
    assert {d for _, d in drawn} <= {d for _, d in whole}


def test_only_what_differs_in_bits_costs_no_training() -> None:
    def made(architecture: str = "a", **compression: object) -> Design:
        return Design("f", {"name": architecture}, compression)  # type: ignore[arg-type]

    pruned = {"pruning_ratio": 0.5, "pruning_criterion": "l1"}
    records = [make_record(0, design=made(weight_bits=32, pruning_ratio=0.0)), make_record(1, design=made(**pruned))]
    records.append(make_record(2, design=made("b"), outcome=Outcome.STOPPED))
    trained = Trained(records)
    assert trained.serves(made(weight_bits=8, activation_bits=8, quantisation_aware=False))
    assert trained.serves(made(**pruned, weight_bits=4))
    for other in (
        made(weight_bits=8, quantisation_aware=True),
        made(weight_sharing="kmeans", codebook_bits=4),
        made(pruning_ratio=0.25, pruning_criterion="l1"),
        made(distillation=True),
        made("b", weight_bits=8),
    ):
        assert not trained.serves(other), dict(other.compression)

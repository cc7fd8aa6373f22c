"""The comparison of samplers on complete tables."""

from __future__ import annotations

import gzip
from pathlib import Path

import moocore
import numpy as np
import pytest
from benchmarks import nas_bench_201 as bench
from benchmarks.searchers import FromOptuna
from optuna.samplers import RandomSampler

TABLE = """arch_idx,op0,op1,cifar10_val_accuracy,cifar10_train_time_s,latency_ms_here
0,none,none,10.0,1.0,1.0
1,none,conv,85.0,2.0,2.0
2,conv,none,88.0,2.0,4.0
3,conv,conv,92.0,2.5,5.0
"""


@pytest.fixture
def table(tmp_path: Path) -> bench.Table:
    path = tmp_path / "table.csv.gz"
    path.write_bytes(gzip.compress(TABLE.encode()))
    return bench.read(path, 80.0)


def test_a_table_is_read(table: bench.Table) -> None:
    assert table.choices == (("op0", ("conv", "none")), ("op1", ("conv", "none")))
    assert table.rows.tolist() == [[1, 1], [1, 0], [0, 1], [0, 0]]
    assert bench.Problem(table, "latency_ms_here").points.tolist() == [[10, 0.2], [85, 0.4], [88, 0.8], [92, 1]]


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(SystemExit, match="a table needs a column with 'accuracy' in its name"):
        bench.read(tmp_path / "other.csv", 80.0)
    with pytest.raises(SystemExit, match="cannot be read"):
        bench.read(tmp_path / "none.csv", 80.0)


def test_a_search_counts_what_it_needed(table: bench.Table) -> None:
    class InOrder:
        def __init__(self) -> None:
            self.told: list[tuple[float, float]] = []

        def ask(self) -> list[int]:
            return table.rows[len(self.told)].tolist()

        def tell(self, quality: float, cost: float) -> None:
            self.told.append((quality, cost))

    # (5 · 0.6 + 3 · 0.2) of hypervolume in all, as the last design lies on the reference: 83 % after two designs.
    searcher = InOrder()
    found = bench.search(bench.Problem(table, "latency_ms_here"), searcher, 0, 4, noise=False)
    assert found.needed == (3, 3, 3)
    assert searcher.told == [(10.0, 0.2), (85.0, 0.4), (88.0, 0.8)]
    noisy = InOrder()
    assert bench.search(bench.Problem(table, "latency_ms_here"), noisy, 0, 4, noise=True).needed == (3, 3, 3)
    assert [cost for _, cost in noisy.told] == [0.2, 0.4, 0.8]
    assert all(one[0] != other[0] for one, other in zip(noisy.told, searcher.told, strict=True))
    few = bench.search(bench.Problem(table, "latency_ms_here"), InOrder(), 0, 2, noise=False)
    assert few.needed == (None, None, None)
    assert bench.summary([few, found], 4).startswith("     4 (3.5->4)")


@pytest.mark.parametrize("seed", range(4))
def test_renaming_changes_nothing_but_names(seed: int) -> None:
    made = bench.synthetic(seed)
    renamed = made.renamed(seed)
    assert sorted(len(values) for _, values in renamed.choices) == sorted(len(values) for _, values in made.choices)
    values = [value for _, own in renamed.choices for value in own]
    assert len(set(values)) == len(values)
    assert len(np.unique(renamed.rows, axis=0)) == len(made.rows)
    np.testing.assert_array_equal(renamed.accuracy, made.accuracy)


@pytest.mark.parametrize("seed", range(4))
def test_made_up_tables_have_a_front_to_find(seed: int) -> None:
    made = bench.synthetic(seed)
    points = bench.Problem(made, "latency_made_up").points
    front = moocore.is_nondominated(points, maximise=[True, False])
    assert 8 < (front & (points[:, 0] > made.floor)).sum() < 200
    assert made.accuracy.max() < 95
    run = bench.search(
        bench.Problem(made, "latency_made_up"), FromOptuna(made.choices, RandomSampler(seed=0)), 0, 20, False
    )
    assert run.needed[1] is None  # not so easy that chance finds it at once
    assert len(run.seconds) == 20

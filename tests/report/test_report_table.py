"""The front's table: every number is there at every width."""

from __future__ import annotations

import dataclasses
import io
import os
import re
from pathlib import Path

import pytest
from fakes import LATENCY, TARGET, make_design, make_recipe, make_record, write_study
from rich.console import Console

from nas.describe import describe
from nas.outcome import How, Outcome, Quantity, Realisation
from nas.report.table import front_table
from nas.study import Study
from nas.wording import percent, significant

WIDTHS = (40, 80, 200)


def rendered(study: Study, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    console.print(front_table(study))
    output = console.file
    assert isinstance(output, io.StringIO)
    return output.getvalue()


def flat(text: str) -> str:
    return " ".join(text.split())


def make_study(folder: Path, **recipe) -> Study:
    records = [make_record(n, 0.5 + 0.05 * n, 0.01 * 2**n) for n in range(8)]
    return write_study(folder / "digits", records, make_recipe(**recipe) if recipe else None)


@pytest.mark.parametrize("width", WIDTHS)
def test_no_line_is_wider_than_the_terminal_and_nothing_is_cut(tmp_path: Path, width: int) -> None:
    text = rendered(make_study(tmp_path), width)
    assert max(len(line) for line in text.splitlines()) <= width
    assert "…" not in text


@pytest.mark.parametrize("width", WIDTHS)
def test_every_member_is_there_with_its_numbers_and_its_design(tmp_path: Path, width: int) -> None:
    study = make_study(tmp_path)
    text = flat(rendered(study, width))
    for record in study.front:
        assert percent(record.value("accuracy")) in text
        assert f"{significant(record.value(LATENCY))} ±2%" in text
    if width > 40:  # narrower, the words are broken across lines
        # The column that the words stand in may be narrow, so they are looked for without their blanks.
        squeezed = re.sub(r"\s", "", rendered(study, 400))
        assert all(re.sub(r"\s", "", describe(record.design)) in squeezed for record in study.front)


def test_the_design_is_a_column_where_there_is_room_and_a_line_where_there_is_not(tmp_path: Path) -> None:
    study = write_study(tmp_path / "one", [make_record(3)])
    words = describe(study.front[0].design)
    wide, narrow = rendered(study, 200).splitlines(), rendered(study, 80).splitlines()
    assert any("90.00" in line and words in line for line in wide)
    assert not any("90.00" in line and words[:10] in line for line in narrow)
    assert any(words in line for line in narrow)


@pytest.mark.parametrize("heading", ["Trial", "Accuracy", "Latency", "fps", "FLOPs", "MACs", "Params", "Size"])
def test_all_columns_fit_into_eighty(tmp_path: Path, heading: str) -> None:
    assert heading in rendered(make_study(tmp_path), 80).splitlines()[2]


def test_heading_says_how_many_and_the_hypervolume(tmp_path: Path) -> None:
    assert re.search(r"Front of digits: 8 of 8 trials, hypervolume 0\.\d{3}", rendered(make_study(tmp_path), 80))


def test_test_scores_have_a_column_where_there_are_any(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    assert "% test" in rendered(study, 80)
    study.folder.test_scores.unlink()
    assert "% test" not in rendered(Study.open(study.folder.path), 80)


def test_cheapest_first(tmp_path: Path) -> None:
    lines = rendered(make_study(tmp_path), 200).splitlines()
    numbers = [int(match[1]) for line in lines if (match := re.match(r"\s*◆?(\d+)\s", line))]
    assert numbers == list(range(8))


def test_marks_are_explained(tmp_path: Path) -> None:
    records = [make_record(n, 0.5 + 0.1 * n, 0.01 * 2**n) for n in range(3)]
    labels = {"weight_bits": Realisation.SIMULATED, "weight_sharing": Realisation.UNSUPPORTED}
    records[1] = dataclasses.replace(records[1], labels=labels)
    unstable = tuple(
        dataclasses.replace(q, detail={**q.detail, "unstable": True}) if q.name == "latency_ms" else q
        for q in records[2].quantities
    )
    records[2] = dataclasses.replace(records[2], quantities=unstable)
    text = rendered(write_study(tmp_path / "marked", records), 80)
    assert "†‡1" in text
    assert "% †" not in text
    assert "±2%~" in text
    for note in ("† weight_bits: only simulated", "‡ weight_sharing: without effect", "~ the latency was unstable"):
        assert note in text
    assert "◆ the knee" in text


def test_no_notes_on_marks_that_are_not_there(tmp_path: Path) -> None:
    text = rendered(write_study(tmp_path / "plain", [make_record(0)]), 80)
    assert not any(mark in text for mark in "◆†‡~")


def test_the_interval_is_the_spread_where_a_trial_has_no_quartiles(tmp_path: Path) -> None:
    record = make_record(0, latency_ms=1.0)
    bare = tuple(dataclasses.replace(q, detail={}) for q in record.quantities)
    text = rendered(write_study(tmp_path / "bare", [dataclasses.replace(record, quantities=bare)]), 80)
    assert "ms ±CI/2" in text
    assert "half the 95 % interval" in flat(text)
    assert "1.00 ±2%" in text  # from 0.98 to 1.02


@pytest.mark.parametrize("width", WIDTHS)
def test_four_objectives_of_any_kind(tmp_path: Path, width: int) -> None:
    other = "onnxruntime-cpu-2t-b16"
    extra = (
        Quantity("latency_ms", 0.7, "ms", How.MEASURED, target=other, low=0.6, high=0.8),
        Quantity("load_ms", 12.3, "ms", How.MEASURED, target=TARGET),
        Quantity("peak_memory_bytes", 47_600_000, "bytes", How.MEASURED, target=TARGET),
    )
    objectives = ["balanced_accuracy", f"latency_ms@{other}", f"load_ms@{TARGET}", "params"]
    recipe = make_recipe(objectives=objectives, constraints=[f"peak_memory_bytes@{TARGET} <= 1e9"])
    text = flat(rendered(write_study(tmp_path / "four", [make_record(0, quantities=extra)], recipe), width))
    for part in ("Balanced", "Latency 2t-b16", "0.700 ±14%", "12.3 ms", "47.6 MB", "10.0 k", "1t-b1"):
        assert part in text, part


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([], "of 0 trials none was measured"),
        ([make_record(n, outcome=Outcome.FAILED) for n in range(3)], "of 3 trials none was measured"),
        ([make_record(0, latency_ms=2.0)], "of 1 trial none meets every constraint"),
    ],
)
def test_an_empty_front_says_why(tmp_path: Path, records: list, message: str) -> None:
    study = write_study(tmp_path / "none", records, make_recipe(constraints=[f"{LATENCY} <= 1"]))
    assert message in flat(rendered(study, 80))


def test_names_are_no_markup(tmp_path: Path) -> None:
    assert "Front of [red]odd" in rendered(write_study(tmp_path / "[red]odd", [make_record(0)]), 80)


@pytest.mark.parametrize(("width", "stays"), [(80, True), (30, False)])
def test_objectives_get_room_on_the_line_before_other_numbers(tmp_path: Path, width: int, stays: bool) -> None:
    other = "onnxruntime-cpu-2t-b16"
    extra = (
        Quantity("latency_ms", 0.7, "ms", How.MEASURED, target=other, low=0.6, high=0.8),
        Quantity("load_ms", 12.3, "ms", How.MEASURED, target=TARGET),
    )
    objectives = ["balanced_accuracy", f"latency_ms@{other}", f"load_ms@{TARGET}", "params"]
    study = write_study(tmp_path / "four", [make_record(0, quantities=extra)], make_recipe(objectives=objectives))
    lines = rendered(study, width).splitlines()
    heading = next(line for line in lines if line.startswith("Trial"))
    titles = ("Balanced", "Latency 2t-b16", "Load 1t-b1", "Params")
    assert all(title in heading for title in titles) is stays
    assert max(map(len, lines)) <= width
    if stays:
        positions = [heading.index(title) for title in titles]
        assert positions == sorted(positions)
        assert "fps" in flat(rendered(study, width))  # elsewhere, not lost


@pytest.mark.parametrize("width", [60, 80, 120, 300])
def test_baseline_and_gains_are_there_at_every_width(tmp_path: Path, width: int) -> None:
    design = make_design(pruning_ratio=0.5, pruning_criterion="taylor", weight_bits=8, activation_bits=8)
    records = [
        make_record(0, 0.5, 0.4, origin="baseline", design=make_design()),
        make_record(1, 0.8, 0.1, design=design, uncompressed=(0.2, 4e6)),
    ]
    study = write_study(tmp_path / "pruned", records)
    assert len(study.front) == 1
    text = rendered(study, width)
    assert max(map(len, text.splitlines())) <= width
    first, base = (i for i, line in enumerate(text.splitlines()) if re.match(r"\s*(1|base)\s+\d", line))
    assert first < base
    assert "50.00" in text.splitlines()[base]
    words = flat(text)
    if width >= 120:
        assert "4.0×" in text.splitlines()[first]
        assert "4.0, 2.0" in text.splitlines()[first]
    else:
        assert "4.0× faster than base · MACs 4.0× fewer, 2.0× faster than uncompressed · stem 16" in words


def test_a_name_that_is_no_text_can_be_printed(tmp_path: Path) -> None:
    text = rendered(write_study(tmp_path / os.fsdecode(b"caf\xe9"), [make_record(0)]), 80)
    assert r"Front of caf\xe9" in text
    assert text.encode()

"""A sensitivity's files: JSON both ways, CSV, and what is no sensitivity."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from sensitivity_fakes import MACS, PARAMS, SIZE, make_sensitivity, make_stage, two_stages

from nas.errors import RecipeError
from nas.sensitivity.result import SETTINGS, Effect, Sensitivity, Setting, Stage, load_sensitivity

NAN, ENDLESS = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("setting", "label", "compression"),
    [
        (Setting(0.25), "−25 %", {"stage2.pruning_ratio": 0.25}),
        (Setting(0.125), "−12.5 %", {"stage2.pruning_ratio": 0.125}),
        (Setting(weight_bits=8, activation_bits=8), "8/8", {"stage2.weight_bits": 8, "stage2.activation_bits": 8}),
        (Setting(weight_bits=4), "4/32", {"stage2.weight_bits": 4}),
    ],
)
def test_a_setting_as_choices_and_in_words(setting: Setting, label: str, compression: dict[str, Any]) -> None:
    assert setting.label == label
    assert setting.compression("stage2") == compression


def test_every_stage_goes_through_three_ratios_and_three_pairs_of_bits() -> None:
    assert [setting.label for setting in SETTINGS] == ["−25 %", "−50 %", "−75 %", "8/8", "4/8", "4/32"]


def test_pruning_saves_multiply_adds_and_bits_save_bytes() -> None:
    sensitivity = two_stages()
    pruned, low, _ = sensitivity.stages[1].effects
    assert sensitivity.saved(pruned) == pytest.approx(0.3)
    assert sensitivity.saved(low) == pytest.approx(0.7 * 0.75)
    assert sensitivity.saved(Effect(Setting(0.5))) is None


def test_json_both_ways() -> None:
    stage = make_stage("a", 400, 900, {0.5: (0.1, 0.5, 0.5)}, path="features.a")
    stages = (
        stage,
        Stage(
            "b", "b", 600, 1100, (Effect(Setting(0.5), reason="–"), Effect(Setting(0.75), refused=True, reason="no"))
        ),
    )
    sensitivity = make_sensitivity(*stages)
    again = Sensitivity.from_json(json.loads(json.dumps(sensitivity.to_json())))
    assert again == sensitivity
    assert again.digest == sensitivity.digest
    assert make_sensitivity(stage).digest != sensitivity.digest


def test_csv_has_a_row_for_each_stage_and_setting() -> None:
    nothing = Stage("c,d", "c", 0, 0, (Effect(Setting(0.5), reason="the classes stay"),))
    rows = list(csv.DictReader(io.StringIO(make_sensitivity(*two_stages().stages, nothing).to_csv())))
    assert len(rows) == 2 + 3 + 1
    first, last = rows[0], rows[-1]
    assert (first["stage"], first["pruning_ratio"], first["weight_bits"]) == ("a", "0.5", "32")
    assert float(first["accuracy_lost"]) == 0.01
    assert int(first["macs"]) == 0.8 * MACS
    assert int(first["params"]) == 0.9 * PARAMS
    assert int(first["size_bytes"]) == SIZE
    assert (last["stage"], last["accuracy_lost"], last["reason"]) == ("c,d", "", "the classes stay")


@pytest.mark.parametrize(
    "numbers",
    [
        {"lost": 0.1},
        {"lost": NAN, "error": 0.1, "macs": 1, "params": 1, "size_bytes": 1},
        {"lost": 0.1, "error": ENDLESS, "macs": 1, "params": 1, "size_bytes": 1},
        {"lost": "0.1", "error": 0.1, "macs": 1, "params": 1, "size_bytes": 1},
    ],
)
def test_an_effect_has_all_its_numbers_or_none(numbers: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="the effect of −50 % must have all its numbers or none"):
        Effect(Setting(0.5), **numbers)


BROKEN: list[tuple[Any, str]] = [
    ({"version": 2}, "its version must be 1, but is 2"),
    ({"stages": []}, "it names no stage"),
    ({"images": 0}, "must be at least 1"),
    ({"design": {"version": 1}}, "a design needs 'family'"),
    ({"stages": [{"name": "a"}]}, "'path' is missing"),
    ({"stages": 7}, "holds no sensitivity"),
]


@pytest.mark.parametrize(("changes", "message"), BROKEN, ids=lambda value: str(value)[:30])
def test_what_is_no_sensitivity_is_one_clear_line(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = tmp_path / "prior.json"
    path.write_text(json.dumps(two_stages().to_json() | changes))
    with pytest.raises(RecipeError, match=message) as caught:
        load_sensitivity(path)
    assert "prior.json" in caught.value.message
    assert "nas sensitivity STUDY" in caught.value.hint


@pytest.mark.parametrize("content", ["", "[]", "{", '{"version": 1}', "\x00"])
def test_a_file_of_something_else(tmp_path: Path, content: str) -> None:
    (tmp_path / "prior.json").write_text(content)
    with pytest.raises(RecipeError, match=r"the prior .*prior\.json holds no sensitivity"):
        load_sensitivity(tmp_path / "prior.json")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"the prior .*nowhere\.json cannot be read: No such file"):
        load_sensitivity(tmp_path / "nowhere.json")


def test_a_written_sensitivity_is_read(tmp_path: Path) -> None:
    (tmp_path / "prior.json").write_text(json.dumps(two_stages().to_json()))
    assert load_sensitivity(tmp_path / "prior.json") == two_stages()

"""A person's own family: its file is run when it is needed, its source is part of every key, and all stages take it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from own_files import Silent
from torch import nn

from nas.errors import InfeasibleDesignError, ModuleError, SpaceError
from nas.families import build, check_space, find_family
from nas.outcome import Outcome, Realisation
from nas.own_code import OwnCodeError
from nas.recipe import Recipe, load_recipe
from nas.search.run import search
from nas.sensitivity.run import analyse_trial
from nas.space import SearchSpace, load_space
from nas.study import Study

SOURCE = """
from torch import nn

def build(architecture, input_shape, classes):
    width = architecture["width"]
    features = [nn.Conv2d(input_shape[0], width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*features, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * width, classes))
"""
SPACE = """
family: my_family.py:build
architecture: {width: [8, 16]}
compression:
  pruning_ratio: [0.0, 0.5]
  weight_bits: [32, 8]
  activation_bits: {values: [32, 8], when: {weight_bits: [8]}}
first: [{width: 16, pruning_ratio: 0.5, weight_bits: 8, activation_bits: 8}]
"""
RECIPE = """
data: {source: digits, train_limit: 300, validation_limit: 100}
space: my_space.yaml
budget: {trials: 2, epochs: 1, finetune_epochs: 1}
training: {threads: 1, precision: float32}
sampler: random
"""
IMAGE = (1, 8, 8)


def write(folder: Path, source: str = SOURCE, space: str = SPACE) -> SearchSpace:
    folder.mkdir(exist_ok=True)
    (folder / "my_family.py").write_text(source)
    (folder / "my_space.yaml").write_text(space)
    return load_space(str(folder / "my_space.yaml"))


def recipe_in(folder: Path) -> Recipe:
    (folder / "my.yaml").write_text(RECIPE)
    return load_recipe(folder / "my.yaml")


def built(space: SearchSpace, classes: int = 10, **values: object) -> nn.Module:
    return build(space.family, {"width": 8} | values, IMAGE, classes)  # type: ignore[arg-type]


def test_reading_the_space_runs_nothing_and_building_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    space = write(tmp_path)
    assert space.size() == 2 * 2 * 3
    assert capsys.readouterr().err == ""
    network = built(space)
    assert capsys.readouterr().err == "runs my_family.py\n"
    assert network(torch.zeros(3, *IMAGE)).shape == (3, 10)


def test_the_same_seed_gives_the_weights_that_the_function_draws(tmp_path: Path) -> None:
    space, states = write(tmp_path), []
    for _ in range(2):
        torch.manual_seed(5)
        states.append(built(space).state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    torch.manual_seed(5)
    assert torch.equal(states[0]["0.weight"], nn.Conv2d(1, 8, 3).weight)  # not initialised by our rule


def test_another_source_is_another_family_and_another_key(tmp_path: Path) -> None:
    first, same = write(tmp_path / "a"), write(tmp_path / "b")
    other = write(tmp_path / "c", SOURCE.replace("3, padding=1", "5, padding=2"))
    values = {"width": 8, "pruning_ratio": 0.0, "weight_bits": 32}
    designs = [space.design(values) for space in (first, same, other)]
    assert first.digest == same.digest != other.digest
    assert designs[0].architecture_digest == designs[1].architecture_digest != designs[2].architecture_digest
    kernels = [built(space).get_submodule("0").weight.shape[-1] for space in (first, other)]
    assert kernels == [3, 5]


def test_a_source_that_changed_is_refused_rather_than_taken_for_the_old_one(tmp_path: Path) -> None:
    old = write(tmp_path, SOURCE + "# one that no other test builds\n")
    write(tmp_path, SOURCE + "# another\n")
    with pytest.raises(SpaceError, match=r"my_family\.py:build changed: its source is no longer that of the designs"):
        built(old)
    with pytest.raises(SpaceError, match=r"no search space that was read declares family 'x\.py:f@000000000000'"):
        find_family("x.py:f@000000000000")


def test_what_was_run_stays_what_it_was_when_its_file_is_edited_meanwhile(tmp_path: Path) -> None:
    space = write(tmp_path, SOURCE + "# edited later\n")
    built(space)
    (tmp_path / "my_family.py").write_text("raise RuntimeError")
    assert isinstance(built(space), nn.Module)


def test_rules_are_checked_where_there_are_any(tmp_path: Path) -> None:
    ruled = SOURCE.replace(
        "def build", "from nas.families import whole, with_rules\n\n@with_rules(whole('width', 1, 64))\ndef build"
    )
    check_space(write(tmp_path, ruled))
    with pytest.raises(SpaceError, match=r"choice 'width' must be a whole number from 1 to 64, but got 128"):
        check_space(write(tmp_path, ruled, SPACE.replace("[8, 16]", "[16, 128]")))
    with pytest.raises(SpaceError, match=r"unknown choice of family 'my_family\.py:build@.*': 'wdith'; did you mean"):
        check_space(write(tmp_path, ruled, "family: my_family.py:build\narchitecture: {wdith: [8]}"))
    check_space(write(tmp_path, SOURCE, "family: my_family.py:build\narchitecture: {wdith: [8]}"))  # free


BROKEN = [
    (SOURCE.replace("def build", "def biuld"), SpaceError, r"unknown function of .*: 'build'; did you mean 'biuld'"),
    ("def build(:", SpaceError, r"search space .*my_space\.yaml: family: .*my_family\.py is no Python: SyntaxError"),
    (
        "import no_such_package\n" + SOURCE,
        OwnCodeError,
        r"cannot be run: ModuleNotFoundError: .*\(my_family\.py, line 1\)",
    ),
    (SOURCE.replace('["width"]', '["wdith"]'), OwnCodeError, r"raised KeyError: 'wdith' \(my_family\.py, line 5\)"),
    (
        SOURCE.replace("return ", "x = "),
        OwnCodeError,
        r"must give an nn\.Module, but gave NoneType \(my_family\.py, line 4\)",
    ),
    (
        SOURCE.replace("* width, classes)", "* width, 7)"),
        ModuleError,
        r"my_family\.py:build gives 7 classes, but the data has 10",
    ),
    (
        SOURCE.replace("4 * width", "width"),
        ModuleError,
        r"cannot run on the data's images \(1 channels of 8×8\): Runtime",
    ),
]


@pytest.mark.parametrize(("source", "kind", "message"), BROKEN, ids=range(len(BROKEN)))
def test_what_goes_wrong_is_one_line(tmp_path: Path, source: str, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message) as raised:
        built(write(tmp_path, source))
    assert "\n" not in str(raised.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "my_family.py").unlink()
    with pytest.raises(SpaceError, match=r"my_space\.yaml: family: there is no Python file .*my_family\.py"):
        load_space(str(tmp_path / "my_space.yaml"))


def test_a_design_that_cannot_be_may_say_so_itself(tmp_path: Path) -> None:
    source = SOURCE.replace(
        'architecture["width"]',
        'architecture["width"]\n    from nas.errors import InfeasibleDesignError\n'
        '    if width > 8:\n        raise InfeasibleDesignError("too wide")',
    )
    with pytest.raises(InfeasibleDesignError, match=r"^too wide$"):
        built(write(tmp_path, source), width=16)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("own")
    write(folder)
    found, _ = search(recipe_in(folder), folder / "study", Silent())
    return found


def test_a_search_prunes_quantises_and_exports_it(study: Study) -> None:
    assert [record.outcome for record in study.records] == [Outcome.MEASURED] * 2, study.records
    compressed = study.record(0)
    assert dict(compressed.design.compression) == {"pruning_ratio": 0.5, "weight_bits": 8, "activation_bits": 8}
    assert compressed.labels["weight_bits"] is Realisation.REALISED
    whole, pruned = compressed.quantity("uncompressed_macs"), compressed.quantity("macs")
    assert whole is not None
    assert pruned is not None
    assert pruned.value < 0.7 * whole.value
    assert np.isfinite(compressed.value("accuracy"))


def test_its_sensitivity_is_analysed_from_the_study_alone(study: Study) -> None:
    found, _ = analyse_trial(study.folder.path, 0, 100, False, lambda *heard: None, lambda *heard: None)
    assert found.trial == 0


def test_a_changed_source_is_noticed_when_the_study_goes_on(study: Study) -> None:
    folder = study.folder.path.parent
    write(folder, SOURCE + "# another\n")
    try:
        with pytest.raises(Exception, match=r"space: changed since the study began"):
            search(recipe_in(folder), study.folder.path, Silent())
    finally:
        write(folder)

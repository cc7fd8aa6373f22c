"""``nas calibrate`` as a person sees it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from fakes import make_recipe, make_record, write_study
from synthetic_latencies import PLATFORM, measurement, networks

from nas import cli
from nas.estimate import calibrate as module
from nas.estimate.calibrate import Calibration
from nas.estimate.estimator import Estimator
from nas.measure.measurer import Measurer
from nas.target import Target

TARGET = Target.parse("onnxruntime-cpu-1t-b1")
MANIFEST = {"input": {"shape": [12, 14, 3], "layout": "NHWC"}, "class_names": ["a", "b"]}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):  # type: ignore[no-untyped-def]
    """Runs the command in this process: exit code and what was printed."""
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(Measurer, "environment_id", lambda self, target: "abc")

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["nas", "calibrate", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return call


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the calibrator was asked for; it answers with a prepared calibration."""
    found: list[Any] = [_calibration()]

    def answer(self: object, *arguments: object) -> Calibration:
        found.append(arguments)
        return found[0]  # type: ignore[no-any-return]

    monkeypatch.setattr(module.Calibrator, "run", answer)
    return found


def _calibration(estimates: bool = True, **changes: Any) -> Calibration:
    known = [measurement(network, number) for number, network in enumerate(networks(80))]
    values: dict[str, Any] = {
        "folder": Path("cache/abc/target"),
        "estimator": Estimator(TARGET, "abc", PLATFORM, known) if estimates else None,
        "networks": 70,
        "layers": 10,
        "trials": 0,
        "unstable": 0,
        "skipped": 0,
        "total": 80,
        "interrupted": False,
        "seconds": 61.0,
    }
    return Calibration(**values | changes)


def test_the_table_holds_each_estimate_against_the_clock(run: Any, asked: list[Any]) -> None:
    code, out, _ = run("--space", "convnet")
    assert code == 0
    assert "measured 70 networks and 10 single layers in 61 s" in out
    assert "estimates against 80 unseen networks on onnxruntime-cpu-1t-b1" in out
    for words in ("textbook: FLOPs over FLOP/s", "roofline: FLOPs and bytes moved", "learned predictor"):
        assert words in out
    for words in ("median error", "within ±10 %", "Kendall's τ", "Spearman's ρ"):
        assert words in out
    assert "80 networks are kept in cache/abc/target" in out
    assert "early" not in out
    assert "disturbed" not in out


def test_what_went_wrong_is_said(run: Any, asked: list[Any]) -> None:
    asked[0] = _calibration(interrupted=True, unstable=7, skipped=3, trials=1)
    _, out, _ = run("--space", "convnet")
    assert "in 61 s, ended early, 1 trial taken in" in out
    assert "7 disturbed" in out
    assert "3 skipped" in out


@pytest.mark.parametrize(("total", "words"), [(12, "only 12 networks were"), (1, "only 1 network was")])
def test_too_few_networks_are_an_error_with_a_remedy(run: Any, asked: list[Any], total: int, words: str) -> None:
    asked[0] = _calibration(estimates=False, total=total)
    code, _, err = run("--space", "convnet")
    assert code == 2
    assert f"{words} measured" in err
    assert "more --minutes" in err


def test_defaults_and_options_reach_the_calibrator(run: Any, asked: list[Any], tmp_path: Path) -> None:
    run("--space", "convnet")
    space, shape, classes, minutes, studies, _ = asked[1]
    assert (space.name, shape, classes, minutes, studies) == ("convnet", (28, 28, 1), 10, 3.0, [])
    run("--space", "mlp", "--input-shape", "8x9x3", "--classes", 4, "--minutes", 0.5)
    space, shape, classes, minutes, *_ = asked[2]
    assert (space.name, shape, classes, minutes) == ("mlp", (8, 9, 3), 4, 0.5)


def test_a_study_says_what_to_sample(run: Any, asked: list[Any], tmp_path: Path) -> None:
    write_study(tmp_path, [make_record(0, manifest=MANIFEST)], make_recipe(space="convnet-small"))
    code, *_ = run("--study", tmp_path)
    space, shape, classes, _, studies, _ = asked[1]
    assert code == 0
    assert (space.name, shape, classes) == ("convnet-small", (12, 14, 3), 2)
    assert [study.folder.path for study in studies] == [tmp_path]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "there is nothing to sample"),
        (("--space", "convnett"), "did you mean 'convnet'"),
        (("--space", "convnet", "--target", "onnxruntim-cpu-1t-b1"), "did you mean 'onnxruntime'"),
        (("--space", "convnet", "--target", "torch-cpu-1t-b1"), "no estimates for target 'torch-cpu-1t-b1'"),
        (("--space", "convnet", "--input-shape", "28x28"), "--input-shape must read"),
        (("--space", "convnet", "--input-shape", "0x28x1"), "--input-shape must read"),
        (("--space", "convnet", "--input-shape", "5000x5000x3"), "75,000,000 values an image, more than 10,000,000"),
    ],
)
def test_bad_options_are_refused_in_one_line(
    run: Any, asked: list[Any], options: tuple[str, ...], message: str
) -> None:
    code, _, err = run(*options)
    assert code == 2
    assert message in err
    assert len(asked) == 1

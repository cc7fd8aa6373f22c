"""``nas pick`` as it is typed: options and what they refuse, the present model beside the pick, one run unfaked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from deploy_fakes import GREY, Example, make_example, make_model
from fake_measurer import ORT1, FakeMeasurer
from fakes import LATENCY, make_recipe, make_record, write_study
from typer.testing import CliRunner, Result

from nas import cli, data
from nas.artifact import open_session, probabilities
from nas.deploy import Limits, choose, deploy
from nas.errors import DataError, NasError
from nas.measure import measurer as measurer_module
from nas.measure.measurer import Measurer
from nas.outcome import Outcome
from nas.record import write_record
from nas.report import picking
from nas.study import Study
from nas.target import Target


def run(*words: object) -> Result:
    """The command, whose errors come through as they are raised, at 80 columns."""
    return CliRunner().invoke(cli.app, ["pick", *map(str, words)], env={"COLUMNS": "80"}, catch_exceptions=True)


def said(*words: object) -> str:
    """What it prints, on one line."""
    result = run(*words)
    assert result.exit_code == 0, result.exception
    assert (
        max(
            len(line)
            for line in result.output.splitlines()
            if not line.startswith("wrote") and str(words[0]) not in line
        )
        <= 80
    )
    return " ".join(result.output.split())


def refused(*words: object) -> NasError:
    result = run(*words)
    assert isinstance(result.exception, NasError), result.output
    return result.exception


class Bench(FakeMeasurer):
    """Times real files: each takes what the test says, and gives what ONNX Runtime makes of it."""

    def __init__(self, machine: str = "a") -> None:
        super().__init__(machine)
        self.times: dict[bytes, float] = {}

    def latency(self, content: bytes, target: Target) -> tuple[int, float]:
        return 0, self.times[content]

    def outputs(self, content: bytes, target: Target, images: np.ndarray, batch: int = 256) -> np.ndarray:
        return probabilities(open_session(content), images, batch)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    found = Bench()
    monkeypatch.setattr(measurer_module, "Measurer", lambda: found)
    return found


def measured_in(example: Example, environment_id: str) -> Study:
    """The example's study as if it had been measured in an environment."""
    study = example.study
    for record in study.records:
        quantities = tuple(
            replace(q, environment_id=environment_id) if q.name == "latency_ms" else q for q in record.quantities
        )
        write_record(study.folder.trials, replace(record, quantities=quantities))
    return Study.open(study.folder.path)


@pytest.fixture
def example(tmp_path: Path, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Example:
    """Two trials, of which the second is chosen by --max-latency-ms 1; measured on the bench's machine."""
    made = make_example(tmp_path / "study")
    monkeypatch.setattr(data, "load", lambda config: made.dataset)
    study = measured_in(made, f"a-{ORT1.split('-')[0]}")
    bench.times = {study.artifact(record): record.value(LATENCY) for record in study.records}
    return Example(study, made.dataset)


@pytest.fixture
def model(tmp_path: Path, bench: Bench) -> Path:
    """The present model: another seed's, four times as slow as the pick."""
    content = make_model(GREY, seed=9)
    bench.times[content] = 0.08
    path = tmp_path / "old[b]$x.onnx"
    path.write_bytes(content)
    return path


# --- choosing --------------------------------------------------------------------------------------------------------


@pytest.fixture
def study(tmp_path: Path) -> Path:
    records = [make_record(0, 0.90, 0.01), make_record(1, 0.95, 0.02), make_record(2, 0.97, 0.08)]
    return write_study(tmp_path / "s", records).folder.path


@pytest.mark.parametrize(
    ("options", "number"),
    [
        (["--max-p95-ms", "0.03"], 1),
        (["--min-fps", "100000"], 0),
        (["--min-fps", "1000", "--min-accuracy", "0.96"], 2),
        (["--weigh", "accuracy=2,latency=1"], 2),
        (["--weigh", "accuracy=1,latency=9"], 0),
        (["--first", "accuracy", "--within", "2.5"], 1),
        (["--first", "latency", "--within", "150"], 1),
        (["--first", "latency", "--within", "1000", "--then", "size"], 0),
        (["--max-p95-ms", "0.03", "--first", "latency"], 0),
    ],
)
def test_each_way_to_choose(study: Path, options: list[str], number: int) -> None:
    text = said(study, *options)
    assert text.startswith(f"Trial {number} is ")
    assert f"validation accuracy {['90', '95', '97'][number]}.00 %" in text
    assert f"test accuracy {['90', '95', '97'][number]}.00 %" in text
    assert "next faster" in text or "next more accurate" in text
    assert "no deployment was written" in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--within", "1"], "--within and --then belong to --first"),
        (["--then", "size"], "--within and --then belong to --first"),
        (["--weigh", "accuracy=1", "--first", "latency"], "--weigh and --first are two ways to choose"),
        (["--knee", "--weigh", "accuracy=1"], "the knee and a preference are two ways to choose"),
        (["--weigh", "speed"], "--weigh must read NAME=WEIGHT"),
        (["--first", "acuracy"], "did you mean 'accuracy'"),
        (["--min-fps", "-1"], "min_fps must be greater than 0"),
        (["--max-p95-ms", "nan"], "max_p95_ms must be greater than 0"),
        (["--target", "onnxruntime-cpu-2t-b1"], "unknown target"),
        (["--baseline", "nowhere.onnx"], "there is no model file nowhere.onnx"),
        (["--baseline-mean", "0.5"], "--baseline-mean belongs to --baseline"),
        (["--picture", "x.png"], "--picture belongs to --baseline"),
        (["--baseline", "x.onnx", "--baseline-mean", "0.5"], "go together"),
        (["--baseline", "x.onnx", "--picture", "x.gif"], "--picture must end in .png, .svg or .pdf"),
    ],
)
def test_options_that_mean_nothing(study: Path, options: list[str], message: str) -> None:
    error = refused(study, *options)
    assert message in error.message
    assert error.exit_code == 2
    assert "\n" not in error.message


def test_studies_that_nothing_can_be_chosen_from(tmp_path: Path) -> None:
    failed = write_study(tmp_path / "f", [make_record(n, outcome=Outcome.FAILED) for n in range(3)])
    assert "was measured: 3 failed" in refused(failed.folder.path).message
    (tmp_path / "e" / "trials").mkdir(parents=True)
    empty = write_study(tmp_path / "e", [])
    assert refused(empty.folder.path, "--weigh", "accuracy=1").message.endswith("was measured")
    assert "there is no study" in refused(tmp_path / "nowhere").message


def test_one_trial_only(tmp_path: Path) -> None:
    study = write_study(tmp_path / "one", [make_record(0)])
    for options in ([], ["--weigh", "accuracy=1,latency=1"], ["--first", "accuracy", "--within", "1"]):
        assert "Trial 0 is the only one on the front" in said(study.folder.path, *options)


def test_a_spread_of_training_seeds_that_is_known_counts(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "what training seeds do is not known" in said(study)
    monkeypatch.setattr(picking, "seed_spread", lambda study: 0.02)
    assert "training seeds included" in said(study)


def test_limits_that_nobody_meets_name_the_nearest(study: Path) -> None:
    error = refused(study, "--min-fps", "1000000")
    assert error.exit_code == 1
    assert "the fastest, trial 0, has 100,000 fps, 900,000 fps short" in error.message


# --- test accuracy ---------------------------------------------------------------------------------------------------


def test_a_test_accuracy_that_the_search_has_not_taken_is_taken_now(example: Example) -> None:
    path = example.study.folder.path

    def test_accuracy() -> list[str]:
        return said(path, "--max-latency-ms", 1).split("test accuracy ")[1].split()[:5]

    before = test_accuracy()
    assert before[1] == "%"
    example.study.folder.test_scores.unlink()
    assert test_accuracy() == before


def test_an_artifact_that_was_changed_or_is_gone_is_said(example: Example, tmp_path: Path) -> None:
    example.study.folder.test_scores.unlink()
    sha256 = example.study.record(1).artifact_sha256
    assert sha256 is not None
    blob = example.study.store.blob_path(sha256)
    blob.write_bytes(blob.read_bytes() + b"more")
    path = example.study.folder.path
    text = said(path, "--max-latency-ms", 1)
    assert "test accuracy not scored yet" in text
    assert "the test accuracy is not known: the artifact of trial 1 is not in" in text
    assert "the artifact of trial 1 is not in" in refused(path, "--max-latency-ms", 1, "-o", tmp_path / "d").message
    assert not (tmp_path / "d").exists()


# --- the present model -----------------------------------------------------------------------------------------------


def test_the_present_model_beside_the_pick(example: Example, model: Path, bench: Bench) -> None:
    path = example.study.folder.path
    text = said(path, "--max-latency-ms", 1, "--baseline", model)
    assert "yours, old[b]$x.onnx" in text
    assert "Against old[b]$x.onnx the pick is 4.0× faster (0.0200 ms against 0.0800 ms); " in text
    assert "points more accurate on test data" in text
    assert f"wrote {path}/baseline.png" in text
    assert (path / "baseline.png").stat().st_size > 10_000
    assert [entry for entry in bench.log if entry[0] == "measure"] == [("measure", 0, ORT1)] * 2
    assert bench.closed == 1


def test_the_picture_goes_where_it_is_asked_for(example: Example, model: Path, tmp_path: Path) -> None:
    path, place = example.study.folder.path, tmp_path / "p.svg"
    assert f"wrote {place}" in said(path, "--max-latency-ms", 1, "--baseline", model, "--picture", place)
    assert "not of this study" in place.read_text()
    assert not (path / "baseline.png").exists()


def test_a_deployment_as_the_present_model(example: Example, tmp_path: Path) -> None:
    study = example.study
    deploy(study, choose(study, Limits(max_latency_ms=0.015)), tmp_path / "live", example.dataset)
    text = said(study.folder.path, "--max-latency-ms", 1, "--baseline", tmp_path / "live")
    assert "Against live the pick is 2.0× slower (0.0200 ms against 0.0100 ms); " in text
    (tmp_path / "live" / "model.onnx").write_bytes(b"changed")
    error = refused(study.folder.path, "--max-latency-ms", 1, "--baseline", tmp_path / "live")
    assert "was changed after it was deployed" in error.message
    (tmp_path / "live" / "model.onnx").unlink()
    assert "cannot be read" in refused(study.folder.path, "--baseline", tmp_path / "live").message


def test_another_machine_is_said_and_nothing_is_drawn(example: Example, model: Path, bench: Bench) -> None:
    bench.machine = {**bench.machine, "name": "b", "cpu": "CPU b"}
    path = example.study.folder.path
    text = said(path, "--max-latency-ms", 1, "--baseline", model)
    assert "The study was measured elsewhere or with other versions (a test's processor, environment a-onnx" in text
    assert "than this machine (CPU b, environment b-onnxruntime)" in text
    assert "4.0× faster (0.0200 ms against 0.0800 ms)" in text  # both taken here
    assert "no picture: the study was measured elsewhere" in text
    assert not (path / "baseline.png").exists()


def test_without_the_data_the_latency_is_still_compared(
    example: Example, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(config: object) -> None:
        raise DataError("there is no folder birds")

    monkeypatch.setattr(data, "load", gone)
    text = said(example.study.folder.path, "--max-latency-ms", 1, "--baseline", model)
    assert "The pick could not be timed here (the study's data cannot be read), so its latency in the study" in text
    assert "4.0× faster" in text
    assert "is not known: the study's data cannot be read: there is no folder birds" in text


def test_a_normalised_network(example: Example, tmp_path: Path, bench: Bench) -> None:
    """With a mean of 0 and a deviation of 1/255 the network gets the bytes as floats, and scores as the artifact."""
    from nas.artifact import InputSpec

    content = make_model(InputSpec("float32", (1, 6, 5)), seed=2)
    (tmp_path / "net.onnx").write_bytes(content)
    bench.times[content] = 0.08
    arguments = (example.study.folder.path, "--max-latency-ms", 1, "--baseline", tmp_path / "net.onnx")
    assert "say by --baseline-mean and --baseline-std" in said(*arguments)
    text = said(*arguments, "--baseline-mean", "0", "--baseline-std", repr(1 / 255))
    assert "the pick is 4.0× faster (0.0200 ms against 0.0800 ms); as accurate on test data;" in text
    assert "wants its images normalised before" in text


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        ("a", "1", "--baseline-mean must be numbers"),
        ("0", "inf", "--baseline-std must be numbers"),
        ("0", "0", "--baseline-std must be greater than 0"),
        ("0,0", "1", "--baseline-mean has 2 numbers, --baseline-std 1"),
        ("0,0", "1,1", "given for 2 channels, but the data has 1"),
    ],
)
def test_normalisations_that_mean_nothing(example: Example, model: Path, mean: str, std: str, message: str) -> None:
    arguments = ("--baseline", model, "--baseline-mean", mean, "--baseline-std", std)
    assert message in refused(example.study.folder.path, *arguments).message


def test_sizes_that_the_file_leaves_free_are_the_datas(example: Example, tmp_path: Path, bench: Bench) -> None:
    import onnx

    whole = onnx.load_model_from_string(make_model(GREY, seed=9))
    for size, name in zip(whole.graph.input[0].type.tensor_type.shape.dim[1:], ("h", "w", "c"), strict=True):
        size.dim_param = name
    content = whole.SerializeToString()
    bench.times[content] = 0.04
    (tmp_path / "free.onnx").write_bytes(content)
    text = said(example.study.folder.path, "--max-latency-ms", 1, "--baseline", tmp_path / "free.onnx")
    assert "2.0× faster" in text
    assert "on test data" in text


@pytest.mark.parametrize("content", [b"", b"no model"])
def test_a_file_that_is_no_model_is_refused_before_anything_is_printed(
    example: Example, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "junk.onnx").write_bytes(content)
    result = run(example.study.folder.path, "--baseline", tmp_path / "junk.onnx")
    assert isinstance(result.exception, NasError)
    assert "junk.onnx" in result.exception.message
    assert "Trial" not in result.output


def test_a_form_that_the_picks_runtime_does_not_load_is_refused(example: Example, tmp_path: Path) -> None:
    (tmp_path / "net.pt2").write_bytes(b"x")
    assert "loads an ONNX file" in refused(example.study.folder.path, "--baseline", tmp_path / "net.pt2").message


def test_a_study_without_latency_has_nothing_to_time_it_on(tmp_path: Path, model: Path) -> None:
    study = write_study(tmp_path / "flops", [make_record(0)], make_recipe(objectives=["accuracy", "flops"]))
    error = refused(study.folder.path, "--baseline", model)
    assert "no latency decided this one" in error.message
    assert "--target" in error.hint


def test_where_the_picture_shows_something_else_it_is_said(example: Example, model: Path) -> None:
    recipe = make_recipe(targets=[ORT1], objectives=["accuracy", "flops"])
    study = write_study(example.study.folder.path, example.study.records, recipe)
    text = said(study.folder.path, "--target", ORT1, "--baseline", model)
    assert "no picture: the study's picture shows flops" in text


def slow_model() -> bytes:
    """What ``make_model`` makes, with forty more matrix products before it."""
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load_model_from_string(make_model(GREY))
    cast, _, *classify = model.graph.node
    products = [helper.make_node("MatMul", [f"s{step}", "square"], [f"s{step + 1}"]) for step in range(40)]
    turn = helper.make_node("Transpose", ["numbers"], ["s0"], perm=[0, 1, 3, 2])  # N×6×1×5
    flatten = helper.make_node("Flatten", ["s40"], ["flat"], axis=1)
    del model.graph.node[:]
    model.graph.node.extend([cast, turn, *products, flatten, *classify])
    model.graph.initializer.append(numpy_helper.from_array(np.full((5, 5), 0.2, np.float32), "square"))
    return bytes(model.SerializeToString())


def test_with_nothing_faked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two real models, really timed: the one with many more steps is told to be the slower one."""
    made = make_example(tmp_path / "study")
    monkeypatch.setattr(data, "load", lambda config: made.dataset)
    with Measurer() as measurer:
        study = measured_in(made, measurer.environment_id(Target.parse(ORT1)))
    (tmp_path / "slow.onnx").write_bytes(slow_model())
    text = said(study.folder.path, "--max-latency-ms", 1, "--baseline", tmp_path / "slow.onnx")
    assert "Against slow.onnx the pick is" in text
    assert "× faster (" in text
    assert "accurate on test data" in text
    assert (study.folder.path / "baseline.png").is_file()


def test_further_forms_are_refused_before_anything_is_chosen(tmp_path: Path) -> None:
    study = tmp_path / "study"
    write_study(study, [make_record(0)])
    assert "unknown form for --also 'x'; valid: openvino, program" in str(refused(study, "--also", "x"))
    error = refused(study, "--also", "openvino,program")
    assert str(error) == "--also belongs to --output, which is not given (such as --output deploy)"

"""The three estimates with their checks, from measurements that a formula made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from onnx_models import article_network
from synthetic_latencies import PLATFORM, convolution, latency_ms, measurement, networks

from nas.estimate import estimator as module
from nas.estimate.estimator import LEAST_MEASURED, PREDICTED, ROOFLINE, TEXTBOOK, Estimator
from nas.estimate.kernels import Kernel, kernels_of
from nas.estimate.measurements import LAYER, TRIAL, Measurement, Measurements
from nas.estimate.roofline import roofline_ms
from nas.measure.complexity import Complexity
from nas.outcome import How, Quantity
from nas.target import Target

TARGET = Target.parse("onnxruntime-cpu-1t-b1")
MEASURED = [measurement(network, number) for number, network in enumerate(networks(120))]


def complexity(flops: int, conv_macs: int = 1) -> Complexity:
    return Complexity(flops // 2, flops, conv_macs, 0, 0, 0, (), ())


def keep(folder: Path, measured: list[Measurement], environment: str = "abc") -> None:
    stored = Measurements(folder, environment, TARGET)
    stored.write_platform(PLATFORM)
    for item in measured:
        stored.add(item)


@pytest.fixture(scope="module")
def estimator() -> Estimator:
    return Estimator(TARGET, "abc", PLATFORM, MEASURED)


@pytest.fixture
def quantities(estimator: Estimator, monkeypatch: pytest.MonkeyPatch) -> dict[str, Quantity]:
    """Of a network that was not measured."""
    network = networks(1, seed=7)[0]
    monkeypatch.setattr(module, "kernels_of", lambda artifact, batch: network)
    found = estimator.quantities(b"", complexity(2_000_000))
    return {quantity.name: quantity for quantity in found}


def test_all_are_marked_as_estimates_for_the_target(quantities: dict[str, Quantity]) -> None:
    assert list(quantities) == [TEXTBOOK, ROOFLINE, PREDICTED]
    for name, quantity in quantities.items():
        assert (quantity.how, quantity.unit, quantity.environment_id) == (How.ESTIMATED, "ms", "abc")
        assert quantity.key == f"{name}@{TARGET.name}"
        assert quantity.detail["checked_on"] == len(MEASURED)
        assert Quantity.from_json(quantity.to_json()) == quantity


def test_each_is_what_it_says(quantities: dict[str, Quantity]) -> None:
    network = networks(1, seed=7)[0]
    assert quantities[TEXTBOOK].value == pytest.approx(1000 * 2_000_000 / 1e9)
    assert quantities[ROOFLINE].value == pytest.approx(roofline_ms(network, PLATFORM))
    assert quantities[PREDICTED].value == pytest.approx(latency_ms(network), rel=0.1)


def test_the_interval_of_the_prediction_holds_the_latency(quantities: dict[str, Quantity]) -> None:
    predicted = quantities[PREDICTED]
    assert predicted.low is not None
    assert predicted.high is not None
    assert predicted.low < predicted.value < predicted.high
    assert predicted.low <= latency_ms(networks(1, seed=7)[0]) <= predicted.high
    assert quantities[TEXTBOOK].low is None


def test_intervals_hold_about_as_many_as_they_promise(estimator: Estimator, monkeypatch: pytest.MonkeyPatch) -> None:
    held = 0
    for network in networks(60, seed=3):
        monkeypatch.setattr(module, "kernels_of", lambda artifact, batch, network=network: network)
        predicted = estimator.quantities(b"", complexity(1000))[-1]
        assert predicted.low is not None
        assert predicted.high is not None
        held += predicted.low <= latency_ms(network) <= predicted.high
    assert held >= 0.85 * 60


def test_the_batch_multiplies_the_textbook_estimate() -> None:
    four = Estimator(Target.parse("onnxruntime-cpu-1t-b4"), "abc", PLATFORM, MEASURED)
    assert four.textbook(1e6, convolutional=True) == pytest.approx(4 * 1.0)
    assert four.textbook(1e6, convolutional=False) == pytest.approx(4 * 0.25)  # the matrix product's speed


def test_strange_kernels_are_named_and_widen_the_interval(
    estimator: Estimator, quantities: dict[str, Quantity], monkeypatch: pytest.MonkeyPatch
) -> None:
    strange: tuple[Kernel, ...] = (convolution(32, 784, 288, "float", "grouped"),)
    monkeypatch.setattr(module, "kernels_of", lambda artifact, batch: strange)
    predicted = estimator.quantities(b"", complexity(1000))[-1]
    usual = quantities[PREDICTED]
    assert predicted.detail["unknown_kernels"] == "test:Conv:grouped:float"
    assert "unknown_kernels" not in usual.detail
    assert predicted.high is not None
    assert usual.high is not None
    assert predicted.high / predicted.value > usual.high / usual.value


def test_a_real_file_is_estimated(estimator: Estimator) -> None:
    *_, predicted = estimator.quantities(article_network(), complexity(1_059_880))
    unknown = {kernel.kind for kernel in kernels_of(article_network())} - {":Softmax::float"}
    assert set(str(predicted.detail["unknown_kernels"]).split(", ")) == unknown
    assert predicted.value > 0


def test_the_predictor_is_checked_on_what_it_had_not_seen(estimator: Estimator) -> None:
    checks = estimator.checks
    assert checks[PREDICTED].within >= 0.9
    assert checks[PREDICTED].tau > checks[TEXTBOOK].tau
    assert 0.001 < checks[PREDICTED].median_error < 0.05  # what it had seen it would give back more exactly


def test_a_predictor_that_learned_nothing_is_found_out() -> None:
    """Latencies without any rule: fitted ones could be given back, unseen ones can not."""
    random = [replace(item, ms=1 + n * 37 % 101, low=1, high=102) for n, item in enumerate(MEASURED)]
    assert Estimator(TARGET, "abc", PLATFORM, random).checks[PREDICTED].within < 0.3


def test_single_layers_trials_and_disturbed_networks_are_not_what_it_is_checked_on() -> None:
    changes = [{"source": LAYER}, {"source": TRIAL}, {"unstable": True}, {}]
    mixed = [replace(item, **changes[number % 4]) for number, item in enumerate(MEASURED)]  # type: ignore[arg-type]
    found = Estimator(TARGET, "abc", PLATFORM, mixed).checks[PREDICTED]
    assert (found.networks, found.disturbed) == (30, 0)


def test_where_most_were_disturbed_the_check_says_so() -> None:
    mixed = [replace(item, unstable=number >= 10) for number, item in enumerate(MEASURED)]
    found = Estimator(TARGET, "abc", PLATFORM, mixed).checks[PREDICTED]
    assert (found.networks, found.disturbed) == (120, 110)


def test_it_is_loaded_as_it_was(tmp_path: Path, estimator: Estimator) -> None:
    keep(tmp_path, MEASURED)
    loaded = Estimator.load(TARGET, "abc", tmp_path)
    assert loaded is not None
    assert loaded.checks == estimator.checks


@pytest.mark.parametrize("environment", ["abc", "def"])
def test_without_a_calibration_of_this_machine_there_is_none(tmp_path: Path, environment: str) -> None:
    keep(tmp_path, MEASURED[: LEAST_MEASURED - 1] if environment == "abc" else MEASURED)
    assert Estimator.load(TARGET, "abc" if environment == "abc" else "another", tmp_path) is None


def test_without_the_platforms_speeds_there_is_none(tmp_path: Path) -> None:
    keep(tmp_path, MEASURED)
    Measurements(tmp_path, "abc", TARGET).platform_path.unlink()
    assert Estimator.load(TARGET, "abc", tmp_path) is None


def test_too_few_networks_are_refused() -> None:
    layers = [replace(item, source=LAYER) for item in MEASURED[LEAST_MEASURED - 1 :]]
    with pytest.raises(ValueError, match="at least 40 measured networks, but got 39"):
        Estimator(TARGET, "abc", PLATFORM, [*MEASURED[: LEAST_MEASURED - 1], *layers])

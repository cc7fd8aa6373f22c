"""The predictor finds out a formula that it only sees in the latencies of whole networks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from synthetic_latencies import convolution, latency_ms, networks, softmax

from nas.estimate.kernels import Kernel
from nas.estimate.predictor import LEAST_NETWORKS, Points, Predictor, correlations

KNOWN, UNSEEN = networks(160), networks(60, seed=1)
LATENCIES = [latency_ms(network) for network in KNOWN]


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(KNOWN, LATENCIES)


def errors(predictor: Predictor) -> np.ndarray:
    return np.array([abs(predictor.predict(network).ms / latency_ms(network) - 1) for network in UNSEEN])


def test_unseen_networks_are_predicted(predictor: Predictor) -> None:
    assert (errors(predictor) <= 0.1).mean() >= 0.95
    assert np.median(errors(predictor)) < 0.03


def test_it_is_better_than_a_cost_per_multiply_add(predictor: Predictor) -> None:
    macs = np.array([sum(kernel.macs for kernel in network) for network in KNOWN])
    slope, constant = np.polyfit(macs, LATENCIES, 1)
    plain = [
        abs((constant + slope * sum(kernel.macs for kernel in network)) / latency_ms(network) - 1) for network in UNSEEN
    ]
    assert np.median(errors(predictor)) < np.median(plain) / 5


def test_more_networks_teach_more() -> None:
    few = Predictor(KNOWN[:LEAST_NETWORKS], LATENCIES[:LEAST_NETWORKS])
    assert np.mean(errors(few)) > np.mean(errors(Predictor(KNOWN, LATENCIES)))


def test_measured_networks_are_given_back(predictor: Predictor) -> None:
    back = [predictor.predict(network).ms / ms for network, ms in zip(KNOWN, LATENCIES, strict=True)]
    assert np.abs(np.array(back) - 1).max() < 0.05


def test_it_is_deterministic(predictor: Predictor) -> None:
    again = Predictor(KNOWN, LATENCIES)
    assert [again.predict(network) for network in UNSEEN] == [predictor.predict(network) for network in UNSEEN]


def test_single_layers_teach_as_well() -> None:
    """Of a kind that no network has, nothing is known but what single layers told."""
    layers = [(convolution(c, p, 25, "float", "depthwise"),) for c in (8, 16, 32) for p in (49, 196, 784)]
    strange = (*KNOWN[0], convolution(24, 196, 25, "float", "depthwise"))
    taught = Predictor([*KNOWN, *layers], [*LATENCIES, *(latency_ms(layer) for layer in layers)])
    assert taught.predict(strange).unknown == ()
    assert taught.predict(strange).ms == pytest.approx(latency_ms(strange), rel=0.1)


def test_unknown_kinds_are_named_and_estimated_from_all_others(predictor: Predictor) -> None:
    strange = (*KNOWN[0], convolution(32, 784, 288, "float", "grouped"))
    found = predictor.predict(strange)
    assert found.unknown == ("test:Conv:grouped:float",)
    assert found.ms > predictor.predict(KNOWN[0]).ms
    assert found.deviation > 5 * predictor.predict(KNOWN[0]).deviation


def test_it_is_less_sure_of_what_is_unlike_all_that_it_saw(predictor: Predictor) -> None:
    far = (convolution(2048, 4, 9 * 512), softmax())
    assert predictor.predict(far).deviation > 3 * np.median([predictor.predict(n).deviation for n in UNSEEN])


def test_disturbed_latencies_spoil_little() -> None:
    spoilt = [2.5 * ms if number % 16 == 0 else ms for number, ms in enumerate(LATENCIES)]
    assert (errors(Predictor(KNOWN, spoilt)) <= 0.1).mean() >= 0.9


def test_what_is_known_to_be_noisy_counts_less() -> None:
    spoilt = [1.3 * ms if number % 4 == 0 else ms for number, ms in enumerate(LATENCIES)]
    noise = [1.0 if number % 4 == 0 else 0.0 for number in range(len(KNOWN))]
    assert errors(Predictor(KNOWN, spoilt, noise)).mean() < errors(Predictor(KNOWN, spoilt)).mean()


def test_what_is_in_doubt_counts_where_it_agrees() -> None:
    """Half were disturbed and most of those are too slow by half: too many to be outliers, but they are known."""
    doubtful = [number % 2 == 0 for number in range(len(KNOWN))]
    spoilt = [1.5 * ms if number % 2 == 0 and number % 8 else ms for number, ms in enumerate(LATENCIES)]
    believed, doubted = Predictor(KNOWN, spoilt), Predictor(KNOWN, spoilt, doubtful=doubtful)
    clean = Predictor(KNOWN[1::2], LATENCIES[1::2])
    assert np.median(errors(doubted)) <= 1.1 * np.median(errors(clean))
    assert np.median(errors(doubted)) < np.median(errors(believed)) / 2


def test_where_all_are_in_doubt_all_count() -> None:
    assert (errors(Predictor(KNOWN, LATENCIES, doubtful=[True] * len(KNOWN))) <= 0.1).mean() >= 0.95


def test_predictions_stay_positive(predictor: Predictor) -> None:
    tiny = Kernel(":Softmax", "", "float", 1, 1, 1, 1, 0, 1, 1, 1, 0, 8)
    assert predictor.predict((tiny,)).ms > 0


def test_kernels_of_different_kinds_have_nothing_in_common() -> None:
    first = convolution(16, 196, 144)
    others = [first, replace(first, channels=32), replace(first, dtype="uint8"), softmax()]
    same, near, *rest = correlations(Points([first]), Points(others))[0]
    assert same == 1
    assert 0 < near < 1
    assert rest == [0, 0]


@pytest.mark.parametrize(
    ("count", "latencies", "message"),
    [
        (LEAST_NETWORKS - 1, LEAST_NETWORKS - 1, f"at least {LEAST_NETWORKS} measured networks, but got 19"),
        (LEAST_NETWORKS, LEAST_NETWORKS - 1, "need as many latencies"),
    ],
)
def test_too_little_to_learn_from_is_refused(count: int, latencies: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Predictor(KNOWN[:count], LATENCIES[:latencies])

"""Numbers, names and limits as a person reads them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fakes import LATENCY, TARGET
from hypothesis import assume, given
from hypothesis import strategies as st

from nas.errors import RecipeError
from nas.objectives import KINDS, Constraint
from nas.outcome import How, Quantity, Realisation
from nas.wording import (
    ESTIMATE_WORDS,
    ESTIMATES,
    LABEL_WORDS,
    choice_words,
    constraint_words,
    digits_apart,
    display,
    frames_per_second,
    human,
    interval,
    listing,
    percent,
    plain_name,
    plural,
    significant,
    target_words,
    times,
    title,
)

# --- numbers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "digits", "expected", "without_zeros"),
    [
        (0.03124, 3, "0.0312", "0.0312"),
        (3.12, 3, "3.12", "3.12"),
        (312.4, 3, "312", "312"),
        (31249.0, 3, "31200", "31200"),
        (1234567, 3, "1230000", "1230000"),
        (0.00012345, 3, "0.000123", "0.000123"),
        (0.09996, 3, "0.100", "0.1"),
        (9.996, 3, "10.0", "10"),
        (99.996, 4, "100.0", "100"),
        (20, 4, "20.00", "20"),
        (0.0, 3, "0", "0"),
        (0, 4, "0", "0"),
        (-0.5, 2, "-0.50", "-0.5"),
        (2.71, 1, "3", "3"),
        (0.1 + 0.2, 10, "0.3000000000", "0.3"),
    ],
)
def test_significant_digits(value: float, digits: int, expected: str, without_zeros: str) -> None:
    assert significant(value, digits) == expected
    assert significant(value, digits, zeros=False) == without_zeros


@given(st.floats(1e-9, 1e9), st.integers(1, 8))
def test_a_number_is_what_the_standard_library_rounds_it_to(value: float, digits: int) -> None:
    assert float(significant(value, digits)) == float(f"{value:.{digits - 1}e}")
    assert float(significant(value, digits, zeros=False)) == float(significant(value, digits))
    assert "e" not in significant(value, digits)


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (1_059_880, "", "1.06 M"),
        (45_100, "bytes", "45.1 kB"),
        (820, "bytes", "820 B"),
        (999, "", "999"),
        (999_700, "", "1.00 M"),
        (7, "", "7"),
        (0, "", "0"),
        (0.5, "", "0.500"),
        (2.3e9, "", "2.30 G"),
        (4e12, "", "4.00 T"),
    ],
)
def test_human_units(value: float, unit: str, expected: str) -> None:
    assert human(value, unit) == expected


@pytest.mark.parametrize(
    ("value", "digits", "zeros", "expected"),
    [
        (999_700, 4, True, "999.7 k"),
        (999_960, 4, True, "1.000 M"),
        (45_123, 5, True, "45.123 k"),
        (2.5e9, 4, False, "2.5 G"),
        (1_000_000, 4, False, "1 M"),
        (820, 5, True, "820"),
    ],
)
def test_human_units_with_more_digits(value: float, digits: int, zeros: bool, expected: str) -> None:
    assert human(value, digits=digits, zeros=zeros) == expected


def test_per_cent() -> None:
    assert percent(0.98333) == "98.33"
    assert percent(1.0) == "100.00"
    assert percent(0.98333, 3) == "98.333"
    assert (percent(0.975, zeros=False), percent(1.0, zeros=False)) == ("97.5", "100")


def test_plural() -> None:
    assert [plural(n, "trial") for n in (0, 1, 2000)] == ["0 trials", "1 trial", "2,000 trials"]


@pytest.mark.parametrize(
    ("parts", "text"), [([], ""), (["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")]
)
def test_listings(parts: list[str], text: str) -> None:
    assert listing(parts) == text


# --- quantities ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("accuracy", 0.98333, "98.33 %"),
        ("accuracy", 0.97216, "97.22 %"),
        ("test_accuracy", 0.5, "50.00 %"),
        ("test_accuracy", 1.0, "100.00 %"),
        ("latency_ms", 0.03124, "0.0312 ms"),
        ("latency_ms", 0.0213456, "0.0213 ms"),
        ("latency_ms", 12.0, "12.0 ms"),
        ("size_bytes", 820, "820 B"),
        ("size_bytes", 45_100, "45.1 kB"),
        ("size_bytes", 1_000_000, "1.00 MB"),
        ("flops", 1_059_880, "1.06 M"),
        ("flops", 999_999, "1.00 M"),
        ("params", 0, "0"),
        ("macs", 2.5e9, "2.50 G"),
        ("something_else", 12.34, "12.3"),
    ],
)
def test_display(name: str, value: float, expected: str) -> None:
    assert display(name, value) == expected


@pytest.mark.parametrize(
    ("name", "value", "digits", "zeros", "expected"),
    [
        ("latency_ms", 0.0213456, 4, True, "0.02135 ms"),
        ("latency_ms", 12.0, 4, False, "12 ms"),
        ("size_bytes", 45_123, 4, True, "45.12 kB"),
        ("size_bytes", 1_000_000, 4, False, "1 MB"),
        ("flops", 999_999, 4, False, "1 M"),
        ("macs", 2.5e9, 4, False, "2.5 G"),
        ("accuracy", 0.98333, 1, True, "98.33 %"),
        ("accuracy", 0.98333, 4, True, "98.33 %"),
        ("accuracy", 0.98333, 5, True, "98.333 %"),
        ("accuracy", 0.9, 5, False, "90 %"),
        ("something_else", 12.34, 2, True, "12"),
    ],
)
def test_display_with_other_digits(name: str, value: float, digits: int, zeros: bool, expected: str) -> None:
    assert display(name, value, digits, zeros) == expected


@pytest.mark.parametrize(
    ("name", "value", "others", "digits"),
    [
        ("latency_ms", 0.02, (0.0196, 0.0204), 3),
        ("latency_ms", 0.0150, (0.01502,), 4),
        ("latency_ms", 0.0150, (0.015003,), 5),
        ("latency_ms", 0.0150, (0.0150000003,), 5),
        ("latency_ms", 0.0150, (0.0150,), 3),
        ("latency_ms", 0.0150, (), 3),
        ("accuracy", 0.95, (0.94999,), 5),
        ("size_bytes", 819, (820,), 3),
        ("size_bytes", 45_120, (45_100,), 4),
    ],
)
def test_as_many_digits_as_tell_values_apart(name: str, value: float, others: tuple[float, ...], digits: int) -> None:
    assert digits_apart(name, value, *others) == digits


def make_quantity(name: str, value: float, low: float | None, high: float | None) -> Quantity:
    return Quantity(name, value, "", How.MEASURED, low=low, high=high)


@pytest.mark.parametrize(
    ("name", "value", "low", "high", "expected"),
    [
        ("latency_ms", 0.02, 0.0196, 0.0204, "0.0200 ms (0.0196 to 0.0204)"),
        ("latency_ms", 0.0116, 0.01158, 0.01163, "0.0116 ms (0.01158 to 0.01163)"),
        ("latency_ms", 0.0116, 0.011598, 0.011603, "0.0116 ms (0.011598 to 0.011603)"),
        ("latency_ms", 1.5, 1.49, 1.5000001, "1.50 ms (1.4900 to 1.5000)"),
        ("latency_ms", 12.0, 12.0, 12.0, "12.0 ms (12.0 to 12.0)"),
        ("accuracy", 0.9889, 0.9759, 0.9949, "98.89 % (97.59 to 99.49)"),
        ("test_accuracy", 1.0, 0.9892, 1.0, "100.00 % (98.92 to 100.00)"),
        ("accuracy", 0.98889, 0.98885, 0.98893, "98.89 % (98.885 to 98.893)"),
        ("peak_memory_bytes", 47_600_000, 47_100_000, 48_200_000, "47.6 MB (47.1 to 48.2)"),
        ("peak_memory_bytes", 999_600, 998_000, 1_010_000, "1.00 MB (998 kB to 1.01 MB)"),
        ("params", 10_000, 9_000, 11_000, "10.0 k (9.00 to 11.0)"),
        ("something_else", 12.34, 12.1, 12.6, "12.3 (12.1 to 12.6)"),
    ],
)
def test_intervals(name: str, value: float, low: float, high: float, expected: str) -> None:
    assert interval(make_quantity(name, value, low, high)) == expected


def test_a_value_is_not_rounded_out_of_its_interval() -> None:
    # With three digits it would read 0.0116, below its own interval.
    assert interval(make_quantity("latency_ms", 0.011644, 0.01163, 0.01166)) == "0.01164 ms (0.01163 to 0.01166)"
    assert interval(make_quantity("peak_memory_bytes", 999_400, 999_100, 1_010_000)) == (
        "999.4 kB (999.1 kB to 1.010 MB)"
    )


@pytest.mark.parametrize(("low", "high"), [(None, None), (0.1, None), (None, 0.9)])
def test_without_both_ends_there_is_no_interval(low: float | None, high: float | None) -> None:
    assert interval(make_quantity("accuracy", 0.5, low, high)) == "50.00 %"


@given(
    st.sampled_from(["latency_ms", "accuracy", "something_else"]),
    st.floats(1e-4, 1e3),
    st.floats(0, 0.1),
    st.floats(0, 0.1),
)
def test_an_interval_as_shown_holds_the_value_as_shown(name: str, value: float, below: float, above: float) -> None:
    value = min(value, 1.0) if name == "accuracy" else value
    text = interval(make_quantity(name, value, value * (1 - below), value * (1 + above)))
    shown, _, ends = text.removesuffix(")").partition(" (")
    low, high = map(float, ends.split(" to "))
    assert low <= float(shown.split(" ")[0]) <= high
    assert ends.count(" ms") + ends.count(" %") == 0


def test_titles() -> None:
    assert title(LATENCY) == "latency (ms)"
    assert title("test_balanced_accuracy") == "test balanced accuracy"
    assert title("something_else") == "something else"


def test_estimates_are_told_as_such_and_with_their_unit() -> None:
    assert title(f"textbook_ms@{TARGET}") == "textbook estimate (ms)"
    assert plain_name(f"roofline_ms@{TARGET}") == "roofline estimate"
    assert plain_name("predicted_ms") == "predicted latency"
    assert display("predicted_ms", 0.01234) == "0.0123 ms"
    assert ESTIMATES.keys() == ESTIMATE_WORDS.keys()
    assert not ESTIMATES.keys() & KINDS.keys()  # so that no recipe can have one for an objective


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (LATENCY, "latency"),
        ("accuracy", "validation accuracy"),
        ("test_accuracy", "test accuracy"),
        ("size_bytes", "file size"),
        ("flops", "FLOPs"),
    ],
)
def test_plain_names(key: str, expected: str) -> None:
    assert plain_name(key) == expected


@pytest.mark.parametrize("name", KINDS)
def test_plain_names_have_no_unit(name: str) -> None:
    assert plain_name(name)
    assert "(" not in plain_name(name)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("size_bytes <= 100000", "file size at most 100 kB"),
        ("size_bytes <= 123456", "file size at most 123.456 kB"),
        ("accuracy >= 0.9", "validation accuracy at least 90 %"),
        ("accuracy >= 0.975", "validation accuracy at least 97.5 %"),
        ("accuracy >= 0.57", "validation accuracy at least 57 %"),
        ("accuracy >= 0.98765", "validation accuracy at least 98.765 %"),
        (f"{LATENCY} <= 0.5", "latency at most 0.5 ms"),
        (f"{LATENCY} <= 0.03", "latency at most 0.03 ms"),
        (f"{LATENCY} <= 12", "latency at most 12 ms"),
        (f"{LATENCY} <= 0.012345", "latency at most 0.012345 ms"),
        ("flops <= 1.5e6", "FLOPs at most 1.5 M"),
    ],
)
def test_constraints_in_words(text: str, expected: str) -> None:
    assert constraint_words(Constraint.parse(text)) == expected


def test_the_uncompressed_networks_quantities_read_like_the_trials_own() -> None:
    assert display("uncompressed_latency_ms", 0.03124) == "0.0312 ms"
    assert display("uncompressed_macs", 2.5e9) == "2.50 G"
    assert title(f"uncompressed_{LATENCY}") == "uncompressed latency (ms)"
    assert plain_name("uncompressed_macs") == "uncompressed MACs"
    assert display("compressed_size_bytes", 45_100) == "45.1 kB"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("weight_bits", "weight bits"),
        ("stage2.weight_bits", "stage2 weight bits"),
        ("layer1.0.pruning_ratio", "layer1.0 pruning ratio"),
        ("[/y]", "[/y]"),
    ],
)
def test_compression_choices_in_words(name: str, words: str) -> None:
    assert choice_words(name) == words


@pytest.mark.parametrize(
    ("ratio", "words"),
    [
        (2.34, "2.3× faster"),
        (12.6, "13× faster"),
        (1.04, "as fast"),
        (1.06, "1.1× faster"),
        (0.97, "as fast"),
        (0.5, "2.0× slower"),
        (0.001, "1000× slower"),
        (1, "as fast"),
    ],
)
def test_ratios_in_words(ratio: float, words: str) -> None:
    assert times(ratio, "faster", "slower", "as fast") == words


@given(st.floats(1e-3, 1e3))
def test_a_ratio_and_its_inverse_say_the_same(ratio: float) -> None:
    assume(abs(max(ratio, 1 / ratio) - 1.05) > 1e-9)  # where rounding decides between the two
    swapped = {"faster": "slower", "slower": "faster", "as": "as"}
    words, inverse = (times(r, "faster", "slower", "as fast") for r in (ratio, 1 / ratio))
    assert inverse.split()[-1 if "×" in inverse else 0] == swapped[words.split()[-1 if "×" in words else 0]]
    if "×" in words:
        assert float(words.partition("×")[0]) == pytest.approx(float(inverse.partition("×")[0]), rel=0.1)


def test_every_label_has_words_that_begin_with_it() -> None:
    assert LABEL_WORDS.keys() == set(Realisation)
    assert all(words.startswith(str(label)) for label, words in LABEL_WORDS.items())


def test_targets_in_words() -> None:
    assert target_words(TARGET) == "ONNX Runtime, CPU, 1 thread, batch 1"
    assert target_words("onnxruntime-cpu-4t-b16") == "ONNX Runtime, CPU, 4 threads, batch 16"
    assert target_words("torch-cuda-b1-fp16") == "torch, CUDA, batch 1, fp16"
    assert target_words("openvino-cpu-2t-b1-bf16") == "OpenVINO, CPU, 2 threads, batch 1, bf16"
    assert target_words("cpu-b1") == "the fastest target, CPU, batch 1"
    assert target_words("cuda-b8") == "the fastest target, CUDA, batch 8"
    with pytest.raises(RecipeError, match="target 'onnxruntime-cpu' is not of the form"):
        target_words("onnxruntime-cpu")


def test_frames_per_second_counts_the_batch() -> None:
    latency = Quantity("latency_ms", 4.0, "ms", How.MEASURED, target="onnxruntime-cpu-2t-b16")
    assert frames_per_second(latency) == pytest.approx(1000 * 16 / 4)
    assert frames_per_second(replace(latency, target="cpu-b16")) == pytest.approx(1000 * 16 / 4)
    with pytest.raises(ValueError, match="need a latency on a target, but got macs"):
        frames_per_second(Quantity("macs", 1.0, "MAC", How.COUNTED))
    with pytest.raises(ValueError, match="need a latency on a target, but got latency_ms"):
        frames_per_second(Quantity("latency_ms", 4.0, "ms", How.MEASURED))

"""Requests and answers as they go over the network: there and back, and refused where they are none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from remote_agents import SHORT, TARGET

from nas.errors import ArtifactError, DataError, MeasureError, NasError, UnsupportedError
from nas.measure.clock import summarise
from nas.measure.latency import Reading
from nas.measure.protocol import Answer, Describe, Interleave, Measure, Outputs, Turns
from nas.measure.quiet import Surroundings
from nas.measure.remote.frame import pack
from nas.measure.remote.wire import (
    LONGEST_MS,
    Outgoing,
    RemoteRequest,
    StartAnew,
    Startup,
    named_blobs,
    pack_answer,
    read_answer,
    read_request,
)
from nas.measure.window import Window
from nas.outcome import How, Quantity
from nas.store import sha256_bytes

IMAGES = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4, 1)

MEASURE = Measure(b"model", TARGET, IMAGES, SHORT, overhead=False)
REQUESTS: list[RemoteRequest] = [
    Describe(TARGET),
    StartAnew(TARGET),
    Startup(b"model", TARGET, IMAGES),
    MEASURE,
    Outputs(b"model", TARGET, IMAGES.astype(np.float32), 7),
    Interleave((b"a", b"b", b"a"), TARGET, IMAGES, 5, SHORT),
]


def sent(request: RemoteRequest) -> tuple[dict[str, Any], dict[str, bytes]]:
    outgoing = Outgoing(request, sha256_bytes)
    return outgoing.data, outgoing.blobs


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: type(request).__name__)
def test_requests_come_back(request_: RemoteRequest) -> None:
    data, blobs = sent(request_)
    assert set(named_blobs(data)) == set(blobs)
    back = read_request(data, blobs.__getitem__)
    assert type(back) is type(request_)
    for name, value in vars(request_).items():
        if isinstance(value, np.ndarray):
            assert getattr(back, name).dtype == value.dtype
            assert np.array_equal(getattr(back, name), value)
        else:
            assert getattr(back, name) == value


@pytest.mark.parametrize(
    "changes",
    [
        {"ask": "exec"},
        {"target": "python-cpu-1t-b1"},
        {"images": {"sha256": "unknown", "dtype": "uint8", "shape": [1]}},
        {"images": {}},
        {"images": {"sha256": sha256_bytes(IMAGES.tobytes()), "dtype": "object", "shape": [3]}},
        {"images": {"sha256": sha256_bytes(IMAGES.tobytes()), "dtype": "uint8", "shape": [2**40]}},
        {"files": []},
        {"files": ["../../etc/passwd"]},
        {"policy": {}},
        {"policy": {"warmup_ms": 0, "minimum_samples": 20, "minimum_ms": 0, "maximum_ms": 2 * LONGEST_MS}},
        {"policy": {"warmup_ms": 0, "minimum_samples": 20, "minimum_ms": 0, "maximum_ms": float("nan")}},
        {"policy": {"warmup_ms": 0, "minimum_samples": 10**12, "minimum_ms": 0, "maximum_ms": 1}},
        {"policy": {"warmup_ms": -1, "minimum_samples": 20, "minimum_ms": 0, "maximum_ms": 1}},
        {"ask": "turns", "rounds": 10**9},
        {"ask": "outputs", "batch": 0},
        {"ask": "outputs", "batch": True},
    ],
)
def test_what_is_no_request_is_refused(changes: dict[str, Any]) -> None:
    data, blobs = sent(MEASURE)
    with pytest.raises((KeyError, TypeError, ValueError, NasError)):
        read_request({**data, **changes}, blobs.__getitem__)


def reading() -> Reading:
    samples = np.arange(100, 200, dtype=np.int64)
    around = Surroundings(1.5, busy_cores=0.1, waited=0.25, mhz=2400.0)
    window = Window(samples, summarise(samples, TARGET.batch), around)
    return Reading(TARGET, window, 2, 1, (0, 1), 0.25, {"graph": True})


def answered(request: RemoteRequest, value: Any) -> Any:
    answer = read_answer(request, pack_answer(Answer(value)))
    assert answer.error is None
    assert not answer.bug
    return answer.value


def test_a_reading_comes_back() -> None:
    back, here = answered(MEASURE, reading()), reading()
    assert back.quantity("id") == here.quantity("id")
    assert np.array_equal(back.samples_ms, here.samples_ms)
    assert replace(back, window=here.window) == here
    assert back.window.surroundings == here.window.surroundings


def test_the_other_answers_come_back() -> None:
    assert answered(Describe(TARGET), {"onnxruntime": "1"}) == {"onnxruntime": "1"}
    assert answered(StartAnew(TARGET), None) is None
    outputs = np.linspace(0, 1, 6, dtype=np.float32).reshape(2, 3)
    assert np.array_equal(answered(REQUESTS[4], outputs), outputs)
    pair = tuple(Quantity(name, 1.5, "ms", How.MEASURED, TARGET.name) for name in ("load_ms", "peak_memory_bytes"))
    assert answered(REQUESTS[2], pair) == pair


def test_turns_come_back() -> None:
    request = Interleave((b"a", b"b"), TARGET, IMAGES, 3, SHORT)
    samples = tuple(tuple(np.arange(6 + model + turn) for turn in range(3)) for model in range(2))
    back = answered(request, Turns(samples, ((), ("pace", "load"), ())))
    assert back.troubles == ((), ("pace", "load"), ())
    assert [[taken.tolist() for taken in model] for model in back.samples_ns] == [
        [taken.tolist() for taken in model] for model in samples
    ]
    with pytest.raises(ValueError, match="are not 4 of each model"):
        answered(replace(request, rounds=4), Turns(samples, ((), (), ())))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ArtifactError("no", "hint"), ArtifactError),
        (UnsupportedError("no", "hint"), UnsupportedError),
        (MeasureError("no", "hint"), MeasureError),
        (DataError("no", "hint"), MeasureError),
    ],
)
def test_errors_come_back_by_their_kind(error: NasError, kind: type[NasError]) -> None:
    back = read_answer(MEASURE, pack_answer(Answer(error=error))).error
    assert type(back) is kind
    assert (back.message, back.hint) == ("no", "hint")
    assert read_answer(MEASURE, pack_answer(Answer(bug="Traceback"))).bug == "Traceback"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        pack({}),
        pack({"error": {}}),
        pack({"error": "text"}),
        pack({"windows": 1}, [np.arange(100)]),
        pack({"surroundings": {"unknown": 1}}, [np.arange(1, 100)]),
        pack({"surroundings": {}}, [np.arange(1, 3)]),
    ],
)
def test_what_is_no_answer_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_answer(MEASURE, content)

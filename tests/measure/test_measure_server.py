"""What the measuring process answers, asked in this process, with a runtime that the test decides."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby

import numpy as np
import pytest
from fake_measuring import FakeRuntime, FakeWatch

from nas.errors import ArtifactError, MeasureError, NasError, UnsupportedError
from nas.lease import PATIENCE_S
from nas.measure import server as module
from nas.measure.clock import Policy
from nas.measure.latency import Reading
from nas.measure.protocol import Alive, Answer, Describe, Interleave, Measure, Outputs, Request, Turns
from nas.measure.quiet import Surroundings
from nas.measure.runtimes.base import Missing
from nas.measure.server import FUTILE, KEPT_SESSIONS, OVERHEAD_MS, OVERHEAD_TRIES, Server
from nas.measure.window import MAXIMUM_WINDOWS, PART_MS
from nas.target import Target

TARGET = Target.parse("onnxruntime-cpu-1t-b1")
IMAGES = np.arange(12, dtype=np.uint8).reshape(1, 3, 4)
POLICY = Policy(warmup_ms=0, minimum_samples=6, minimum_ms=0, maximum_ms=10)
TURN = Policy(warmup_ms=0, minimum_samples=6, minimum_ms=0, maximum_ms=10)


class Case:
    """A server with a fake runtime; what happens in it, and what it says meanwhile, in one log."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *surroundings: Surroundings) -> None:
        self.log: list[str] = []
        self.said: list[Alive] = []
        self.runtime = FakeRuntime(self.log)
        self.server = Server(self.said.append)
        self.server.watch = FakeWatch(*surroundings)
        self.server.runtimes["onnxruntime"] = self.runtime
        for name in ("measuring", "working"):
            monkeypatch.setattr(module, name, lambda name=name: self._lease(name))

    @contextmanager
    def _lease(self, name: str) -> Iterator[None]:
        self.log.append(f"{name} begins")
        yield
        self.log.append(f"{name} ends")

    def ask(self, request: Request) -> object:
        answer = self.server.answer(request)
        assert (answer.error, answer.bug) == (None, "")
        return answer.value

    def measure(self, name: str, images: np.ndarray = IMAGES, overhead: bool = False) -> Reading:
        reading = self.ask(Measure(name.encode(), TARGET, images, POLICY, overhead))
        assert isinstance(reading, Reading)
        return reading

    def error(self, request: Request) -> NasError:
        answer = self.server.answer(request)
        assert answer.value is None
        assert answer.error is not None
        return answer.error

    @property
    def events(self) -> list[str]:
        """The log without repetitions."""
        return [event for event, _ in groupby(self.log)]


@pytest.fixture
def case(monkeypatch: pytest.MonkeyPatch) -> Case:
    return Case(monkeypatch)


def test_the_environment_is_the_runtimes_word(case: Case) -> None:
    assert case.ask(Describe(TARGET)) == {"fake": "1.0"}


def test_the_machine_is_taken_for_sampling_alone(case: Case) -> None:
    case.measure("a")
    assert case.events == ["load a", "prepare a", "measuring begins", "time a", "measuring ends"]


def test_models_stay_loaded_and_the_one_longest_unused_goes(case: Case) -> None:
    assert KEPT_SESSIONS == 2
    for name in ("a", "b", "a", "c", "a", "b"):
        case.measure(name)
    assert [event for event in case.log if event.startswith(("load", "close"))] == [
        *("load a", "load b"),
        *("close b", "load c"),  # a was used after b
        *("close c", "load b"),
    ]


def test_one_model_on_two_targets_is_loaded_twice(case: Case) -> None:
    case.measure("a")
    case.ask(Measure(b"a", Target.parse("onnxruntime-cpu-1t-b2"), IMAGES.repeat(2, axis=0), POLICY, overhead=False))
    assert case.log.count("load a") == 2


def test_a_measured_model_is_scored_without_being_loaded_again(case: Case) -> None:
    case.measure("a")
    case.ask(Outputs(b"a", TARGET, IMAGES, 8))
    assert case.log.count("load a") == 1


def test_a_model_that_does_not_load_is_not_kept(case: Case) -> None:
    request = Measure(b"broken", TARGET, IMAGES, POLICY)
    for _ in range(2):
        error = case.error(request)
        assert isinstance(error, ArtifactError)
        assert (error.message, error.hint) == ("the model is broken", "mend it")
    assert case.log == ["load broken"] * 2


def test_the_cost_of_a_call_is_measured_once_for_a_target_and_shape(case: Case) -> None:
    readings = [case.measure(name, overhead=True) for name in ("a", "b", "a")]
    assert [reading.overhead_ms for reading in readings] == [1.0] * 3
    assert (case.log.count("load identity"), case.log.count("close identity")) == (1, 1)
    case.measure("a", IMAGES[:, :2], overhead=True)
    assert case.log.count("load identity") == 2
    case.measure("a", IMAGES.astype(np.float32), overhead=True)
    assert case.log.count("load identity") == 3


def test_the_cost_of_a_call_is_measured_again_while_it_was_disturbed(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(monkeypatch, Surroundings(busy_cores=1.0))
    for _ in range(OVERHEAD_TRIES + 2):
        case.measure("a", overhead=True)
    assert case.log.count("load identity") == OVERHEAD_TRIES


def test_the_cost_of_a_call_is_measured_in_a_short_window(case: Case) -> None:
    policy = Policy(warmup_ms=0, minimum_samples=6, minimum_ms=300, maximum_ms=3000)
    case.ask(Measure(b"a", TARGET, IMAGES, policy))
    # Each part begins with a call that does not count, and there are no half ones.
    assert case.log.count("time identity") == math.ceil(OVERHEAD_MS / PART_MS) * (1 + PART_MS)
    assert case.log.count("time a") == 300 / PART_MS * (1 + PART_MS)


def test_the_cost_of_a_call_is_left_out_where_it_is_not_asked_for(case: Case) -> None:
    assert case.measure("a", overhead=False).overhead_ms is None
    assert "load identity" not in case.log


def test_the_reading_names_the_cores(case: Case) -> None:
    assert case.measure("a").cores == (max(case.server.usable),)


def test_outputs_come_in_batches_and_as_one_array(case: Case) -> None:
    images = np.arange(7 * 4, dtype=np.uint8).reshape(7, 2, 2)
    outputs = case.ask(Outputs(b"a", TARGET, images, 3))
    assert isinstance(outputs, np.ndarray)
    np.testing.assert_array_equal(outputs, images.reshape(7, 4))
    assert case.events == ["load a", *["working begins", "run a", "working ends"] * 3]


def test_models_take_turns(case: Case) -> None:
    turns = case.ask(Interleave((b"A", b"B", b"C"), TARGET, IMAGES, 4, TURN))
    assert isinstance(turns, Turns)
    assert [event for event in case.events if event.startswith("time")] == ["time A", "time B", "time C"] * 4
    assert [len(taken) for taken in turns.samples_ns] == [4, 4, 4]
    assert all(samples.tolist() == [1_000_000] * 6 for taken in turns.samples_ns for samples in taken)
    ready, sampled, left = case.events[:6], case.events[6:-3], case.events[-3:]
    assert ready == [*("load A", "load B", "load C"), *("prepare A", "prepare B", "prepare C")]
    assert (sampled[0], sampled[-1]) == ("measuring begins", "measuring ends")
    assert left == ["close A", "close B", "close C"]


def test_each_round_of_turns_tells_what_disturbed_it(monkeypatch: pytest.MonkeyPatch) -> None:
    quiet, busy = Surroundings(), Surroundings(2.0, busy_cores=1.0)
    case = Case(monkeypatch, quiet, busy, quiet)
    turns = case.ask(Interleave((b"A", b"B"), TARGET, IMAGES, 3, TURN))
    assert isinstance(turns, Turns)
    assert turns.troubles == ((), ("pace", "load"), ())


def test_turns_with_a_model_that_does_not_load_leave_nothing_loaded(case: Case) -> None:
    assert isinstance(case.error(Interleave((b"A", b"broken"), TARGET, IMAGES, 3, TURN)), ArtifactError)
    assert case.log == ["load A", "load broken", "close A"]


WAITS, GOES_ON = Alive(PATIENCE_S + 60), Alive()


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        pytest.param(Measure(b"a", TARGET, IMAGES, POLICY, overhead=False), [GOES_ON, WAITS, GOES_ON], id="latency"),
        pytest.param(
            Measure(b"a", TARGET, IMAGES, POLICY), [GOES_ON, *[WAITS, GOES_ON] * 2], id="and the cost of a call"
        ),
        pytest.param(Outputs(b"a", TARGET, IMAGES.repeat(3, 0), 1), [WAITS, GOES_ON] * 3, id="outputs, each batch"),
        pytest.param(
            Interleave((b"A", b"B"), TARGET, IMAGES, 3, TURN),
            [GOES_ON, GOES_ON, WAITS, GOES_ON, *[GOES_ON] * 3],
            id="turns: each model loaded, each round",
        ),
        pytest.param(Describe(TARGET), [], id="environment"),
    ],
)
def test_the_other_end_hears_when_others_are_waited_for_and_what_gets_on(
    case: Case, request_: Request, said: list[Alive]
) -> None:
    case.ask(request_)
    assert case.said == said


def test_a_machine_that_others_keep_is_no_fault_of_the_model(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def never() -> Iterator[None]:
        raise MeasureError("another process works", "end it")
        yield

    monkeypatch.setattr(module, "measuring", never)
    error = case.error(Measure(b"a", TARGET, IMAGES, POLICY))
    assert isinstance(error, MeasureError)
    assert error.hint == "end it"


def test_what_is_missing_is_unsupported(case: Case) -> None:
    case.runtime.absent = Missing("Fake is not installed", "pip install fake")
    error = case.error(Describe(TARGET))
    assert isinstance(error, UnsupportedError)
    assert (error.message, error.hint) == ("Fake is not installed", "pip install fake")


@pytest.mark.parametrize("threads", [2, None])
def test_a_runtime_that_takes_other_threads_is_refused(case: Case, threads: int | None) -> None:
    case.runtime.threads = threads
    error = case.error(Measure(b"a", TARGET, IMAGES, POLICY))
    assert isinstance(error, UnsupportedError)
    assert error.message == f"ONNX Runtime runs with {threads} threads where 'onnxruntime-cpu-1t-b1' was asked for"
    assert case.log == ["load a", "close a"]


def test_a_bug_is_told_with_its_traceback(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(content: bytes, target: Target) -> None:
        raise KeyError("no such field")

    monkeypatch.setattr(case.runtime, "load", fails)
    answer = case.server.answer(Measure(b"a", TARGET, IMAGES, POLICY))
    assert (answer.value, answer.error) == (None, None)
    assert "Traceback" in answer.bug
    assert "KeyError: 'no such field'" in answer.bug


def test_too_little_memory_is_the_machines_fault(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(content: bytes, target: Target) -> None:
        raise MemoryError

    monkeypatch.setattr(case.runtime, "load", fails)
    answer = case.server.answer(Measure(b"a", TARGET, IMAGES, POLICY))
    assert answer == Answer(error=answer.error)
    assert isinstance(answer.error, MeasureError)
    assert "not enough memory" in str(answer.error)


def test_on_a_busy_machine_windows_are_not_taken_again_until_one_is_undisturbed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    busy, quiet = Surroundings(busy_cores=1.0), Surroundings()
    case = Case(monkeypatch, *[busy] * (FUTILE * MAXIMUM_WINDOWS + 2), quiet, busy, busy, busy)
    taken = [case.measure(name).windows for name in "abcdefghi"]
    assert taken[:FUTILE] == [MAXIMUM_WINDOWS] * FUTILE
    assert taken[FUTILE : FUTILE + 3] == [1, 1, 1], "two disturbed ones and the first that is not"
    assert taken[FUTILE + 3] == MAXIMUM_WINDOWS

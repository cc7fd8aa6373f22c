"""The queue: in order, one at a time, each number once, and nothing for those who are gone."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from nas.measure.remote.jobs import ABANDONED_SECONDS, MOST_JOBS, FullError, Jobs


class Bench:
    """Does jobs when the test lets it, with a clock that the test sets."""

    def __init__(self) -> None:
        self.time = 0.0
        self.done: list[str] = []
        self.released: list[str] = []
        self.cancelled = 0
        self.begun = threading.Semaphore(0)
        self.go = threading.Semaphore(0)
        self.jobs = Jobs(self.run, self.cancel, self.release, lambda: self.time)

    def run(self, data: Mapping[str, Any]) -> bytes:
        self.begun.release()
        assert self.go.acquire(timeout=60)
        self.done.append(data["name"])
        return str(data["name"]).encode()

    def cancel(self) -> None:
        self.cancelled += 1
        self.go.release()

    def release(self, blobs: Sequence[str]) -> None:
        self.released += blobs

    def add(self, name: str) -> bool:
        return self.jobs.add(name, {"name": name}, [f"blob of {name}"])

    def finish(self, name: str) -> bytes:
        self.go.release()
        job = self.jobs.wait(name, 60)
        assert job is not None
        assert job.answer is not None
        return job.answer


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    for _ in range(MOST_JOBS):
        bench.go.release()
    bench.jobs.close()


def test_jobs_are_done_in_order_one_at_a_time(bench: Bench) -> None:
    for name in "abc":
        assert bench.add(name)
    assert bench.begun.acquire(timeout=60)
    assert not bench.begun.acquire(blocking=False)
    assert [bench.finish(name) for name in "abc"] == [b"a", b"b", b"c"]
    assert bench.done == ["a", "b", "c"]
    assert bench.jobs.done == 3
    assert bench.released == ["blob of a", "blob of b", "blob of c"]


def test_a_number_that_is_given_again_is_not_done_again(bench: Bench) -> None:
    assert bench.add("a")
    assert not bench.add("a")
    assert bench.finish("a") == b"a"
    assert not bench.add("a")
    assert bench.jobs.known("a")
    bench.jobs.drop("a")
    assert not bench.jobs.known("a")
    assert bench.done == ["a"]


def test_waiting_ends_after_its_time(bench: Bench) -> None:
    bench.add("a")
    job = bench.jobs.wait("a", 0)
    assert job is not None
    assert job.answer is None
    assert bench.jobs.wait("never asked", 0) is None


def test_what_nobody_wants_is_ended_or_never_begun(bench: Bench) -> None:
    bench.add("runs")
    assert bench.begun.acquire(timeout=60)
    bench.add("waits")
    bench.jobs.drop("waits")
    assert bench.released == ["blob of waits"]
    assert bench.cancelled == 0
    bench.jobs.drop("runs")
    assert bench.cancelled == 1
    bench.add("next")
    assert bench.finish("next") == b"next"
    assert bench.done == ["runs", "next"]


def test_what_was_dropped_as_it_began_is_ended_when_another_asks(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.add("runs")
    assert bench.begun.acquire(timeout=60)
    release, calls = bench.go.release, []
    monkeypatch.setattr(bench.go, "release", lambda: calls.append(0))  # the first end comes too early
    bench.jobs.drop("runs")
    assert calls == [0]
    monkeypatch.setattr(bench.go, "release", release)
    bench.add("next")
    assert bench.cancelled == 2
    assert bench.finish("next") == b"next"


def test_those_that_nobody_asks_for_any_more_make_room(bench: Bench) -> None:
    bench.add("runs")
    assert bench.begun.acquire(timeout=60)
    bench.add("waits")
    bench.time = ABANDONED_SECONDS - 1
    assert bench.jobs.known("waits")
    bench.time = ABANDONED_SECONDS + 1
    bench.add("next")
    assert bench.cancelled == 1
    assert bench.jobs.wait("runs", 0) is None
    assert bench.jobs.wait("waits", 0) is not None


def test_no_more_wait_than_may(bench: Bench) -> None:
    for number in range(MOST_JOBS):
        bench.add(str(number))
    with pytest.raises(FullError):
        bench.add("one more")
    assert not bench.add("0")  # which is there already


def test_the_end_wakes_whoever_waits(bench: Bench) -> None:
    bench.add("a")
    assert bench.begun.acquire(timeout=60)
    found: list[object] = []
    waiter = threading.Thread(target=lambda: found.append(bench.jobs.wait("a", 60)))
    waiter.start()
    bench.jobs.close()
    waiter.join(60)
    assert found == [None]
    assert bench.cancelled == 1
    with pytest.raises(FullError):
        bench.add("b")

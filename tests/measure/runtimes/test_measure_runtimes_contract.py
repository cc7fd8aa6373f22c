"""What every runtime owes, run for each of ``runtime_cases.CASES``; a runtime whose package is missing is skipped."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from runtime_cases import CASES, CLASSES, Case, make_images

from nas.errors import ArtifactError
from nas.measure.latency import cores_for, pinned
from nas.measure.runtimes.base import Runtime, Session
from nas.measure.runtimes.registry import load_runtime
from nas.target import RUNTIMES, Target, usable_cores

TASKS = Path("/proc/self/task")


ONE_THREAD = [case for case in CASES if Target.parse(case.target).threads == 1]


@pytest.fixture(params=CASES, ids=lambda case: case.target)
def case(request: pytest.FixtureRequest) -> Iterator[Case]:
    found: Case = request.param
    if found.package is not None:
        pytest.importorskip(found.package)
    if (Target.parse(found.target).threads or 1) > usable_cores():
        pytest.skip("the machine has fewer cores")
    threads = torch.get_num_threads()
    yield found
    torch.set_num_threads(threads)


@pytest.fixture
def target(case: Case) -> Target:
    return Target.parse(case.target)


@pytest.fixture
def runtime(target: Target) -> Runtime:
    return load_runtime(target.runtime)


@pytest.fixture
def session(case: Case, target: Target, runtime: Runtime) -> Iterator[Session]:
    loaded = runtime.load(case.model(), target)
    yield loaded
    loaded.close()


def first_output(result: object) -> np.ndarray:
    """What a call gives is the runtime's own: an array, or several by position or by name."""
    while not isinstance(result, np.ndarray):
        assert isinstance(result, list | tuple | Mapping)
        result = next(iter(result.values())) if isinstance(result, Mapping) else result[0]
    return result


def test_every_runtime_that_runs_on_this_machine_is_here() -> None:
    """But for compilation by torch, which has a suite of its own."""
    assert {Target.parse(case.target).runtime for case in CASES} | {"inductor", "tensorrt"} == set(RUNTIMES)


def test_it_can_run_here_and_says_on_what(runtime: Runtime, target: Target) -> None:
    assert runtime.missing(target) is None
    environment = runtime.environment(target)
    assert environment
    for name, value in environment.items():
        assert name.strip()
        assert value.strip()
        assert "\n" not in value
    assert environment == runtime.environment(target)


def test_it_takes_any_number_of_images(session: Session, case: Case) -> None:
    images = make_images(7)
    expected = np.concatenate([session.run(images[i : i + 1]) for i in range(7)])
    assert expected.shape == (7, CLASSES)
    assert len(np.unique(expected.round(4), axis=0)) == 7, "else nothing below would be told apart"
    for count in (1, 2, 3, 4, 6, 7):
        np.testing.assert_allclose(session.run(images[:count]), expected[:count], atol=case.tolerance)


def test_it_gives_the_probabilities_of_the_model(session: Session) -> None:
    images = make_images(5)
    weight = np.linspace(-1, 1, 16 * CLASSES, dtype=np.float64).reshape(16, CLASSES)
    logits = images.reshape(5, 16).astype(np.float64) @ weight
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    np.testing.assert_allclose(session.run(images), exponentials / exponentials.sum(1, keepdims=True), atol=1e-5)


def test_a_call_computes_the_same_each_time(session: Session, target: Target, case: Case) -> None:
    images = make_images(target.batch, seed=3)
    expected = session.run(images)
    call = session.call(images)
    for _ in range(3):
        np.testing.assert_allclose(first_output(call()), expected, atol=case.tolerance)
    other = make_images(target.batch, seed=4)
    np.testing.assert_allclose(first_output(session.call(other)()), session.run(other), atol=case.tolerance)
    np.testing.assert_allclose(first_output(call()), expected, atol=case.tolerance, err_msg="of its own images")


def test_results_are_the_callers(session: Session) -> None:
    """A later run does not write over them."""
    first = session.run(make_images(2, seed=1))
    kept = first.copy()
    session.run(make_images(2, seed=2))
    np.testing.assert_array_equal(first, kept)


def test_views_and_arrays_that_cannot_be_written_are_taken(session: Session, case: Case) -> None:
    images = make_images(6)
    view = images[::2]
    frozen = view.copy()
    frozen.flags.writeable = False
    np.testing.assert_allclose(session.run(view), session.run(frozen), atol=case.tolerance)
    assert not frozen.flags.writeable


def test_two_loads_give_the_same_bits(session: Session, case: Case, target: Target, runtime: Runtime) -> None:
    images = make_images(4)
    other = runtime.load(case.model(), target)
    np.testing.assert_array_equal(session.run(images), other.run(images))
    other.close()
    assert session.run(images).shape == (4, CLASSES), "closing one leaves the other"


def test_a_call_is_timed(session: Session, target: Target) -> None:
    now = iter(range(0, 10_000, 7))
    timed = session.timed(session.call(make_images(target.batch)), lambda: next(now))
    assert target.device != "cpu" or [timed(), timed()] == [7, 7]


def test_a_model_that_computes_nothing(runtime: Runtime, target: Target) -> None:
    for images in (make_images(target.batch), np.linspace(0, 1, target.batch * 6, dtype=np.float32).reshape(-1, 2, 3)):
        nothing = runtime.load(runtime.identity(images), target)
        np.testing.assert_array_equal(nothing.run(images), images)
        np.testing.assert_array_equal(first_output(nothing.call(images)()), images)
        nothing.close()


# --- threads


def test_its_threads_are_the_targets(session: Session, target: Target) -> None:
    assert session.threads == target.threads


@pytest.mark.skipif(not TASKS.is_dir(), reason="threads are listed by Linux")
def test_all_of_its_threads_stay_on_the_targets_cores(session: Session, target: Target) -> None:
    call = session.call(make_images(target.batch))
    before = os.sched_getaffinity(0)
    cores = set(cores_for(target.threads, before))
    with pinned(cores):
        for _ in range(20):
            call()
        found = {int(task.name): os.sched_getaffinity(int(task.name)) for task in TASKS.iterdir()}
    assert {task: where for task, where in found.items() if where != cores} == {}
    assert os.sched_getaffinity(0) == before


@pytest.mark.parametrize("case", ONE_THREAD, ids=lambda case: case.target, indirect=True)
def test_with_one_thread_nothing_runs_beside_the_caller(session: Session, target: Target) -> None:
    """Helpers that wait by spinning would be taken for somebody else's work on the core that is measured on."""
    call = session.call(make_images(target.batch))
    call()
    process, thread = time.process_time(), time.thread_time()
    for _ in range(2000):
        call()
    own = time.thread_time() - thread
    beside = time.process_time() - process - own
    assert beside <= 0.1 * own + 0.01


# --- what is refused


@pytest.mark.parametrize(
    "images",
    [
        make_images(3).astype(np.float32),
        make_images(3).reshape(3, 2, 8, 1)[:, :, :6],
        make_images(3)[..., 0],
        make_images(0),
    ],
    ids=["type", "size", "dimension", "none"],
)
def test_images_of_another_kind_are_refused_in_a_line(session: Session, images: np.ndarray) -> None:
    with pytest.raises(ArtifactError, match=r"the model cannot be run") as caught:
        session.run(images)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    assert session.run(make_images(3)).shape == (3, CLASSES), "the session is still good"


def test_a_call_refuses_them_before_anything_is_timed(session: Session, target: Target) -> None:
    with pytest.raises(ArtifactError, match="the model cannot be run"):
        session.call(make_images(target.batch).astype(np.float32))


@pytest.mark.parametrize("content", [b"no model", b""], ids=["text", "empty"])
def test_what_is_no_model_is_refused_in_a_line(runtime: Runtime, target: Target, content: bytes) -> None:
    with pytest.raises(ArtifactError, match=r"cannot load the model|must have one input") as caught:
        runtime.load(content, target)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_model_of_several_inputs_is_refused(case: Case, runtime: Runtime, target: Target) -> None:
    if case.two_inputs is None:
        pytest.skip("the form has one input always")
    with pytest.raises(ArtifactError, match=r"the model must have one input, but has \w+, \w+"):
        runtime.load(case.two_inputs(), target)


# --- what is missing


@pytest.mark.parametrize("case", [case for case in CASES if case.package], ids=lambda case: case.target)
def test_a_package_that_is_missing_is_said_with_a_remedy(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    assert case.package is not None
    target = Target.parse(case.target)
    monkeypatch.setitem(sys.modules, case.package, None)
    missing = load_runtime(target.runtime).missing(target)
    assert missing is not None
    assert f"{target.kind.title} is not installed" in missing.message
    assert missing.hint == target.kind.install[target.device]


def test_each_runtime_is_made_anew_and_an_unknown_one_is_a_key_error() -> None:
    for name in RUNTIMES:
        assert load_runtime(name) is not load_runtime(name)
    with pytest.raises(KeyError, match="tpu"):
        load_runtime("tpu")

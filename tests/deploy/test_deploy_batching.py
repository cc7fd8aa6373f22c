"""Batches are what gathers while the network is busy; whoever finds it idle does not wait."""

from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest

from nas.deploy.batching import Batcher, BusyError
from nas.errors import ArtifactError


class Network:
    """Doubles its input, notes the size of each call, and holds a call until it is let go."""

    def __init__(self, held: bool = False) -> None:
        self.calls: list[int] = []
        self.started = threading.Event()
        self.go = threading.Event()
        if not held:
            self.go.set()

    def __call__(self, images: np.ndarray) -> np.ndarray:
        self.calls.append(len(images))
        self.started.set()
        assert self.go.wait(30)
        if (images < 0).any():
            raise ArtifactError("the network cannot be run")
        return 2 * images


def numbers(*values: int) -> np.ndarray:
    return np.array(values, np.float32)[:, np.newaxis]


async def until(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, 30)


def test_a_request_that_finds_it_idle_starts_at_once() -> None:
    network = Network()

    async def main() -> None:
        batcher = Batcher(network, 8)
        for value in range(3):
            assert (await batcher.classify(numbers(value))).tolist() == [[2 * value]]
        batcher.close()

    asyncio.run(main())
    assert network.calls == [1, 1, 1]


@pytest.mark.parametrize(("batch", "calls"), [(8, [1, 5]), (3, [1, 3, 2]), (1, [1] * 6)])
def test_what_comes_meanwhile_goes_together(batch: int, calls: list[int]) -> None:
    network = Network(held=True)

    async def main() -> list[np.ndarray]:
        batcher = Batcher(network, batch)
        first = asyncio.ensure_future(batcher.classify(numbers(0)))
        await asyncio.sleep(0)
        await until(network.started)
        others = [asyncio.ensure_future(batcher.classify(numbers(value))) for value in range(1, 6)]
        await asyncio.sleep(0)
        network.go.set()
        rows = list(await asyncio.gather(first, *others))
        assert batcher.answered == 6
        batcher.close()
        return rows

    assert [row.tolist() for row in asyncio.run(main())] == [[[2 * value]] for value in range(6)]
    assert network.calls == calls


def test_a_request_larger_than_a_batch_runs_in_parts_and_alone() -> None:
    network = Network(held=True)

    async def main() -> None:
        batcher = Batcher(network, 2)
        asked = [asyncio.ensure_future(batcher.classify(numbers(*v))) for v in ((0,), (1, 2, 3, 4, 5), (6,), (7,))]
        await asyncio.sleep(0)
        network.go.set()
        rows = await asyncio.gather(*asked)
        assert [row[:, 0].tolist() for row in rows] == [[0], [2, 4, 6, 8, 10], [12], [14]]
        batcher.close()

    asyncio.run(main())
    assert network.calls == [1, 2, 2, 1, 2]


def test_an_error_reaches_those_in_that_call_and_no_other() -> None:
    network = Network(held=True)

    async def main() -> None:
        batcher = Batcher(network, 2)
        asked = [asyncio.ensure_future(batcher.classify(numbers(value))) for value in (0, -1, 1, 2)]
        await asyncio.sleep(0)
        network.go.set()
        rows = await asyncio.gather(*asked, return_exceptions=True)
        assert [isinstance(row, ArtifactError) for row in rows] == [False, True, True, False]
        assert batcher.answered == 2
        batcher.close()

    asyncio.run(main())


def test_too_many_that_wait_are_told_so() -> None:
    network = Network(held=True)

    async def main() -> None:
        batcher = Batcher(network, 8, most_waiting=3)
        asked = [asyncio.ensure_future(batcher.classify(numbers(value))) for value in range(4)]
        await asyncio.sleep(0)
        with pytest.raises(BusyError, match="3 images are waiting already"):
            await batcher.classify(numbers(9))
        network.go.set()
        assert len(await asyncio.gather(*asked)) == 4
        assert (await batcher.classify(numbers(*range(10)))).shape == (10, 1)  # a large one finds room when it is idle
        batcher.close()

    asyncio.run(main())


def test_whoever_has_gone_is_not_answered() -> None:
    network = Network(held=True)

    async def main() -> None:
        batcher = Batcher(network, 8)
        first, second = (asyncio.ensure_future(batcher.classify(numbers(value))) for value in (1, 2))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        network.go.set()
        assert (await second).tolist() == [[4]]
        batcher.close()

    asyncio.run(main())

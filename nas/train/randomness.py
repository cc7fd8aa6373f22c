"""The random numbers of a training: each epoch's order and each step's draws by themselves.

They follow from the seed and the epoch's or step's number alone, not from what was drawn before, so that a training
that is taken up at any step draws what one in one go would have drawn.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


@contextmanager
def seeded(seed: int, threads: int) -> Iterator[torch.Generator]:
    """Runs a block with seeded random numbers and so many threads, and puts both back afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(seed)
            yield torch.Generator().manual_seed(seed)
    finally:
        torch.set_num_threads(before)


class Draws:
    """Random numbers of one training.

    Args:
        seed: What all of them follow from.
        device: Where the network trains; its layers (dropout) draw there.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self._seed = seed
        self._on_gpu = device.type == "cuda"
        self._generator = torch.Generator()

    def order(self, epoch: int, samples: int) -> Tensor:
        """The order in which an epoch, counted from 0, goes through the samples: a permutation of 0 to samples − 1."""
        return torch.randperm(samples, generator=self._generator.manual_seed(self._derived("order", epoch)))

    def step(self, step: int) -> torch.Generator:
        """Makes the global generators ready for a step, counted from 0, and gives one for its augmentation."""
        layers = self._derived("layers", step)
        # Not torch.manual_seed: it notes where it was called from for every GPU, which takes longer than a small step.
        torch.default_generator.manual_seed(layers)
        if self._on_gpu:
            torch.cuda.manual_seed(layers)
        return self._generator.manual_seed(self._derived("images", step))

    def _derived(self, purpose: str, number: int) -> int:
        """A seed of 64 bits; neighbouring numbers give unrelated ones."""
        text = f"{self._seed} {purpose} {number}"
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")

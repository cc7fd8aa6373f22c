"""A training gives the same weights, to the bit, in whatever process it runs: what ``nas reproduce`` rests on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from small_networks import ARCHITECTURES

from nas import data
from nas.data.normalise import normalisation_of
from nas.families import build
from nas.networks import save_network
from nas.recipe_sections import DataConfig, TrainingConfig
from nas.store import sha256_bytes
from nas.train import Numerics, TrainingData, seeded, train

HERE = Path(__file__).parent
ANOTHER = f"import sys; sys.path[:0] = sys.argv[1:]; from {Path(__file__).stem} import trained; print(*trained())"


def trained() -> list[str]:
    """Digests of the weights of a network with depthwise and gated convolutions, in both precisions and with one and
    two threads."""
    found = data.load(DataConfig(source="digits", train_limit=128))
    split, normalisation = found.train, normalisation_of(found.train.images, found.input)
    digits = TrainingData.from_arrays(split.images, split.labels, 10, found.input.layout, normalisation, "cpu")
    digests = []
    for precision in ("float32", "bfloat16"):
        for threads in (1, 2):
            with seeded(3, threads) as generator:
                network = build("mobilenet", ARCHITECTURES["mobilenet"], found.input.channels_first, 10)
                numerics = Numerics("cpu", precision, threads)
                train(network, digits, TrainingConfig(), numerics, 2, 0.01, generator)
            digests.append(sha256_bytes(save_network(network)))
    return digests


def test_another_process_trains_the_same_weights() -> None:
    environment = os.environ | {"PYTHONHASHSEED": "1"}  # by which Python's sets are ordered
    command = [sys.executable, "-W", "ignore", "-c", ANOTHER, str(HERE), str(HERE.parent)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    here = trained()
    assert done.stdout.split() == here
    assert here[0] != here[2], "another precision shows"

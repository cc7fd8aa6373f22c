"""How well designs are foreseen from a few trials, by choices alone and with what is known of their networks.

    python tests/benchmarks/cues.py            # of the 3,072 designs of digits_table.csv.gz; a minute
    python tests/benchmarks/cues.py 12 48      # after so many trials

After so many random trials the surrogates are asked about a thousand other designs. The columns: by which factor
latencies are off (the exponential of the root mean square of the logarithm's error), errors of classification likewise,
and how well each is ranked (Kendall's tau); medians of ten draws.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))  # as tests import benchmarks

from benchmarks.worlds import World, digits

from nas.report.agreement import kendall_tau
from nas.search.encoder import Encoder
from nas.surrogate.outlook import Outlook

TRIALS, ASKED, DRAWS = (12, 24, 48), 1000, 10
BEST = 0.999


def foreseen(world: World, encoder: Encoder, trials: int, seed: int, cued: bool) -> list[float]:
    """One draw: factors of latency and error, and both taus."""
    places = np.random.default_rng(seed).permutation(len(world.table))[: trials + ASKED]
    designs = [world.space.design(world.table.rows[place]) for place in places.tolist()]
    x, values = encoder.encode(designs), world.points()[places]
    assert world.facts is not None
    cues = world.facts.of(designs) if cued else None
    outlook = Outlook.fit(
        x[:trials],
        values[:trials],
        [True, False],
        cues=None if cues is None else cues[:trials],
        roles=world.facts.cues.roles if cued else None,
        costs=[None, "time"],
        encoding=encoder.encoding,
    )
    told, _ = outlook.interval(x[trials:], 0.0, None if cues is None else cues[trials:])
    found = values[trials:]
    off = (
        np.log(np.maximum(told[:, 1], 1e-6) / found[:, 1]),
        np.log((1 - np.minimum(told[:, 0], BEST)) / (1 - np.minimum(found[:, 0], BEST))),
    )
    factors = [float(np.exp(np.sqrt(np.mean(one**2)))) for one in off]
    return [*factors, *(kendall_tau(told[:, column], found[:, column]) or 0.0 for column in (1, 0))]


def main() -> None:
    world = digits()
    encoder = Encoder(world.space)
    print(f"{'trials':<8}{'known':<10}{'latency':>9}{'error':>9}{'tau':>14}{'tau':>9}")
    for trials in [int(text) for text in sys.argv[1:]] or TRIALS:
        for cued, words in ((False, "choices"), (True, "networks")):
            found = np.median([foreseen(world, encoder, trials, seed, cued) for seed in range(DRAWS)], axis=0)
            print(f"{trials:<8}{words:<10}{found[0]:>8.2f}x{found[1]:>8.2f}x{found[2]:>14.2f}{found[3]:>9.2f}")


if __name__ == "__main__":
    main()

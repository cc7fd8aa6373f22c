"""What a search knows of its designs, what of it surrogates are fitted on, and what was fitted before."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np

from nas.errors import SurrogateError
from nas.surrogate.cues import Cost, Role
from nas.surrogate.domain import Domain
from nas.surrogate.encode import Encoding
from nas.surrogate.evolve import ranked
from nas.surrogate.outlook import Outlook

# Parameters are sought again when the number of observations has grown by this factor, from so many on.
GROWTH, FIRST_SOUGHT = 1.15, 4
# A surrogate is conditioned on so many observations at most, of which this share are the best.
CONDITIONED_ON, BEST_SHARE = 250, 2 / 3
# Of a longer beginning so many observations, evenly spread over it, stand for all where parameters are sought.
BEGINNING = 600
# From so many own observations on those from elsewhere do not shape the kernel, only what it is conditioned on.
OWN_ENOUGH = 30
REMEMBERED = 64


@dataclass(frozen=True)
class History:
    """What is known.

    Args:
        positions: N×columns active rows of a domain.
        values: N×M objectives in own units; NaN where unknown.
        noise: N×M standard deviations; 0 for none.
        own: How many of the rows, from the first on, are the study's own; the others tell of it from elsewhere.
        violations: own×C, at most 0 where a constraint is met; NaN where unknown.
        pending: P×columns active rows that are being evaluated.
        taken: Keys of designs that are not to be proposed.
        within_reach: Of the rows from elsewhere those that are begun and may be finished; none where not given.
    """

    positions: np.ndarray
    values: np.ndarray
    noise: np.ndarray
    own: int
    violations: np.ndarray
    pending: np.ndarray
    taken: Collection[bytes]
    within_reach: np.ndarray | None = None


def sought_at(count: int) -> int:
    """How many observations, at most ``count``, parameters are sought on: grows in geometric steps."""
    at = FIRST_SOUGHT
    while (following := max(at + 1, int(at * GROWTH))) <= count:
        at = following
    return min(at, count)


def conditioned_on(quality: np.ndarray) -> np.ndarray:
    """Places of the observations that a surrogate is conditioned on, ascending; all of them while they are few.

    Else those of the first ranks, so that the front's surroundings are known in detail, and of the others every so
    many.

    Args:
        quality: N×M, more is better; NaN where unknown.
    """
    if len(quality) <= CONDITIONED_ON:
        return np.arange(len(quality))
    worst = np.nanmin(np.where(np.isfinite(quality), quality, np.nan), axis=0)
    order = ranked(np.where(np.isfinite(quality), quality, worst))
    count = int(CONDITIONED_ON * BEST_SHARE)
    rest = np.sort(order[count:])
    others = rest[np.linspace(0, len(rest) - 1, CONDITIONED_ON - count).astype(int)]
    return np.sort(np.concatenate([order[:count], others]))


# What follows depends on its arguments alone, so it is remembered for all samplers of the process.
_LOCK = threading.Lock()
_SOUGHT: OrderedDict[str, Outlook] = OrderedDict()
_WHOLES: OrderedDict[str, tuple[np.ndarray, dict[bytes, int], np.ndarray]] = OrderedDict()


@dataclass(frozen=True)
class Known:
    """What surrogates are fitted on, as numbers.

    Args:
        x: N×D encoded designs, the study's own first, in the order in which they ended; or what gives those at some
            places, as of a long study few are looked at.
        values: N×M objectives in own units; NaN where unknown.
        noise: N×M standard deviations; 0 for none.
        own: How many of the rows are the study's own.
        cues: See ``Outlook.fit``; or what gives them, as above.
        roles: See there.
        costs: See there.
    """

    x: np.ndarray | Callable[[np.ndarray], np.ndarray]
    values: np.ndarray
    noise: np.ndarray
    own: int
    cues: np.ndarray | Callable[[np.ndarray], np.ndarray] | None = None
    roles: Sequence[Role] | None = None
    costs: Sequence[Cost | None] | None = None

    def at(self, places: np.ndarray) -> LookedAt:
        """Some of it."""
        x = self.x(places) if callable(self.x) else self.x[places]
        cues = self.cues(places) if callable(self.cues) else None if self.cues is None else self.cues[places]
        return LookedAt(x, self.values[places], self.noise[places], cues, self.roles, self.costs)


@dataclass(frozen=True)
class LookedAt:
    """What is looked at of what is known; see there."""

    x: np.ndarray
    values: np.ndarray
    noise: np.ndarray
    cues: np.ndarray | None
    roles: Sequence[Role] | None
    costs: Sequence[Cost | None] | None


def surrogates(encoding: Encoding, known: Known, maximise: Sequence[bool], plain: bool = False) -> Outlook:
    """Surrogates whose parameters were sought on the history's beginning, conditioned on all that is known.

    So they need not be sought anew for every trial, and depend on the history alone.

    Raises:
        SurrogateError: No surrogate can be fitted.
    """
    beginning = np.arange(count := sought_at(known.own))
    if count > BEGINNING:
        beginning = np.linspace(0, count - 1, BEGINNING).astype(int)
    if known.own < OWN_ENOUGH:
        others = sought_at(len(known.values) - known.own)
        beginning = np.concatenate([beginning, np.arange(known.own, known.own + others)])
    try:
        found = _sought(encoding, known.at(beginning), maximise, plain)
    except SurrogateError:  # all the same at the beginning
        found = _sought(encoding, known.at(np.arange(len(known.values))), maximise, plain)
    kept = known.at(conditioned_on(known.values * np.where(np.asarray(maximise), 1.0, -1.0)))
    return found.updated(kept.x, kept.values, kept.noise, kept.cues)


def _sought(encoding: Encoding, known: LookedAt, maximise: Sequence[bool], plain: bool) -> Outlook:
    """Fitted surrogates."""
    digest = hashlib.sha256(
        repr((list(maximise), plain, encoding.columns, known.x.shape, known.roles, known.costs)).encode()
    )
    for part in (known.x, known.values, known.noise, *(() if known.cues is None else (known.cues,))):
        digest.update(np.ascontiguousarray(part).tobytes())
    key = digest.hexdigest()
    with _LOCK:
        if (found := _SOUGHT.get(key)) is not None:
            return found
    outlook = Outlook.fit(
        known.x,
        known.values,
        maximise,
        noise=known.noise,
        cues=known.cues,
        roles=known.roles,
        costs=known.costs,
        encoding=encoding,
        plain=plain,
    )
    outlook = outlook.unconditioned()  # kernels and axes are all that is asked of it; what it was fitted on is long
    with _LOCK:
        _SOUGHT[key] = outlook
        if len(_SOUGHT) > REMEMBERED:
            _SOUGHT.popitem(last=False)
    return outlook


def whole(domain: Domain) -> tuple[np.ndarray, dict[bytes, int], np.ndarray]:
    """All designs of a small domain: full rows, places by key, and encoded in single precision."""
    key = domain.label
    with _LOCK:
        if key is not None and (found := _WHOLES.get(key)) is not None:
            return found
    rows = domain.all()
    places = {own: place for place, own in enumerate(domain.keys(rows))}
    found_all = rows, places, domain.encode(rows).astype(np.float32)
    if key is not None:
        with _LOCK:
            _WHOLES[key] = found_all
            if len(_WHOLES) > 2:
                _WHOLES.popitem(last=False)
    return found_all

"""What else the machine did: read from a made-up /proc, and judged from counters that the test writes."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from nas.measure import quiet as module
from nas.measure.quiet import (
    BUSY_CORES,
    BUSY_SAME_CORES,
    FREQUENCY_CHANGE,
    WAITED,
    Busy,
    Counters,
    Look,
    Surroundings,
    Watch,
    core_seconds,
    joined,
)

TICKS = os.sysconf("SC_CLK_TCK")

# user nice system idle iowait irq softirq steal guest guest_nice
STAT = """cpu  99 99 99 99 99 99 99 99 99 99
cpu0 1000 200 300 9999 777 40 50 60 500 100
cpu1 10 0 0 9999 0 0 0 0 0 0
intr 12345 0 0
ctxt 1

cpufreq is no core
"""
CPUINFO = "processor\t: 0\ncpu MHz\t\t: 2600.125\n\nprocessor\t: 1\nmodel name\t: Some\ncpu MHz\t\t: 1300.5\n"


def write_proc(root: Path, stat: str = STAT, waited: str = "1000 2500000000 7\n", cpuinfo: str = CPUINFO) -> Path:
    (root / "thread-self").mkdir(parents=True)
    (root / "stat").write_text(stat)
    (root / "thread-self" / "schedstat").write_text(waited)
    (root / "cpuinfo").write_text(cpuinfo)
    return root


def on_cores(monkeypatch: pytest.MonkeyPatch, *cores: int) -> None:
    """As if this process were kept on these cores."""
    monkeypatch.setattr(module, "affinity", lambda: frozenset(cores))


def test_time_that_a_core_gave_to_anybody_counts_other_virtual_machines_but_not_idling(tmp_path: Path) -> None:
    """Guests' time (the last two) is a part of user time already; stolen time is not."""
    seconds = core_seconds(write_proc(tmp_path))
    assert seconds == {0: (1000 + 200 + 300 + 40 + 50 + 60) / TICKS, 1: 10 / TICKS}


def test_a_look_reads_the_systems_counters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_cores(monkeypatch, 1)
    look = Watch(lambda: 1.25, write_proc(tmp_path)).look()
    assert look.slowdown == 1.25
    for counters in (look.before, look.after):
        assert counters.core_seconds[1] == 10 / TICKS
        assert counters.waited_seconds == 2.5
        assert counters.mhz == 1300.5
    assert look.before.seconds <= look.after.seconds
    assert look.before.own_seconds <= look.after.own_seconds


def test_the_look_itself_is_in_no_window(tmp_path: Path) -> None:
    """The pace is work of our own, and it takes time: counters are read before it and after it."""
    root = write_proc(tmp_path)

    def pace() -> float:
        (root / "thread-self" / "schedstat").write_text("0 4000000000 0")
        return 1.0

    look = Watch(pace, root).look()
    assert (look.before.waited_seconds, look.after.waited_seconds) == (2.5, 4.0)


@pytest.mark.parametrize(
    ("stat", "waited", "cpuinfo"),
    [
        pytest.param("", "", "", id="empty files"),
        pytest.param("cpu0 1 2 3\n", "0\n", "processor\t: 7\ncpu MHz: 1\n", id="fewer fields, another core"),
        pytest.param("\n\n", "a b c", "processor\t: x\n", id="no numbers"),
        pytest.param(
            "cpu0 0 0 0 0 0 0 0 0\n", "0", "processor\t: 0\ncpu MHz\t: fast\n", id="a sandbox that counts nothing"
        ),
    ],
)
def test_what_the_system_does_not_say_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stat: str, waited: str, cpuinfo: str
) -> None:
    on_cores(monkeypatch, 0)
    watch = Watch(lambda: 1.0, write_proc(tmp_path, stat, waited, cpuinfo))
    around = watch.between(watch.look(), watch.look())
    assert (around.busy_cores, around.busy_same_cores, around.waited, around.mhz, around.mhz_change) == (None,) * 5
    assert around.troubles == ()


def test_without_proc_the_pace_alone_tells(tmp_path: Path) -> None:
    watch = Watch(lambda: 1.5, tmp_path / "absent")
    around = watch.between(watch.look(), watch.look())
    assert around == Surroundings(1.5)
    assert around.troubles == ("pace",)


BEGIN = Counters(10.0, 3.0, {0: 100.0, 1: 200.0}, 1.0, 2000.0)


def between(
    end: Counters, begin: Counters = BEGIN, usable: tuple[int, ...] = (0, 1), paces: tuple[float, float] = (1.0, 1.0)
) -> Surroundings:
    watch = Watch(lambda: 1.0)
    watch.usable = frozenset(usable)
    # What the looks' other ends hold must not matter.
    elsewhere = Counters(-1.0, 1e9, {0: -1e9}, 1e9, 1.0)
    return watch.between(Look(elsewhere, paces[0], begin), Look(end, paces[1], elsewhere))


def test_load_is_what_others_used_on_all_cores_and_on_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    on_cores(monkeypatch, 1)
    # 2 s, in which core 0 gave 1 s, core 1 gave 1.9 s, of which 1.6 s to us.
    around = between(Counters(12.0, 4.6, {0: 101.0, 1: 201.9}, 1.5, 2100.0))
    assert around.busy_cores == pytest.approx((1.0 + 1.9 - 1.6) / 2)
    assert around.busy_same_cores == pytest.approx((1.9 - 1.6) / 2)
    assert around.waited == pytest.approx(0.25)
    assert (around.mhz, around.mhz_change) == (2100.0, pytest.approx(0.05))


def test_load_on_our_cores_is_a_share_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    on_cores(monkeypatch, 0, 1)
    around = between(Counters(12.0, 3.0, {0: 101.0, 1: 202.0}))
    assert around.busy_cores == pytest.approx(1.5)
    assert around.busy_same_cores == pytest.approx(0.75)


def test_cores_that_we_may_not_use_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    on_cores(monkeypatch, 1)
    around = between(Counters(12.0, 3.0, {0: 102.0, 1: 200.0}), usable=(1,))
    assert (around.busy_cores, around.busy_same_cores) == (0.0, 0.0)


@pytest.mark.parametrize(("ticks", "counts"), [(0.5, False), (0.99, False), (1.5, True), (-1.0, False)])
def test_a_tick_that_may_be_nobodys_is_no_load(monkeypatch: pytest.MonkeyPatch, ticks: float, counts: bool) -> None:
    """In a window of two ticks, one of another process would be half a core: but it cannot be told from none."""
    on_cores(monkeypatch, 1)
    seconds = 2 / TICKS
    end = Counters(10 + seconds, 3.0 + seconds, {0: 100.0, 1: 200 + seconds + ticks / TICKS})
    around = between(end)
    assert around.busy_same_cores == (pytest.approx(ticks / 2) if counts else 0.0)
    assert around.busy_cores == 0.0  # of two cores, two ticks may be


def test_no_time_between_two_looks_tells_no_load() -> None:
    assert between(BEGIN, paces=(1.3, 1.2)) == Surroundings(1.3)


@pytest.mark.parametrize("paces", [(1.0, 1.4), (1.4, 1.0)])
def test_the_slower_pace_of_before_and_after_counts(paces: tuple[float, float]) -> None:
    end = replace(BEGIN, seconds=11.0)
    assert between(end, paces=paces).slowdown == 1.4


@pytest.mark.parametrize(
    ("surroundings", "troubles"),
    [
        (Surroundings(), ()),
        (Surroundings(1.10, BUSY_CORES, BUSY_SAME_CORES, WAITED, 2600.0, FREQUENCY_CHANGE), ()),
        (Surroundings(1.11), ("pace",)),
        (Surroundings(busy_cores=BUSY_CORES + 0.01), ("load",)),
        (Surroundings(busy_same_cores=BUSY_SAME_CORES + 0.01), ("same core",)),
        (Surroundings(waited=WAITED + 0.01), ("waited",)),
        (Surroundings(mhz=1.0, mhz_change=FREQUENCY_CHANGE + 0.01), ("frequency",)),
        (Surroundings(2.0, 2.0, 1.0, 1.0, 1.0, 1.0), ("pace", "load", "same core", "waited", "frequency")),
    ],
)
def test_exceeded_thresholds_are_named(surroundings: Surroundings, troubles: tuple[str, ...]) -> None:
    assert surroundings.troubles == troubles


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="the system has no /proc/stat")
def test_this_machine_is_looked_at() -> None:
    watch = Watch()
    first = watch.look()
    around = watch.between(first, watch.look())
    assert first.slowdown == 1.0
    assert around.slowdown >= 1.0
    assert around.busy_cores is None or around.busy_cores >= 0.0


def test_a_load_that_short_windows_are_too_short_to_tell_shows_in_several() -> None:
    """A tick in each window of 30 ms: of one it may be anybody's, of ten it is a third of a core."""
    tick = Busy(1 / TICKS, 0.03, 2)
    part = Surroundings(
        busy_cores=tick.busy, busy_same_cores=0.0, all_cores=tick, same_cores=replace(tick, seconds=0.0)
    )
    assert part.troubles == ()
    together = joined([part] * 10)
    assert together.busy_cores == pytest.approx(10 / TICKS / 0.3)
    assert together.troubles == ("load",)
    assert joined([part]).troubles == ()


def test_a_clock_that_drifts_slowly_shows_in_several_windows() -> None:
    parts = [Surroundings(mhz=2000.0 * 1.01**number, mhz_change=0.01) for number in range(8)]
    assert all(part.troubles == () for part in parts)
    assert joined(parts).troubles == ("frequency",)
    assert joined(parts).mhz == parts[-1].mhz


def test_of_several_windows_the_worst_is_told_and_nothing_of_what_none_knows() -> None:
    together = joined([Surroundings(1.2, waited=0.0), Surroundings(1.0, waited=0.5)])
    assert (together.slowdown, together.waited, together.busy_cores, together.mhz) == (1.2, 0.5, None, None)
    assert joined([Surroundings()]) == Surroundings()

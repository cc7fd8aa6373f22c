"""The page in a real browser: no console errors, cards, sliders that choose as the command does, ranges, keyboard."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import large_study
import pytest
from fakes import LATENCY, make_recipe, make_record, write_study
from test_report_page import EVIL

from nas.deploy import Limits, choose
from nas.errors import NothingFeasibleError
from nas.outcome import How, Outcome, Quantity, Reason
from nas.report.page import write_page
from nas.study import Study

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
if CHROMIUM is None:
    pytest.skip("no Chromium here: 'apt-get install chromium' brings it", allow_module_level=True)
playwright = pytest.importorskip("playwright.sync_api", reason="pip install 'nas-front[test]' brings playwright")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="pip install 'nas-front[test]' brings axe")

WIDE, PHONE = {"width": 1400, "height": 900}, {"width": 390, "height": 844}
LEAST_SCORE = 95
# How much a rule of axe counts by its impact, as in Lighthouse's score.
WEIGHTS = {None: 3, "minor": 1, "moderate": 3, "serious": 7, "critical": 10}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    # Chromium's own sandbox wants more than a container gives; the pages are ours.
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("browser") / "a study"
    return large_study.make(folder, trials=160, seed=4)


@pytest.fixture(scope="module")
def report(study: Study) -> Path:
    path = study.folder.path / "report.html"
    write_page(study, path)
    return path


class Opened:
    """A page in a browser, with all that it complained of and all that it fetched."""

    def __init__(self, browser: Any, path: Path, **context: Any) -> None:
        self.context = browser.new_context(**({"viewport": WIDE} | context))
        self.page = self.context.new_page()
        self.page.set_default_timeout(60_000)
        self.complaints: list[str] = []
        self.fetched: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.complaints.append("a dialog"), dialog.dismiss()))
        self.page.on("request", lambda request: self.fetched.append(request.url))
        self.page.goto(path.as_uri())

    def trial(self) -> int:
        """The trial whose card is open."""
        return int(self.page.locator("#card h2").inner_text().removeprefix("Trial "))

    def seen(self) -> None:
        """Scrolls through the page, so that all of it is drawn."""
        for fraction in range(0, 11):
            self.page.evaluate(f"scrollTo(0, document.documentElement.scrollHeight * {fraction} / 10)")
            self.page.wait_for_timeout(40)  # an animation frame or two: what is seen for the first time is drawn then
        self.page.evaluate("scrollTo(0, 0)")

    def set_range(self, selector: str, value: int) -> None:
        """Moves a range input, as a drag of its handle does."""
        script = "(e, v) => { e.value = v; e.dispatchEvent(new Event('input', {bubbles: true})); }"
        self.page.locator(selector).evaluate(script, value)

    def dimmed(self, selector: str) -> set[int]:
        found = self.page.locator(f"{selector}.dim").evaluate_all("all => all.map(e => Number(e.dataset.trial))")
        return set(found)


@pytest.fixture
def opened(browser: Any, report: Path) -> Iterator[Opened]:
    page = Opened(browser, report)
    yield page
    assert page.complaints == []
    page.context.close()


def test_it_loads_in_silence_and_fetches_nothing(opened: Opened, report: Path) -> None:
    opened.seen()
    for picture in ("scatter", "parallel", "flops", "history", "foreseen"):
        assert opened.page.locator(f"#{picture} svg path").count() > 10, picture
    assert opened.fetched == [report.as_uri()]


def test_what_an_outcome_is_can_be_told_by_the_shape_of_its_mark(opened: Opened, study: Study) -> None:
    opened.page.locator("[data-view=all]").click()
    paths = "(all) => all.map(e => [Number(e.dataset.trial), e.getAttribute('d').replace(/[\\d. -]+/g, '')])"
    shapes: dict[int, str] = dict(opened.page.locator("#scatter .mark").evaluate_all(paths))
    by_outcome: dict[Outcome, set[str]] = {}
    for number, shape in shapes.items():
        record = study.record(number)
        if record.origin != "baseline":
            by_outcome.setdefault(record.outcome, set()).add(shape)
    assert {Outcome.MEASURED, Outcome.SCREENED, Outcome.STOPPED} <= set(by_outcome)
    drawn = [shape for outcome, found in by_outcome.items() if outcome is not Outcome.MEASURED for shape in found]
    assert len(drawn) == len(set(drawn))
    assert not set(drawn) & by_outcome[Outcome.MEASURED]


def test_pointing_at_a_mark_tells_its_design_and_a_click_opens_its_card(opened: Opened, study: Study) -> None:
    number = study.front[-1].number
    mark = opened.page.locator(f"#scatter .mark.front[data-trial='{number}']")
    mark.hover(force=True)
    tip = opened.page.locator("#tip").inner_text()
    assert f"Trial {number}" in tip
    assert "on the front" in tip
    assert opened.trial() != number
    mark.click(force=True)
    assert opened.trial() == number
    card = opened.page.locator("#card").inner_text()
    record = study.record(number)
    for words in ("measured · 95 % interval", "counted", "train: loss", "realised", f"--trial {number}", "stem"):
        assert words in card
    assert f"sha256:{str(record.artifact_sha256)[:16]}" in card


def random_limits(study: Study, rng: random.Random) -> dict[str, float]:
    """Limits around the front's own values, often exactly one of them."""
    record, near = rng.choice(study.front), rng.choice((0.0, 0.0, 0.02, 0.3))
    drawn = {
        "maxLatencyMs": record.value(LATENCY) * (1 + rng.uniform(-near, near)),
        "minAccuracy": min(1.0, record.value("accuracy") * (1 + rng.uniform(-near, near))),
        "maxSizeBytes": int(rng.choice(study.front).value("size_bytes") * (1 + rng.uniform(-near, near))),
    }
    return {name: value for name, value in drawn.items() if rng.random() < 0.6}


def chosen(study: Study, limits: dict[str, float]) -> int | None:
    size = limits.get("maxSizeBytes")
    asked = Limits(limits.get("maxLatencyMs"), limits.get("minAccuracy"), None if size is None else int(size))
    try:
        return choose(study, asked).record.number
    except NothingFeasibleError:
        return None


def test_the_sliders_rule_is_the_commands(opened: Opened, study: Study) -> None:
    rng = random.Random(0)
    asked = [{}, *(random_limits(study, rng) for _ in range(300))]
    found = opened.page.evaluate("(all) => all.map((limits) => window.nasPick(limits).trial)", asked)
    assert found == [chosen(study, limits) for limits in asked]
    assert None in found
    assert len(set(found)) > 4


def test_of_a_tie_the_rule_takes_what_the_command_takes(browser: Any, tmp_path: Path) -> None:
    """A front whose members overlap everywhere, files whose order is not that of the latencies."""
    rng = random.Random(1)
    records = []
    for number in range(24):
        record = make_record(number, round(0.8 + 0.004 * number, 3), 0.1 + 0.001 * number)
        sizes = Quantity("size_bytes", rng.choice([1000, 2000, 3000, 4000]), "bytes", How.MEASURED)
        kept = tuple(q for q in record.quantities if q.name != "size_bytes")
        records.append(dataclasses.replace(record, quantities=(*kept, sizes)))
    study = write_study(tmp_path / "tied", records, make_recipe())
    write_page(study, tmp_path / "tied.html")
    page = Opened(browser, tmp_path / "tied.html")
    asked = [{}, *(random_limits(study, rng) for _ in range(300))]
    found = page.page.evaluate("(all) => all.map((limits) => window.nasPick(limits))", asked)
    assert [one["trial"] for one in found] == [chosen(study, limits) for limits in asked]
    assert any(one["trial"] != one["leader"] for one in found)
    page.context.close()


def picked_by(study: Study, command: str) -> int:
    """The trial that a command of the page picks."""
    program, verb, folder, *options = shlex.split(command)
    assert (program, verb, folder) == ("nas", "pick", str(study.folder.path))
    given = dict(zip(options[::2], options[1::2], strict=True))
    assert given.pop("--output") == "deploy"
    kinds: dict[str, Any] = {"max_latency_ms": float, "min_accuracy": float, "max_size_bytes": int}
    limits = {name: kind(given.pop(f"--{name.replace('_', '-')}", "0")) or None for name, kind in kinds.items()}
    assert given == {}
    return choose(study, Limits(**limits)).record.number


def test_a_slider_changes_the_pick_and_the_command_picks_it_too(opened: Opened, study: Study) -> None:
    page, seen = opened.page, set()
    for slider, limit in (("maxLatencyMs", "max_latency_ms"), ("minAccuracy", "min_accuracy")):
        page.locator("#pick-clear").click()
        for step in range(1, int(page.locator(f"#slider-{slider}").get_attribute("max")), 2):
            opened.set_range(f"#slider-{slider}", step)
            command = page.locator("#pick-command").inner_text()
            assert f"--{limit.replace('_', '-')} " in command
            shown = int(page.locator("#pick-result [data-pick]").get_attribute("data-pick"))
            assert shown == picked_by(study, command)
            seen.add(shown)
    assert len(seen) > 3
    assert page.locator("#scatter .flag").count() == 1
    page.locator("#pick-result [data-pick]").click()
    assert opened.trial() == shown


def test_a_limit_can_be_typed_and_one_that_nothing_meets_says_what_is_near(opened: Opened, study: Study) -> None:
    page = opened.page
    page.locator("#limit-minAccuracy").fill("0.9")
    assert picked_by(study, page.locator("#pick-command").inner_text()) == chosen(study, {"minAccuracy": 0.9})
    page.locator("#limit-maxLatencyMs").fill("0.0000001")
    assert "No design on the front keeps to these limits" in page.locator("#pick-result").inner_text()
    assert "comes nearest in latency" in page.locator("#pick-result").inner_text()
    page.locator("#limit-minAccuracy").fill("7")
    assert page.locator("#limit-minAccuracy").get_attribute("aria-invalid") is not None
    assert "--min-accuracy" not in page.locator("#pick-command").inner_text()


def test_a_cards_command_picks_that_very_design(opened: Opened, study: Study) -> None:
    commands = opened.page.evaluate("(all) => all.map(window.nasCommandFor)", [r.number for r in study.front])
    found = [(record.number, command) for record, command in zip(study.front, commands, strict=True) if command]
    assert len(found) >= len(study.front) / 2
    for number, command in found:
        assert picked_by(study, command) == number
    behind = next(record.number for record in study.measured if record not in study.front)
    assert opened.page.evaluate("window.nasCommandFor", behind) is None


def test_a_range_dims_what_lies_outside_it(opened: Opened, study: Study) -> None:
    page = opened.page
    page.locator("#parallel").scroll_into_view_if_needed()
    grip = page.locator(".axis[data-axis=accuracy] .grip")
    grip.scroll_into_view_if_needed()
    box = grip.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 4)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] * 0.4, steps=5)
    page.mouse.up()
    page.locator("#kept", has_text="within the range").wait_for()
    dimmed = opened.dimmed("#scatter .mark")
    bright = {record.number for record in study.measured} - dimmed
    assert dimmed
    assert bright
    worst = min(study.record(number).value("accuracy") for number in bright)
    assert all(study.record(n).value("accuracy") < worst for n in dimmed if study.record(n) in study.measured)
    front = {record.number for record in study.front}
    rows = opened.dimmed("#front-table tr")
    assert rows & front == dimmed & front
    opened.page.locator("#all-title").scroll_into_view_if_needed()
    page.locator("#all-table tbody tr.dim").first.wait_for()
    page.locator("#clear-ranges").click()
    page.locator("#kept", has_text="no range is set").wait_for()
    assert opened.dimmed("#scatter .mark") == set()
    assert page.locator("#all-table tbody tr.dim").count() == 0


def test_ranges_can_be_set_by_keyboard(opened: Opened, study: Study) -> None:
    page = opened.page
    page.locator("#parallel").scroll_into_view_if_needed()
    page.locator("summary", has_text="Set ranges by keyboard").press("Enter")
    lowest = page.locator(f"#ranges fieldset[data-axis='{LATENCY}'] input[data-end='0']")
    lowest.focus()
    for _ in range(30):
        page.keyboard.press("ArrowRight")
    page.locator("#kept", has_text="within the range").wait_for()
    limit = lowest.get_attribute("aria-valuetext")
    assert limit.endswith(" ms")
    bright = {record.number for record in study.measured} - opened.dimmed("#scatter .mark")
    assert 0 < len(bright) < len(study.measured)
    assert max(study.record(n).value(LATENCY) for n in bright) == pytest.approx(float(limit.split()[0]), rel=0.01)
    page.keyboard.press("Home")
    page.locator("#kept", has_text="no range is set").wait_for()


def test_the_front_can_be_walked_by_keyboard(opened: Opened, study: Study) -> None:
    page, front = opened.page, [record.number for record in study.front]
    page.locator("#scatter").focus()
    for _ in front:
        page.keyboard.press("ArrowLeft")
    for at, key in ((1, "ArrowRight"), (2, "ArrowRight"), (1, "ArrowLeft")):
        page.keyboard.press(key)
        assert opened.trial() == front[at]
        assert f"Trial {opened.trial()}" in page.locator("#said").inner_text()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "card"
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.id") == "scatter"


def test_every_control_is_reached_by_the_tab_key(opened: Opened) -> None:
    reached = set()
    for _ in range(60):
        opened.page.keyboard.press("Tab")
        reached.add(opened.page.evaluate("document.activeElement.id"))
    assert {"scatter", "colour", "slider-maxLatencyMs", "limit-minAccuracy", "pick-command"} <= reached


def test_points_are_coloured_by_any_choice(opened: Opened) -> None:
    page = opened.page
    names = page.locator("#colour option").evaluate_all("all => all.map(e => e.value)")
    assert {"precision", "choice:pruning ratio", "choice:weight bits"} <= set(names) or len(names) > 8
    looks = set()
    for name in names:
        page.locator("#colour").select_option(name)
        marks = page.locator("#scatter .mark.behind").evaluate_all(
            "all => all.map(e => e.style.getPropertyValue('--c'))"
        )
        assert all(marks), name
        looks.add(json.dumps(marks))
    assert len(looks) > len(names) / 2


def impact_of(rule: dict[str, Any]) -> str | None:
    """How grave a rule is: as it was found broken, or as its nodes' checks say."""
    checks = [check for node in rule["nodes"] for kind in ("any", "all", "none") for check in node[kind]]
    return rule["impact"] or max((check["impact"] for check in checks), key=list(WEIGHTS).index, default=None)


LOOKS = [("light", WIDE), ("dark", PHONE), ("dark", WIDE), ("light", PHONE)]


# Each colour scheme and each width once; all four pairs with NAS_SLOW=1.
@pytest.mark.parametrize(("scheme", "viewport"), LOOKS if os.environ.get("NAS_SLOW") == "1" else LOOKS[:2])
def test_it_is_accessible(browser: Any, report: Path, scheme: str, viewport: dict[str, int]) -> None:
    # The policy of the page lets no other script in, axe's neither.
    page = Opened(browser, report, color_scheme=scheme, viewport=viewport, bypass_csp=True)
    page.seen()
    for summary in page.page.locator("summary").all():
        if not summary.evaluate("e => e.parentElement.open"):
            summary.click()
    found = axe.Axe().run(page.page).response
    grave = [rule for rule in found["violations"] if rule["impact"] in ("serious", "critical")]
    assert [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in grave] == []
    # As Lighthouse scores: every rule counts by its impact, whether it holds or not.
    failed, passed = (sum(WEIGHTS[impact_of(rule)] for rule in found[kind]) for kind in ("violations", "passes"))
    assert 100 * passed / (passed + failed) >= LEAST_SCORE
    assert page.complaints == []
    page.context.close()


def test_a_phone_scrolls_up_and_down_alone(browser: Any, report: Path, study: Study) -> None:
    page = Opened(browser, report, viewport=PHONE, has_touch=True, is_mobile=True)
    page.seen()
    assert page.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    number = study.front[0].number
    page.page.locator(f"#front-table tr[data-trial='{number}'] button").tap()
    assert page.trial() == number
    page.page.locator("#card .close").tap()
    assert not page.page.locator("#card").is_visible()
    assert page.complaints == []
    page.context.close()


def test_it_prints(opened: Opened) -> None:
    opened.page.emulate_media(media="print", color_scheme="dark")
    assert not opened.page.locator("#sliders").is_visible()
    assert opened.page.locator("#scatter svg").is_visible()
    assert opened.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert opened.page.pdf(format="A4")[:5] == b"%PDF-"


def test_names_cannot_become_html_in_a_browser(browser: Any, tmp_path: Path) -> None:
    first = dataclasses.replace(make_record(0), notes=(EVIL,), environment={"cpu": EVIL})
    failed = dataclasses.replace(make_record(1, outcome=Outcome.FAILED), reason=Reason(EVIL, EVIL))
    recipe = make_recipe(data={"source": "digits", "class_names": [EVIL, "b"]})
    study = write_study(tmp_path / "<img src=x onerror=alert(1)>", [first, failed], recipe)
    write_page(study, tmp_path / "evil.html")
    page = Opened(browser, tmp_path / "evil.html")
    page.seen()
    assert "alert('x')" in page.page.locator("#card").inner_text()
    page.page.locator("#all-table button.open").last.click()
    assert "alert('x')" in page.page.locator("#card").inner_text()
    assert page.page.locator("img").count() == 0
    assert page.complaints == []
    page.context.close()


@pytest.mark.parametrize(
    "records",
    [
        [],
        [make_record(0)],
        [make_record(0), make_record(1)],
        [make_record(n, outcome=Outcome.FAILED) for n in range(3)],
        [make_record(0, 0.0, 0.1), make_record(1, 1.0, 0.1)],
    ],
    ids=["empty", "one trial", "two", "all failed", "the worst and the best"],
)
def test_small_studies_open_in_silence(browser: Any, tmp_path: Path, records: list) -> None:
    write_page(write_study(tmp_path / "small", records), tmp_path / "small.html")
    page = Opened(browser, tmp_path / "small.html")
    page.seen()
    assert page.complaints == []
    page.context.close()


def test_limits_that_no_trial_keeps_leave_a_page_without_a_pick(browser: Any, tmp_path: Path) -> None:
    study = write_study(tmp_path / "barred", [make_record(0)], make_recipe(constraints=[f"{LATENCY} <= 1e-6"]))
    write_page(study, tmp_path / "barred.html")
    page = Opened(browser, tmp_path / "barred.html")
    page.seen()
    assert page.page.locator("#pick").count() == 0
    assert page.complaints == []
    page.context.close()


@pytest.mark.long
def test_two_thousand_trials_open_within_two_seconds(browser: Any, tmp_path: Path) -> None:
    """By the processor time of the page's main thread: how busy the machine is does not count."""
    write_page(large_study.make(tmp_path / "large", trials=2000), tmp_path / "large.html")
    assert (tmp_path / "large.html").stat().st_size < 12_000_000
    context = browser.new_context(viewport=WIDE)
    page = context.new_page()
    session = context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    page.goto((tmp_path / "large.html").as_uri(), timeout=120_000)
    page.locator("#scatter .mark.front").first.wait_for()
    spent = {metric["name"]: metric["value"] for metric in session.send("Performance.getMetrics")["metrics"]}
    assert spent["TaskDuration"] < 2.0
    context.close()

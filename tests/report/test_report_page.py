"""The page is one file that fetches nothing, escapes every name, and holds all that the study holds."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from fakes import LATENCY, TARGET, make_design, make_recipe, make_record, write_study

from nas.describe import describe
from nas.design import Design
from nas.errors import StudyError
from nas.outcome import How, Outcome, Quantity, Realisation, Reason
from nas.record import StageResult
from nas.report.page import render_page, write_page
from nas.report.payload import embedded_json, page_data
from nas.study import Study, StudyFolder

SCRIPT = (Path(__file__).parents[2] / "nas" / "report" / "static" / "data.js").read_text()
FIELDS = re.findall(r'"(\w+)"', SCRIPT.partition("const FIELDS = [")[2].partition("];")[0])

EVIL = "</script><script>alert('x')</script><!--<img src=x onerror=alert(1)>&amp;\u2028"


class Page(HTMLParser):
    """What the tests look at: elements, scripts and visible text."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.text = ""
        self._open = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open = tag
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open == "script":
            attributes, text = self.scripts[-1]
            self.scripts[-1] = (attributes, text + data)
        elif self._open != "style":
            self.text += data

    @property
    def data(self) -> dict:
        return next(json.loads(text) for attributes, text in self.scripts if attributes.get("id") == "data")

    def meta(self, equivalent: str) -> str:
        return next(
            str(a["content"]) for tag, a in self.elements if tag == "meta" and a.get("http-equiv") == equivalent
        )


def make_study(folder: Path, **recipe) -> Study:
    records = [
        make_record(n, 0.6 + 0.04 * n, 0.01 * 1.6**n, environment={"cpu": "a cpu", "versions": {"x": "1"}})
        for n in range(8)
    ]
    records.append(make_record(8, 0.5, 0.5))
    records += [make_record(9 + n, outcome=Outcome.INFEASIBLE) for n in range(2)]
    records.append(make_record(11, outcome=Outcome.FAILED))
    records[-1] = dataclasses.replace(records[-1], reason=Reason("diverged", "the loss is NaN"))
    records.append(dataclasses.replace(records[3], number=12, outcome=Outcome.DUPLICATE, duplicate_of=3))
    return write_study(folder / "digits", records, make_recipe(**recipe) if recipe else None)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return make_study(tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def page(study: Study) -> Page:
    return Page(render_page(study))


def test_nothing_outside_the_file_is_named(page: Page) -> None:
    for tag, attributes in page.elements:
        assert tag not in ("link", "iframe", "img", "object", "embed", "base", "form")
        assert "src" not in attributes
        assert str(attributes.get("href", "#")).startswith("#")
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)


def test_styles_fetch_nothing(study: Study) -> None:
    style = re.search(r"<style>(.*?)</style>", render_page(study), re.DOTALL)
    assert style is not None
    assert "url(" not in style[1]
    assert "@import" not in style[1]


def test_the_policy_allows_these_scripts_and_no_network(page: Page) -> None:
    policy = dict(part.strip().split(" ", 1) for part in page.meta("Content-Security-Policy").split(";"))
    executed = [text for attributes, text in page.scripts if attributes.get("type") != "application/json"]
    digests = {f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in executed}
    assert len(executed) == 1
    assert set(policy["script-src"].split()) == digests
    assert policy["default-src"] == "'none'"
    assert "connect-src" not in policy


def test_the_data_is_all_there(study: Study, page: Page) -> None:
    data = page.data
    assert data == json.loads(json.dumps(page_data(study)))
    assert [row[0] for row in data["trials"]] == [record.number for record in study.records]
    assert data["front"] == [record.number for record in study.front]
    keys = [kind["key"] for kind in data["quantities"]]
    texts = data["texts"]
    for row, record in zip(data["trials"], study.records, strict=True):
        assert texts[row[1]] == str(record.outcome)
        assert row[3] == describe(record.design)
        values = {keys[packed[0]]: packed[1] for packed in row[5]}
        for quantity in record.quantities:
            assert values[quantity.key] == pytest.approx(quantity.value, rel=1e-5)
        assert [texts[stage[0]] for stage in row[7]] == [stage.stage for stage in record.stages]
        if record.reason:
            assert texts[row[9][0]] == record.reason.kind
            assert row[9][1] == record.reason.message
    assert data["trials"][-1][10] == 3


def test_intervals_and_details_come_with_their_numbers(study: Study, page: Page) -> None:
    data = page.data
    keys = [kind["key"] for kind in data["quantities"]]
    packed = next(q for q in data["trials"][0][5] if keys[q[0]] == LATENCY)
    latency = study.records[0].quantity(LATENCY)
    assert latency is not None
    assert data["texts"][packed[2]] == "measured"
    assert packed[3:5] == pytest.approx([latency.low, latency.high], rel=1e-5)
    detail = {data["texts"][name]: value for name, value in zip(packed[5][::2], packed[5][1::2], strict=True)}
    assert detail == pytest.approx(dict(latency.detail), rel=1e-5)


def test_hypervolume_history_never_falls(study: Study, page: Page) -> None:
    numbers, volumes, seconds = zip(*page.data["history"], strict=True)
    assert list(numbers) == [record.number for record in study.records]
    assert list(volumes) == sorted(volumes)
    assert volumes[-1] > 0
    assert list(seconds) == sorted(seconds)
    assert seconds[0] == 1.5  # the first trial's own


def test_front_and_reasons_can_be_read_without_scripts(study: Study, page: Page) -> None:
    for record in study.front:
        assert describe(record.design) in page.text
        assert ("tr", {"data-trial": str(record.number)}) in page.elements
    assert "the loss is NaN" in page.text
    assert "shrinks to nothing" in page.text
    assert "a cpu" in page.text
    assert "source: digits" in page.text
    assert f"nas pick {study.folder.path} --output deploy" in page.text
    assert "Each point is a network" in page.text


@pytest.fixture(scope="module")
def pruned(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A baseline off the front, and a trial that was pruned."""
    design = make_design(pruning_ratio=0.5, **{"stage1.weight_bits": 8})
    labels = {"pruning_ratio": Realisation.REALISED, "stage1.weight_bits": Realisation.SIMULATED}
    trial = make_record(1, 0.8, 0.1, design=design, uncompressed=(0.2, 4e6))
    records = [make_record(0, 0.5, 0.4, origin="baseline"), dataclasses.replace(trial, labels=labels)]
    return write_study(tmp_path_factory.mktemp("pruned") / "study", records)


def field(page: Page, row: list, name: str) -> Any:
    return row[FIELDS.index(name)]


def test_the_baseline_has_a_row_a_tile_and_a_star(pruned: Study) -> None:
    page = Page(render_page(pruned))
    assert page.data["baseline"] == 0
    assert page.data["front"] == [1]
    rows = [attributes["data-trial"] for tag, attributes in page.elements if tag == "tr" and "data-trial" in attributes]
    assert rows == ["1", "0"]
    assert "Baseline50.00 %at 0.400 ms, trial 0" in page.text
    assert "base: trial 0, the baseline" in page.text


def test_gains_are_told_of_every_trial(pruned: Study) -> None:
    page = Page(render_page(pruned))
    baseline, trial = page.data["trials"]
    assert field(page, baseline, "gains") == []
    assert field(page, trial, "gains") == [
        "4.0× faster than the baseline, 30 points more accurate (validation)",
        "MACs 4.0× fewer, 2.0× faster than uncompressed",
    ]


def test_labels_say_what_they_mean(pruned: Study) -> None:
    page = Page(render_page(pruned))
    texts = [page.data["texts"][position] for position in field(page, page.data["trials"][1], "labels")]
    assert texts == ["pruning ratio", "realised", "stage1 weight bits", "simulated (saves size, not time)"]


def test_quantities_of_the_uncompressed_network_and_of_test_data_are_no_axes(pruned: Study) -> None:
    kinds = {kind["key"]: kind for kind in Page(render_page(pruned)).data["quantities"]}
    assert not kinds["test_accuracy"]["axis"]
    before = kinds[f"uncompressed_{LATENCY}"]
    assert (before["axis"], before["unit"], before["title"]) == (False, "ms", "uncompressed latency")
    assert kinds["compressed_size_bytes"]["axis"]
    assert kinds[LATENCY]["axis"]


def test_the_compressed_size_is_always_a_column(study: Study, page: Page) -> None:
    headings = [attributes.get("data-key") for tag, attributes in page.elements if tag == "th"]
    assert "compressed_size_bytes" in headings
    assert page.data["baseline"] is None


@pytest.mark.parametrize(
    ("detail", "words"),
    [
        (
            {"widths": {"a": [8, 4], "b": [16, 16]}, "history": [1], "left": {"b": "is narrow"}},
            "channels a 8→4, b 16→16",
        ),
        ({"zeros": {"a": [9, 10]}, "judged_by_l1": [], "left": {}}, "zeros a 9 of 10"),
        ({"scales": {"a": 0.5, "b": 2}, "max_difference": 0.000123456}, "scales a 0.5, b 2; max difference 0.0001235"),
        ({"many": {str(n): n for n in range(99)}, "count": 3}, "count 3"),
    ],
)
def test_what_a_stage_did_is_told_in_words(tmp_path: Path, detail: dict, words: str) -> None:
    record = dataclasses.replace(make_record(0), stages=(StageResult("prune", "key", 1.0, False, detail),))
    data = page_data(write_study(tmp_path / "study", [record]))
    assert data["trials"][0][FIELDS.index("stages")][0][3] == words


def test_rows_can_be_opened_by_keyboard(page: Page) -> None:
    buttons = [attributes for tag, attributes in page.elements if tag == "button" and attributes.get("class") == "open"]
    assert any(str(attributes.get("aria-label", "")).startswith("Details of trial") for attributes in buttons)
    scatter = next(attributes for _, attributes in page.elements if attributes.get("id") == "scatter")
    assert scatter["tabindex"] == "0"


def test_fields_are_read_in_the_order_in_which_they_are_written(study: Study) -> None:
    assert len(FIELDS) == len(page_data(study)["trials"][0])


def test_names_cannot_become_html(tmp_path: Path) -> None:
    design = Design("convnet", {"stage1.conv": EVIL, "stages": 1}, {})
    first = dataclasses.replace(make_record(0, design=design), notes=(EVIL,), environment={"cpu": EVIL})
    failed = dataclasses.replace(make_record(1, outcome=Outcome.FAILED, design=design), reason=Reason(EVIL, EVIL))
    recipe = make_recipe(data={"source": "digits", "class_names": [EVIL, "b"]})
    study = write_study(tmp_path / "<img src=x onerror=alert(1)>", [first, failed], recipe)
    html = render_page(study)
    page = Page(html)
    assert len(page.scripts) == 2
    assert not any(tag == "img" for tag, _ in page.elements)
    assert html.count("</script>") == 2
    assert "<!--" not in html
    assert "alert('x')" in page.text  # shown, not run
    assert EVIL in page.data["texts"]


@pytest.mark.parametrize("character", ["<", ">", "&", "\u2028", "\u2029"])
def test_embedded_json_holds_no_dangerous_character(character: str) -> None:
    text = embedded_json({"a": f"x{character}y"})
    assert character not in text
    assert json.loads(text) == {"a": f"x{character}y"}


@pytest.mark.parametrize(
    ("records", "says"),
    [
        ([], "This study has no trials yet"),
        ([make_record(n, outcome=Outcome.FAILED) for n in range(3)], "None of 3 trials was measured"),
    ],
)
def test_a_study_without_measurements_has_no_pictures(tmp_path: Path, records: list, says: str) -> None:
    html = render_page(write_study(tmp_path / "none", records))
    assert says in Page(html).text
    assert len(html) < 200_000
    assert 'id="scatter"' not in html


def test_one_trial(tmp_path: Path) -> None:
    page = Page(render_page(write_study(tmp_path / "one", [make_record(0)])))
    assert page.data["front"] == [0]
    assert page.data["knee"] is None
    assert "1 trial of the convnet space" in page.text


def test_trials_that_all_break_a_constraint(tmp_path: Path) -> None:
    page = Page(render_page(make_study(tmp_path, constraints=[f"{LATENCY} <= 1e-6"])))
    assert page.data["front"] == []
    assert "none meets every constraint" in page.text
    assert {row[17] for row in page.data["trials"]} == {0, None}


@pytest.mark.parametrize("objectives", [["accuracy", "params", "size_bytes"], ["accuracy", LATENCY, "macs", "flops"]])
def test_more_objectives(tmp_path: Path, objectives: list[str]) -> None:
    page = Page(render_page(make_study(tmp_path, objectives=objectives)))
    assert page.data["objectives"] == objectives
    assert page.data["front"]


def test_two_thousand_trials_stay_small(tmp_path: Path) -> None:
    designs = [make_design(pruning_ratio=n / 100, weight_bits=8 if n % 3 else 32) for n in range(90)]
    records = [make_record(n, 0.5 + n % 97 / 200, 0.01 + n % 89 / 100, design=designs[n % 90]) for n in range(2000)]
    data = embedded_json(page_data(Study(StudyFolder(tmp_path), make_recipe(), records)))
    assert len(data) < 2_000_000


def test_written_where_it_was_asked_for(study: Study, tmp_path: Path) -> None:
    write_page(study, tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == render_page(study)
    (tmp_path / "file").touch()
    with pytest.raises(StudyError, match=r"report\.html cannot be written"):
        write_page(study, tmp_path / "file" / "report.html")


def test_importing_the_reports_is_cheap() -> None:
    code = (
        "import sys, nas.report.table, nas.report.files, nas.report.picture, nas.report.page\n"
        "print(*[m for m in ('torch', 'optuna', 'matplotlib', 'plotly', 'jinja2', 'onnxruntime') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_a_folder_whose_name_is_no_text_gets_a_page(tmp_path: Path) -> None:
    study = write_study(tmp_path / os.fsdecode(b"caf\xe9"), [make_record(0)])
    write_page(study, tmp_path / "page.html")
    assert r"caf\xe9" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_card_says_whom_a_design_learned_from(tmp_path: Path) -> None:
    """A trial, or the file that the recipe names."""
    taught = make_record(1, teacher="a digest", teacher_trial=0)
    for name, teacher, record, words in (
        ("own", None, taught, "trial 0"),
        ("given", {"path": "somewhere/big.onnx"}, dataclasses.replace(taught, teacher_trial=None), "big.onnx"),
    ):
        study = write_study(tmp_path / name, [make_record(0), record], make_recipe(teacher=teacher))
        data = page_data(study)
        position = FIELDS.index("teacher")
        assert data["trials"][0][position] is None
        assert data["texts"][data["trials"][1][position]] == words


def ranked(folder: Path, swapped: bool = True, count: int = 8, estimates: bool = False) -> Study:
    """Designs of which more FLOPs are slower, but for the first two where these are swapped."""
    records = []
    for n in range(count):
        latency = 0.1 * 1.5 ** ({0: 1, 1: 0}.get(n, n) if swapped else n)
        guess = Quantity("roofline_ms", 1.05 * latency, "ms", How.ESTIMATED, target=TARGET)
        record = make_record(n, 0.9, latency, design=make_design(pruning_ratio=n / 10))
        kept = tuple(q for q in record.quantities if q.name != "flops")
        more = (Quantity("flops", 1e6 * 2**n, "FLOP", How.COUNTED), *([guess] if estimates else []))
        records.append(dataclasses.replace(record, quantities=(*kept, *more)))
    return write_study(folder / "ranked", records)


def test_flops_stand_beside_latency_with_what_they_get_wrong(tmp_path: Path) -> None:
    page = Page(render_page(ranked(tmp_path)))
    text = " ".join(page.text.split())
    assert "Kendall's τ of FLOPs and latency is 0.93 over 8 designs: FLOPs put 1 of 28 pairs in the wrong order" in text
    assert "Trial 0 does 2.0× fewer FLOPs than trial 1, but is 1.5× slower: without pruned 10 %" in text
    assert "(1.00 M and 2.00 M FLOPs, 0.150 and 0.100 ms)" in text
    assert "Known without measuring" not in text
    assert page.data["flops"] == [{"key": LATENCY, "trials": list(range(8)), "worst": [[0, 1]]}]
    ids = {attributes.get("id") for _, attributes in page.elements}
    assert {"flops", "flops-key", "flops-legend"} <= ids


def test_estimates_have_their_table(tmp_path: Path) -> None:
    html = render_page(ranked(tmp_path, estimates=True))
    html = html.partition("Known without measuring")[2].partition("</table>")[0]
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", html)]
    expected = [["FLOPs", "8", "0.93", "–"], ["roofline: FLOPs and bytes moved", "8", "1.00", "100 %"]]
    assert rows == expected


@pytest.mark.parametrize(
    ("swapped", "count", "says"),
    [(False, 8, "FLOPs put none of 28 pairs in the wrong order"), (True, 3, "Too few designs to compare FLOPs")],
)
def test_where_flops_get_nothing_wrong_the_page_says_so(tmp_path: Path, swapped: bool, count: int, says: str) -> None:
    page = Page(render_page(ranked(tmp_path, swapped, count)))
    assert says in page.text
    assert not any(attributes.get("class") == "worst" for _, attributes in page.elements)
    assert page.data["flops"][0]["worst"] == []


def test_every_target_has_a_paragraph(tmp_path: Path) -> None:
    other = "onnxruntime-cpu-2t-b8"
    study = ranked(tmp_path)
    more = [Quantity("latency_ms", 1.0 + n, "ms", How.MEASURED, target=other) for n in range(8)]
    records = [
        dataclasses.replace(record, quantities=(*record.quantities, quantity))
        for record, quantity in zip(study.records, more, strict=True)
    ]
    page = Page(render_page(write_study(tmp_path / "two", records)))
    assert [ranking["key"] for ranking in page.data["flops"]] == [LATENCY, f"latency_ms@{other}"]
    first, second = page.text.index("ONNX Runtime, CPU, 1 thread, batch 1"), page.text.rindex("2 threads, batch 8")
    assert first < page.text.index("is 0.93 over 8 designs") < second < page.text.index("is 1.00 over 8 designs")


@pytest.mark.parametrize("recipe", [{"objectives": ["accuracy", "flops"], "targets": []}, {}])
def test_without_latency_or_trials_flops_have_no_section(tmp_path: Path, recipe: dict) -> None:
    record = make_record(0)
    without = dataclasses.replace(record, quantities=tuple(q for q in record.quantities if q.name != "latency_ms"))
    study = write_study(tmp_path / "without", [without] if recipe else [], make_recipe(**recipe))
    page = Page(render_page(study))
    assert not any(attributes.get("id") in ("flops", "flops-title") for _, attributes in page.elements)

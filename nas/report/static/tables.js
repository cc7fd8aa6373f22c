// Tables: sorting the front, all trials by outcome a hundred at a time, rows that open the card.

// What the search gave up of its own accord: nothing went wrong.
const GIVEN_UP = new Set(["screened", "stopped"]);

const PAGE = 100;
const list = { filter: "all", key: "number", descending: false, shown: PAGE };

function sortFront(key, descending) {
  const body = document.querySelector("#front-table tbody");
  const lines = [...body.rows].sort((a, b) => compare(sortValue(a, key), sortValue(b, key), descending));
  body.append(...lines);
}

function sortValue(line, key) {
  const row = ROW_OF.get(Number(line.dataset.trial));
  if (key === "") return field(row, "number");
  const [name, target] = key.split("@");
  const latency = value(row, `latency_ms@${target}`);
  if (name === "fps" || name === "speed_up") return latency === undefined ? undefined : -latency;
  if (name === "gain") {
    const before = value(row, `uncompressed_latency_ms@${target}`);
    return before === undefined ? undefined : before / latency;
  }
  return value(row, key);
}

function compare(a, b, descending) {
  if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
  const order = typeof a === "string" ? a.localeCompare(b) : a - b;
  return descending ? -order : order;
}

function headings(table, sort) {
  for (const button of table.querySelectorAll("th button")) {
    button.addEventListener("click", () => {
      const heading = button.closest("th");
      const descending = heading.getAttribute("aria-sort") === "ascending";
      for (const other of table.querySelectorAll("th")) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
      sort(heading.dataset.key, descending);
    });
  }
}

const FILTERS = {
  all: () => true,
  front: (row) => ON_FRONT.has(field(row, "number")),
  barred: (row) => text(field(row, "outcome")) === "measured" && !field(row, "feasible"),
};
const keeps = (row) => (FILTERS[list.filter] ? FILTERS[list.filter](row) : text(field(row, "outcome")) === list.filter);

function listValue(row) {
  if (list.key === "number" || list.key === "seconds") return field(row, list.key);
  if (list.key === "outcome") return text(field(row, "outcome"));
  return value(row, list.key);
}

function drawList() {
  const table = document.getElementById("all-table");
  const rows = DATA.trials.filter(keeps).sort((a, b) => compare(listValue(a), listValue(b), list.descending));
  table.tBodies[0].replaceChildren(...rows.slice(0, list.shown).map(listRow));
  const more = document.getElementById("more");
  more.hidden = rows.length <= list.shown;
  if (!more.hidden)
    more.textContent = `Show ${Math.min(PAGE, rows.length - list.shown)} more of ${rows.length.toLocaleString("en")}`;
}

function outcomeIcon(row) {
  const outcome = text(field(row, "outcome"));
  if (outcome !== "measured") return icon(OUTCOME_SHAPES[outcome] ?? "circle", `given-up ${outcome}`);
  if (!field(row, "feasible")) return icon("cross", "barred");
  return icon("circle", ON_FRONT.has(field(row, "number")) ? "front" : "behind");
}

function listRow(row) {
  const number = field(row, "number"),
    outcome = text(field(row, "outcome")),
    reason = field(row, "reason");
  const cells = DATA.objectives.map((key) => h("td", {}, display(kindOf(key), value(row, key))));
  const words = reason ? `${field(row, "words")} — ${reason[1]}` : field(row, "words");
  return h(
    "tr",
    {
      "data-trial": number,
      class: [state.chosen === number && "chosen", GIVEN_UP.has(outcome) && "given-up", !isKept(number) && "dim"]
        .filter(Boolean)
        .join(" "),
    },
    h("td", {}, h("button", { class: "open", "aria-label": `Details of trial ${number}` }, String(number))),
    h("td", { class: `left outcome ${outcome}` }, outcomeIcon(row), outcome),
    cells,
    h("td", {}, duration(field(row, "seconds"))),
    h("td", { class: "words" }, words),
  );
}

// One listener for all rows: a click anywhere in a row opens its trial; on its button Enter and Space do, and
// the arrow keys walk from row to row.
function rowEvents(table) {
  table.addEventListener("click", (event) => {
    const line = event.target.closest("tr[data-trial]");
    if (line) choose(Number(line.dataset.trial), line.querySelector("button"));
  });
  table.addEventListener("keydown", (event) => {
    const line = event.target.closest("tr[data-trial]");
    const next = line && { ArrowDown: line.nextElementSibling, ArrowUp: line.previousElementSibling }[event.key];
    if (!next) return;
    event.preventDefault();
    next.querySelector("button").focus();
  });
}

// Axes of the parallel coordinates, the ranges set on them, and which trials lie within: all views dim the others.

const STEPS = 200; // of a range input on a continuous axis
const NOT_THERE = "–"; // a choice that a design does not have
const ranges = new Map(); // axis id → [from, to], positions between 0 and 1
let kept = null; // numbers of the trials within all ranges; null where there is no range
const isKept = (number) => kept === null || kept.has(number);

// An objective, or the file size: what is better lies higher, whether that is more or less.
function quantityAxis(key) {
  const kind = kindOf(key);
  const values = MEASURED.map((row) => value(row, key)).filter((v) => v !== undefined);
  const scale = kind.maximise ? qualityScale(kind, values, values) : costScale(kind, values, []);
  const places = values.map(scale.forward);
  const [least, most] = [Math.min(...places), Math.max(...places)];
  const turn = (share) => (kind.maximise ? share : 1 - share);
  const place = (position) => turn(most > least ? (position - least) / (most - least) : 0.5);
  const known = values.map((v) => [place(scale.forward(v)), v]).sort((a, b) => a[0] - b[0]);
  return {
    id: key,
    title: kind.title.replace("validation ", ""),
    note: kind.target || "",
    steps: STEPS,
    fan: 0,
    position: (row) => (value(row, key) === undefined ? undefined : place(scale.forward(value(row, key)))),
    ticks: scale.ticks([least, most]).map(([at, label]) => [place(at), label]),
    // Of the trials at or beyond a position, the nearest one's value: what a range really ends at.
    words: (at, upwards) => {
      const inside = upwards
        ? known.find(([position]) => position >= at - 1e-9)
        : known.findLast(([position]) => position <= at + 1e-9);
      return inside ? display(kind, inside[1]) : "none";
    },
  };
}

// A choice: its values one above the other; a design without it lies at the bottom.
function choiceAxis(name) {
  const numeric = (v) => (v === NOT_THERE ? -Infinity : Number.parseFloat(v));
  const found = [...new Set(DATA.trials.map((row) => choice(row, name) ?? NOT_THERE))].sort((a, b) =>
    Number.isNaN(numeric(a)) || Number.isNaN(numeric(b))
      ? (a !== NOT_THERE) - (b !== NOT_THERE) || a.localeCompare(b)
      : numeric(a) - numeric(b),
  );
  const places = new Map(found.map((v, at) => [v, (at + 0.5) / found.length]));
  const many = Math.ceil(found.length / 14);
  return {
    id: `choice:${name}`,
    title: name.replaceAll("_", " "),
    note: "",
    steps: found.length,
    fan: Math.min(0.45 / found.length, 0.09),
    position: (row) => places.get(choice(row, name) ?? NOT_THERE),
    ticks: found.map((v, at) => [places.get(v), v, at % many === 0]).filter(([, , shown]) => shown),
    words: (at, upwards) =>
      found[
        Math.min(
          Math.max(upwards ? Math.ceil(at * found.length - 0.5 - 1e-9) : Math.floor(at * found.length - 0.5 + 1e-9), 0),
          found.length - 1,
        )
      ],
  };
}

// All axes that tell trials apart: objectives and file size, then choices.
function allAxes() {
  const keys = [...new Set([...DATA.objectives, "size_bytes"])].filter((key) => KEY_AT[key] !== undefined);
  const measured = keys.filter((key) => new Set(MEASURED.map((row) => value(row, key))).size > 1);
  const values = new Map();
  for (const row of MEASURED)
    for (const [name, content] of pairs(field(row, "choices")))
      values.set(name, (values.get(name) ?? new Set()).add(content));
  const everywhere = (name) => MEASURED.every((row) => choice(row, name) !== undefined);
  const choices = [...values].filter(([name, found]) => found.size > 1 || !everywhere(name)).map(([name]) => name);
  choices.sort((a, b) => a.includes(".") - b.includes(".")); // what holds for the whole network comes first
  return [...measured.map(quantityAxis), ...choices.map(choiceAxis)];
}

function within(row) {
  for (const [id, [from, to]] of ranges) {
    const at = parallel.byId.get(id).position(row);
    if (at === undefined || at < from - 1e-9 || at > to + 1e-9) return false;
  }
  return true;
}

function setRange(axis, range) {
  const whole = !range || (range[0] <= 0 && range[1] >= 1);
  if (whole) ranges.delete(axis.id);
  else ranges.set(axis.id, range);
  kept = ranges.size ? new Set(DATA.trials.filter(within).map((row) => field(row, "number"))) : null;
  parallel.queue();
}

function clearRanges() {
  ranges.clear();
  kept = null;
  parallel.queue();
}

// What every view shows of the ranges.
function showKept() {
  dimMarks();
  for (const line of document.querySelectorAll("tr[data-trial]"))
    line.classList.toggle("dim", !isKept(Number(line.dataset.trial)));
  const status = document.getElementById("kept");
  const count = MEASURED.filter((row) => isKept(field(row, "number"))).length;
  const all = MEASURED.length.toLocaleString("en");
  status.textContent = ranges.size
    ? `${count.toLocaleString("en")} of ${all} measured trials are within ${ranges.size === 1 ? "the range" : `all ${ranges.size} ranges`}.`
    : `All ${all} measured trials; no range is set.`;
  document.getElementById("clear-ranges").disabled = !ranges.size;
}

// The study's data, as nas/report/payload.py packs it, and numbers as a person reads them.

const DATA = JSON.parse(document.getElementById("data").textContent);
const FIELDS = [
  "number",
  "outcome",
  "origin",
  "words",
  "choices",
  "quantities",
  "labels",
  "stages",
  "notes",
  "reason",
  "duplicateOf",
  "teacher",
  "seconds",
  "started",
  "seed",
  "sha",
  "environment",
  "feasible",
  "precision",
  "convolutions",
  "gains",
  "foreseen",
  "parent",
  "epochs",
  "spared",
  "guesses",
];
const AT = Object.fromEntries(FIELDS.map((name, index) => [name, index]));
const KINDS = DATA.quantities;
const KEY_AT = Object.fromEntries(KINDS.map((kind, index) => [kind.key, index]));
const ROW_OF = new Map(DATA.trials.map((row) => [row[AT.number], row]));
const ON_FRONT = new Set(DATA.front);

const text = (index) => DATA.texts[index];
const field = (row, name) => row[AT[name]];
const quantity = (row, key) => field(row, "quantities").find((packed) => packed[0] === KEY_AT[key]);
const value = (row, key) => (quantity(row, key) || [])[1];
const low = (packed) => (packed && packed[3] !== null ? packed[3] : undefined);
const high = (packed) => (packed && packed[4] !== null ? packed[4] : undefined);

// Flat lists of text positions, two by two: [name, value, name, value, …].
function pairs(flat) {
  const result = [];
  for (let i = 0; i + 1 < flat.length; i += 2) result.push([text(flat[i]), text(flat[i + 1])]);
  return result;
}

function detail(packed) {
  const flat = packed[5] || [];
  const result = {};
  for (let i = 0; i + 1 < flat.length; i += 2) result[text(flat[i])] = flat[i + 1];
  return result;
}

// The target that serves a trial where a place was measured, such as cpu-b1; undefined elsewhere.
const servedBy = (row, key) => detail(quantity(row, key) || []).served_by;

function choice(row, name) {
  const flat = field(row, "choices");
  for (let i = 0; i + 1 < flat.length; i += 2) if (text(flat[i]) === name) return text(flat[i + 1]);
  return undefined;
}

function significant(number, digits = 3) {
  if (number === 0) return "0";
  const exponent = Math.floor(Math.log10(Math.abs(Number(number.toPrecision(digits)))));
  const places = digits - 1 - exponent;
  return places >= 0 ? number.toFixed(places) : String(Math.round(number / 10 ** -places) * 10 ** -places);
}

function human(number, unit = "") {
  for (const [factor, prefix] of [
    [1e12, "T"],
    [1e9, "G"],
    [1e6, "M"],
    [1e3, "k"],
  ]) {
    if (Math.abs(number) >= factor * 0.9995) return `${significant(number / factor)} ${prefix}${unit}`;
  }
  return `${Number.isInteger(number) ? number : significant(number)} ${unit}`.trimEnd();
}

function display(kind, number) {
  if (number === undefined) return "";
  if (kind.maximise) return `${(100 * number).toFixed(2)} %`;
  if (kind.unit === "ms" || (kind.own && kind.unit !== "1" && kind.unit !== "bytes"))
    return `${significant(number)} ${kind.unit}`;
  return human(number, kind.unit === "bytes" ? "B" : "");
}

function interval(kind, packed) {
  if (low(packed) === undefined || high(packed) === undefined) return "";
  if (kind.maximise) return `${(100 * low(packed)).toFixed(1)} to ${(100 * high(packed)).toFixed(1)} %`;
  if (kind.unit !== "ms") return `${display(kind, low(packed))} to ${display(kind, high(packed))}`;
  // As many digits as it takes for the two ends to differ.
  let digits = 3;
  while (digits < 6 && significant(low(packed), digits) === significant(high(packed), digits)) digits += 1;
  return `${significant(low(packed), digits)} to ${significant(high(packed), digits)} ms`;
}

function duration(seconds) {
  if (seconds < 60) return `${significant(seconds, 2)} s`;
  return seconds < 3600
    ? `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`
    : `${significant(seconds / 3600)} h`;
}

// Builds an element. Text goes in as text, never as HTML, whatever a name holds.
function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, content] of Object.entries(attributes)) {
    if (name === "onclick") element.addEventListener("click", content);
    else if (content !== undefined && content !== null && content !== false) element.setAttribute(name, content);
  }
  element.append(...children.flat().filter((child) => child !== undefined && child !== null && child !== ""));
  return element;
}

// What colours the points: kinds of designs, any choice of few values, an objective that no axis shows.

// Ways to compute have the same colour in every study, as in the picture; other kinds take the palette in turn.
const FIXED = new Map([
  ["float32", "#d08a1d"],
  ["fp16", "#94602c"],
  ["fp16 weights", "#b9a487"],
  ["int8", "#0f8a7e"],
  ["int8 weights", "#6a6ee0"],
  ["int4 weights", "#b8467f"],
  ["W4A8", "#2486c7"],
  ["codebook", "#6d9a1f"],
  ["mixed bits", "#7c8790"],
]);
const PALETTE = ["#0f8a7e", "#d08a1d", "#6a6ee0", "#b8467f", "#6d9a1f", "#2486c7", "#9a7650", "#7c8790"];

// Dark to light, after viridis (its darkest would be lost on a dark page): people who see fewer colours tell these apart.
const STOPS = ["#65318e", "#4a4a9c", "#2d6f8e", "#209f86", "#6fce57", "#e8e419"].map((colour) =>
  [1, 3, 5].map((at) => Number.parseInt(colour.slice(at, at + 2), 16)),
);

function ramp(share) {
  const place = Math.min(Math.max(share, 0), 1) * (STOPS.length - 1);
  const at = Math.min(Math.floor(place), STOPS.length - 2);
  const mixed = STOPS[at].map((channel, index) =>
    Math.round(channel + (place - at) * (STOPS[at + 1][index] - channel)),
  );
  return `rgb(${mixed.join(" ")})`;
}

const NOT_HAD = "not there";
const asNumber = (words) => (/^-?[\d.]+( ?%)?$/.test(words ?? "") ? Number.parseFloat(words) : undefined);

// What points can be coloured by: derived kinds, what serves, a quantity, every choice that differs.
function colourings() {
  const entries = [
    ["precision", "precision"],
    ["convolutions", "convolutions"],
  ].filter(([name]) => new Set(MEASURED.map((row) => field(row, name))).size > 1);
  for (const kind of KINDS.filter((kind) => kind.name === "latency_ms")) {
    const servers = new Set(MEASURED.map((row) => servedBy(row, kind.key)).filter(Boolean));
    if (servers.size > 1) entries.push([`server:${kind.key}`, `what serves ${kind.target}`]);
  }
  for (const key of new Set([...DATA.objectives, "size_bytes"]))
    if (key !== plot.x && key !== plot.y && KEY_AT[key] !== undefined) entries.push([`quantity:${key}`, keyLabel(key)]);
  for (const [name, found] of choiceValues())
    if (found.size > 1) entries.push([`choice:${name}`, name.replaceAll("_", " ")]);
  return [...entries, ["", "nothing"]];
}

// Name of each choice → the values that measured trials have, with NOT_HAD where some lack it.
function choiceValues() {
  const values = new Map();
  for (const row of MEASURED)
    for (const [name, content] of pairs(field(row, "choices")))
      values.set(name, (values.get(name) ?? new Map()).set(content, 1 + (values.get(name)?.get(content) ?? 0)));
  for (const found of values.values()) {
    const had = [...found.values()].reduce((a, b) => a + b, 0);
    if (had < MEASURED.length) found.set(NOT_HAD, MEASURED.length - had);
  }
  return values;
}

function categoryOf(row) {
  if (plot.colour.startsWith("choice:")) return choice(row, plot.colour.slice(7)) ?? NOT_HAD;
  if (plot.colour.startsWith("server:")) return servedBy(row, plot.colour.slice(7)) ?? "none";
  return text(field(row, plot.colour));
}

// Colours of the rows: {of: row => colour, legend: [[name, colour]], scale: of a quantity or a number, or null}.
function colouring(rows) {
  if (plot.colour === "") return { of: () => PALETTE[0], legend: [], scale: null };
  if (plot.colour.startsWith("quantity:")) return byQuantity(rows, kindOf(plot.colour.slice(9)));
  const counts = new Map();
  for (const row of rows) counts.set(categoryOf(row), (counts.get(categoryOf(row)) || 0) + 1);
  const numbers = [...counts.keys()].filter((name) => name !== NOT_HAD).map(asNumber);
  if (numbers.length > PALETTE.length && !numbers.includes(undefined)) return byNumber(numbers, counts.has(NOT_HAD));
  const order = [...FIXED.keys(), "standard", "separable", "mixed"];
  const place = (name) => (order.includes(name) ? order.indexOf(name) : order.length);
  const names = [...counts.keys()].sort(
    (a, b) => place(a) - place(b) || a.localeCompare(b, undefined, { numeric: true }),
  );
  const colours = new Map(names.map((name, index) => [name, FIXED.get(name) || PALETTE[index % PALETTE.length]]));
  return { of: (row) => colours.get(categoryOf(row)), legend: [...colours], scale: null };
}

function byQuantity(rows, kind) {
  const values = rows.map((row) => value(row, kind.key)).filter((v) => v !== undefined);
  const scale = kind.maximise ? qualityScale(kind, values, values) : costScale(kind, values, []);
  const places = values.map(scale.forward);
  const [least, most] = [Math.min(...places), Math.max(...places)];
  const share = (v) => (most > least ? (scale.forward(v) - least) / (most - least) : 0.5);
  const of = (row) =>
    value(row, kind.key) === undefined
      ? ""
      : ramp(kind.maximise ? share(value(row, kind.key)) : 1 - share(value(row, kind.key)));
  const ends = [Math.min(...values), Math.max(...values)].map((v) => display(kind, v));
  return { of, legend: [], scale: { title: kind.title, ends, turned: !kind.maximise } };
}

function byNumber(numbers, lacking) {
  const [least, most] = [Math.min(...numbers), Math.max(...numbers)];
  const of = (row) =>
    categoryOf(row) === NOT_HAD ? PALETTE[7] : ramp((asNumber(categoryOf(row)) - least) / (most - least));
  const legend = lacking ? [[NOT_HAD, PALETTE[7]]] : [];
  return {
    of,
    legend,
    scale: { title: plot.colour.slice(7).replaceAll("_", " "), ends: [least, most].map(String), turned: false },
  };
}

function colourBar({ scale }) {
  const stops = Array.from({ length: 7 }, (_, at) => ramp(scale.turned ? 1 - at / 6 : at / 6));
  const bar = h("span", { class: "ramp" });
  bar.style.background = `linear-gradient(to right, ${stops.join(", ")})`;
  return [`${scale.title} ${scale.ends[0]} `, bar, ` ${scale.ends[1]}`];
}

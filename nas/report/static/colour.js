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

// What points can be coloured by: derived kinds, what serves, an objective that is not drawn, choices of few values.
function colourings() {
  const entries = [
    ["precision", "precision"],
    ["convolutions", "convolutions"],
  ].filter(([name]) => new Set(MEASURED.map((row) => field(row, name))).size > 1);
  for (const kind of KINDS.filter((kind) => kind.name === "latency_ms")) {
    const servers = new Set(MEASURED.map((row) => servedBy(row, kind.key)).filter(Boolean));
    if (servers.size > 1) entries.push([`server:${kind.key}`, `what serves ${kind.target}`]);
  }
  for (const key of DATA.objectives)
    if (key !== plot.x && key !== plot.y) entries.push([`quantity:${key}`, keyLabel(key)]);
  const values = new Map();
  for (const row of MEASURED) {
    const flat = field(row, "choices");
    for (let i = 0; i + 1 < flat.length; i += 2)
      values.set(flat[i], (values.get(flat[i]) || new Set()).add(flat[i + 1]));
  }
  for (const [name, found] of values)
    if (found.size > 1 && found.size <= PALETTE.length) entries.push([`choice:${text(name)}`, text(name)]);
  return [...entries, ["", "nothing"]];
}

function categoryOf(row) {
  if (plot.colour.startsWith("choice:")) return choice(row, plot.colour.slice(7)) ?? "not there";
  if (plot.colour.startsWith("server:")) return servedBy(row, plot.colour.slice(7)) ?? "none";
  return text(field(row, plot.colour));
}

// Colours of the rows: {of: row => colour or number, legend: [[name, colour]], scale: of the quantity or null}.
function colouring(rows) {
  if (plot.colour === "") return { of: () => PALETTE[0], legend: [], scale: null };
  if (plot.colour.startsWith("quantity:")) {
    const kind = kindOf(plot.colour.slice(9));
    const scale = costScale(
      kind,
      rows.map((row) => value(row, kind.key)),
      [],
    );
    return { of: (row) => scale.forward(value(row, kind.key)), legend: [], scale };
  }
  const counts = new Map();
  for (const row of rows) counts.set(categoryOf(row), (counts.get(categoryOf(row)) || 0) + 1);
  const order = [...FIXED.keys(), "standard", "separable", "mixed"];
  const place = (name) => (order.includes(name) ? order.indexOf(name) : order.length);
  const names = [...counts.keys()].sort(
    (a, b) => place(a) - place(b) || a.localeCompare(b, undefined, { numeric: true }),
  );
  const colours = new Map(names.map((name, index) => [name, FIXED.get(name) || PALETTE[index % PALETTE.length]]));
  return { of: (row) => colours.get(categoryOf(row)), legend: [...colours], scale: null };
}

function colourAxis(colours, withBar = false) {
  if (!colours.scale) return {};
  const { kind, extent, ticks } = colours.scale;
  const marks = ticks(extent);
  const bar = {
    thickness: 10,
    outlinewidth: 0,
    title: { text: kind.title, side: "right" },
    tickvals: marks.map((mark) => mark[0]),
    ticktext: marks.map((mark) => mark[1]),
  };
  return {
    colorscale: "Viridis",
    reversescale: !kind.maximise,
    cmin: extent[0],
    cmax: extent[1],
    showscale: withBar,
    colorbar: bar,
  };
}

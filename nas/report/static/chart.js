// The scatter of quality against cost, and the hypervolume over trials.

const CONFIG = { displayModeBar: false, responsive: true, doubleClick: false, showTips: false };
const MEASURED = DATA.trials.filter((row) => text(field(row, "outcome")) === "measured");
const plot = { element: document.getElementById("scatter"), x: null, y: null, colour: "", chosen: null, view: "front" };

const token = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

function options(select, entries, current) {
  select.replaceChildren(
    ...entries.map(([key, label]) => h("option", { value: key, selected: key === current ? "" : undefined }, label)),
  );
  select.closest("label").hidden = entries.length < 2;
}

function measuredKeys(maximise) {
  const present = new Set(MEASURED.flatMap((row) => field(row, "quantities").map((packed) => packed[0])));
  const keys = KINDS.filter(
    (kind, index) => present.has(index) && kind.maximise === maximise && kind.axis,
  );
  return keys.map((kind) => kind.key).sort((a, b) => rank(a) - rank(b));
}

const rank = (key) => (DATA.objectives.includes(key) ? DATA.objectives.indexOf(key) : 99);
const kindOf = (key) => KINDS[KEY_AT[key]];
const keyLabel = (key) => kindOf(key).title + (kindOf(key).target ? ` (${kindOf(key).target})` : "");

function drawScatter() {
  const limits = (key) => DATA.constraints.filter((limit) => limit.key === key).map((limit) => limit.limit);
  const rows = MEASURED.filter((row) => value(row, plot.x) !== undefined && value(row, plot.y) !== undefined);
  const front = rows.filter((row) => ON_FRONT.has(field(row, "number")));
  const baseline = rows.filter((row) => field(row, "number") === DATA.baseline);
  const values = (list, key) => list.map((row) => value(row, key));
  const x = costScale(kindOf(plot.x), values(rows, plot.x), limits(plot.x));
  const y = qualityScale(kindOf(plot.y), values(rows, plot.y), values(front.length ? [...front, ...baseline] : [], plot.y));
  Object.assign(plot, { rows, xScale: x, yScale: y, view: "front" });
  const feasible = rows.filter((row) => field(row, "feasible") && !ON_FRONT.has(field(row, "number")));
  const barred = rows.filter((row) => !field(row, "feasible"));
  const colours = colouring(rows.filter((row) => field(row, "feasible")));
  const traces = [
    points(barred, x, y, {
      symbol: "x-thin",
      size: 7,
      opacity: barred.length > 300 ? 0.35 : 0.7,
      line: { color: token("warn"), width: 1.2 },
    }),
    points(feasible, x, y, {
      size: 7.5,
      opacity: feasible.length > 300 ? 0.35 : 0.55,
      color: feasible.map(colours.of),
      ...colourAxis(colours),
    }),
    line(front, x, y),
    bars(
      front,
      x,
      y,
      points(front, x, y, {
        size: 11,
        color: front.map(colours.of),
        line: { color: token("ink"), width: 1.5 },
        ...colourAxis(colours, true),
      }),
    ),
    ring(x, y),
    star(baseline, x, y),
  ];
  Plotly.react(plot.element, traces, scatterLayout(x, y), CONFIG);
  drawLegend(colours, barred.length, rows.filter((row) => y.forward(value(row, plot.y)) < y.range[0]).length);
}

function points(rows, x, y, marker) {
  return {
    type: "scatter",
    mode: "markers",
    hoverinfo: "none",
    marker,
    customdata: rows.map((row) => field(row, "number")),
    x: rows.map((row) => x.forward(value(row, x.kind.key))),
    y: rows.map((row) => y.forward(value(row, y.kind.key))),
  };
}

function line(front, x, y) {
  const isFront = DATA.objectives.includes(plot.x) && DATA.objectives.includes(plot.y);
  const corners = isFront ? stepLine(front, x, y, x.range[1] + 9, y.range[0] - 9) : [];
  return {
    type: "scatter",
    mode: "lines",
    hoverinfo: "skip",
    x: corners.map((c) => c[0]),
    y: corners.map((c) => c[1]),
    line: { color: token("ink"), width: 1.8, shape: "linear" },
    fill: "none",
  };
}

function bars(front, x, y, trace) {
  const arms = (scale, end) =>
    front.map((row) => {
      const packed = quantity(row, scale.kind.key);
      const edge = end === "high" ? high(packed) : low(packed);
      return edge === undefined ? 0 : Math.abs(scale.forward(edge) - scale.forward(packed[1]));
    });
  const style = { type: "data", symmetric: false, color: token("faint"), thickness: 0.8, width: 0 };
  trace.error_x = { ...style, array: arms(x, "high"), arrayminus: arms(x, "low") };
  trace.error_y = { ...style, array: arms(y, "high"), arrayminus: arms(y, "low") };
  return trace;
}

function star(baseline, x, y) {
  const trace = points(baseline, x, y, {
    symbol: "star",
    size: 15,
    color: token("ink"),
    line: { color: token("paper"), width: 1 },
  });
  const font = { size: 11.5, color: token("ink") };
  return { ...trace, mode: "markers+text", text: baseline.map(() => "baseline"), textposition: "bottom center", textfont: font };
}

function ring(x, y) {
  const row = ROW_OF.get(plot.chosen);
  const there = row && value(row, plot.x) !== undefined && value(row, plot.y) !== undefined;
  const trace = points(there ? [row] : [], x, y, {
    size: 20,
    color: "rgba(0,0,0,0)",
    line: { color: token("accent"), width: 2.4 },
  });
  return { ...trace, hoverinfo: "skip" };
}

function scaleAxis(scale) {
  return {
    range: [...scale.range],
    title: { text: axisTitle(scale), standoff: 12 },
    zeroline: false,
    gridcolor: token("line"),
    linecolor: token("rule"),
    ticks: "",
    ...tickArrays(scale, scale.range),
  };
}

function scatterLayout(x, y) {
  const shapes = [],
    annotations = [];
  for (const limit of DATA.constraints) {
    const on = limit.key === plot.x ? "x" : limit.key === plot.y ? "y" : null;
    if (!on) continue;
    const at = (on === "x" ? x : y).forward(limit.limit);
    const far =
      on === "x" ? { x0: at, x1: at, y0: 0, y1: 1, yref: "paper" } : { y0: at, y1: at, x0: 0, x1: 1, xref: "paper" };
    shapes.push({ type: "line", line: { color: token("warn"), width: 1.2, dash: "dash" }, ...far });
    const where =
      on === "x"
        ? { x: at, y: 0, yref: "paper", xanchor: "right", yanchor: "bottom", textangle: -90 }
        : { y: at, x: 0, xref: "paper", xanchor: "left", yanchor: "bottom" };
    annotations.push({
      text: plain(limit.words),
      showarrow: false,
      font: { size: 11.5, color: token("warn") },
      ...where,
    });
  }
  return {
    ...baseLayout({ l: 58, r: 16, t: 10, b: 48 }),
    xaxis: scaleAxis(x),
    yaxis: scaleAxis(y),
    shapes,
    annotations,
    dragmode: "zoom",
  };
}

// Plotly reads some HTML in its texts; ours hold none.
const plain = (words) => words.replaceAll("&", "&amp;").replaceAll("<", "&lt;");

function tickArrays(scale, range) {
  const ticks = scale.ticks(range);
  return { tickmode: "array", tickvals: ticks.map((tick) => tick[0]), ticktext: ticks.map((tick) => tick[1]) };
}

function baseLayout(margin) {
  return {
    margin,
    autosize: true,
    showlegend: false,
    hovermode: "closest",
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, size: 12.5, color: token("soft") },
  };
}

function drawLegend(colours, barred, below) {
  const items = colours.legend.map(([name, colour]) => {
    const dot = h("i");
    dot.style.background = colour;
    return h("li", {}, dot, name);
  });
  items.unshift(h("li", {}, h("i", { class: "front" }), "on the front, with 95 % intervals"));
  if (plot.rows.some((row) => field(row, "number") === DATA.baseline))
    items.push(h("li", {}, h("i", { class: "baseline" }, "★"), "baseline"));
  if (barred) items.push(h("li", {}, h("i", { class: "barred" }, "×"), `breaks a constraint (${barred})`));
  if (below) items.push(h("li", {}, `${below} below the picture: double-click to see all`));
  document.getElementById("legend").replaceChildren(...items);
}

function drawHistory() {
  const element = document.getElementById("history");
  const numbers = DATA.history.map((step) => step[0]),
    volumes = DATA.history.map((step) => step[1]);
  const accent = token("accent");
  const trace = {
    type: "scatter",
    mode: "lines",
    x: numbers,
    y: volumes,
    line: { color: accent, width: 2, shape: "hv" },
    hovertemplate: "after trial %{x}: %{y:.4f}<extra></extra>",
  };
  const axis = { zeroline: false, gridcolor: token("line"), linecolor: token("rule"), fixedrange: true };
  const layout = {
    ...baseLayout({ l: 58, r: 16, t: 8, b: 42 }),
    hovermode: "x",
    hoverlabel: { bgcolor: token("card"), bordercolor: token("rule"), font: { color: token("ink") } },
  };
  Plotly.react(
    element,
    [trace],
    {
      ...layout,
      xaxis: { ...axis, title: { text: "trial", standoff: 8 } },
      yaxis: { ...axis, rangemode: "tozero", title: { text: "hypervolume", standoff: 10 } },
    },
    CONFIG,
  );
}

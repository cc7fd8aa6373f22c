// The scatter of FLOPs against latency: every design once, the worst disagreements joined by lines.

const RANKINGS = DATA.flops.filter((ranking) => ranking.trials.length);
const flopsPlot = { element: document.getElementById("flops"), ranking: RANKINGS[0], x: null, y: null };

function startFlops() {
  const select = document.getElementById("flops-key");
  options(
    select,
    RANKINGS.map((ranking) => [ranking.key, kindOf(ranking.key).targetWords]),
    flopsPlot.ranking.key,
  );
  select.closest(".toolbar").hidden = RANKINGS.length < 2;
  select.addEventListener("change", () => {
    flopsPlot.ranking = RANKINGS.find((ranking) => ranking.key === select.value);
    drawFlops();
  });
  seenOnce(flopsPlot.element, () => {
    drawFlops();
    flopsPlot.element.on("plotly_hover", (event) =>
      showTip(ROW_OF.get(event.points[0].customdata), event.event, [flopsPlot.ranking.key, "flops"]),
    );
    flopsPlot.element.on("plotly_unhover", () => {
      document.getElementById("tip").hidden = true;
    });
    flopsPlot.element.on("plotly_click", (event) => choose(event.points[0].customdata, flopsPlot.element));
    flopsPlot.element.on("plotly_relayout", onFlopsZoom);
    flopsPlot.element.on("plotly_doubleclick", () => zoomFlops(flopsPlot.x.range, flopsPlot.y.range));
  });
}

function drawFlops() {
  const rows = flopsPlot.ranking.trials.map((number) => ROW_OF.get(number));
  const values = (key) => rows.map((row) => value(row, key));
  const x = costScale(kindOf("flops"), values("flops"), []);
  const y = costScale(kindOf(flopsPlot.ranking.key), values(flopsPlot.ranking.key), []);
  Object.assign(flopsPlot, { x, y });
  const front = rows.filter((row) => ON_FRONT.has(field(row, "number")));
  const others = rows.filter((row) => !ON_FRONT.has(field(row, "number")));
  const colours = flopsColours(rows);
  const traces = [
    proportional(rows, x, y),
    ...flopsPlot.ranking.worst.map((pair) => joined(pair.map((number) => ROW_OF.get(number)), x, y)),
    points(others, x, y, { size: 7.5, opacity: others.length > 300 ? 0.35 : 0.6, color: others.map(colours.of) }),
    points(front, x, y, { size: 11, color: front.map(colours.of), line: { color: token("ink"), width: 1.5 } }),
  ];
  const layout = { ...baseLayout({ l: 66, r: 16, t: 10, b: 48 }), xaxis: scaleAxis(x), yaxis: scaleAxis(y) };
  Plotly.react(flopsPlot.element, traces, { ...layout, dragmode: "zoom" }, CONFIG);
  drawFlopsLegend(colours, front.length);
}

// By precision, which FLOPs do not see, whatever colours the other scatter.
function flopsColours(rows) {
  const found = new Set(rows.map((row) => text(field(row, "precision"))));
  const names = [...FIXED.keys()].filter((name) => found.has(name));
  names.push(...[...found].filter((name) => !FIXED.has(name)).sort());
  const colours = new Map(names.map((name, index) => [name, FIXED.get(name) || PALETTE[index % PALETTE.length]]));
  return { of: (row) => colours.get(text(field(row, "precision"))), legend: [...colours] };
}

// Where designs would lie if all did as many FLOPs per second as the median one.
function proportional(rows, x, y) {
  const rates = rows.map((row) => value(row, "flops") / value(row, y.kind.key)).sort((a, b) => a - b);
  const middle = rates.length / 2;
  const rate = (rates[Math.floor(middle)] + rates[Math.ceil(middle) - 1]) / 2;
  const counts = rows.map((row) => value(row, "flops"));
  const [least, most] = [Math.min(...counts), Math.max(...counts)];
  const steps = Array.from({ length: 200 }, (_, step) => least * (most / least) ** (step / 199));
  const inside = steps.filter((count) => y.forward(count / rate) > y.range[0] && y.forward(count / rate) < y.range[1]);
  return {
    type: "scatter",
    mode: "lines",
    hoverinfo: "skip",
    x: inside.map(x.forward),
    y: inside.map((count) => y.forward(count / rate)),
    line: { color: token("faint"), width: 1.2, dash: "dash" },
  };
}

function joined(rows, x, y) {
  return {
    type: "scatter",
    mode: "lines",
    hoverinfo: "skip",
    x: rows.map((row) => x.forward(value(row, x.kind.key))),
    y: rows.map((row) => y.forward(value(row, y.kind.key))),
    line: { color: token("warn"), width: 1.4 },
  };
}

function onFlopsZoom(event) {
  const range = (axis, scale) =>
    event[`${axis}.range[0]`] === undefined ? null : [event[`${axis}.range[0]`], event[`${axis}.range[1]`]];
  zoomFlops(range("xaxis", flopsPlot.x), range("yaxis", flopsPlot.y));
}

function zoomFlops(across, up) {
  const update = {};
  for (const [axis, scale, range] of [
    ["xaxis", flopsPlot.x, across],
    ["yaxis", flopsPlot.y, up],
  ]) {
    if (!range) continue;
    for (const [name, content] of Object.entries(tickArrays(scale, range))) update[`${axis}.${name}`] = content;
    update[`${axis}.range`] = [...range];
  }
  if (Object.keys(update).length) Plotly.relayout(flopsPlot.element, update);
}

function drawFlopsLegend(colours, front) {
  const items = [];
  if (front) items.push(h("li", {}, h("i", { class: "front" }), "on the front"));
  for (const [name, colour] of colours.legend) {
    const dot = h("i");
    dot.style.background = colour;
    items.push(h("li", {}, dot, name));
  }
  if (flopsPlot.ranking.worst.length) items.push(h("li", {}, h("i", { class: "line" }), "fewer FLOPs, yet slower"));
  items.push(h("li", {}, h("i", { class: "line dashed" }), "equal FLOPs per second"));
  document.getElementById("flops-legend").replaceChildren(...items);
}

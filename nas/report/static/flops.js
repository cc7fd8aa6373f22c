// The scatter of FLOPs against latency: every design once, the worst disagreements joined by lines.

const RANKINGS = DATA.flops.filter((ranking) => ranking.trials.length);
const flopsPlot = { element: document.getElementById("flops"), ranking: RANKINGS[0], chart: null };

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
    flopsPlot.chart = new Chart(flopsPlot.element, paintFlops, {
      hover: (number, event) => showTip(ROW_OF.get(number), event, [flopsPlot.ranking.key, "flops"]),
      leave: hideTip,
      open: (number) => choose(number, flopsPlot.element),
      zoomed: (across, up) => showFlops({ ...flopsPlot.chart.x, range: across }, { ...flopsPlot.chart.y, range: up }),
      reset: drawFlops,
    });
    drawFlops();
  });
}

const flopsRows = () => flopsPlot.ranking.trials.map((number) => ROW_OF.get(number));

function drawFlops() {
  const values = (key) => flopsRows().map((row) => value(row, key));
  const { key } = flopsPlot.ranking;
  flopsPlot.colours = flopsColours(flopsRows());
  showFlops(costScale(kindOf("flops"), values("flops"), []), costScale(kindOf(key), values(key), []));
  drawFlopsLegend();
}

const showFlops = (x, y) => flopsPlot.chart.draw(x, y, { x: axisTitle(x), y: axisTitle(y) });

function paintFlops(chart) {
  const rows = flopsRows();
  const place = (count, time) => [chart.px(chart.x.forward(count)), chart.py(chart.y.forward(time))];
  const at = (row) => place(value(row, "flops"), value(row, flopsPlot.ranking.key));
  chart.line(
    proportional(rows).map(([count, time]) => place(count, time)),
    "dashed",
  );
  for (const pair of flopsPlot.ranking.worst)
    chart.line(
      pair.map((number) => at(ROW_OF.get(number))),
      "joined",
    );
  const onFront = (row) => ON_FRONT.has(field(row, "number"));
  const draw = (list, radius, kind) => {
    for (const row of list)
      chart.mark(field(row, "number"), ...at(row), "circle", radius, kind, flopsPlot.colours.of(row));
  };
  draw(
    rows.filter((row) => !onFront(row)),
    3.8,
    rows.length > 300 ? "behind many" : "behind",
  );
  draw(rows.filter(onFront), 5.6, "front");
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
function proportional(rows) {
  const rates = rows.map((row) => value(row, "flops") / value(row, flopsPlot.ranking.key)).sort((a, b) => a - b);
  const middle = rates.length / 2;
  const rate = (rates[Math.floor(middle)] + rates[Math.ceil(middle) - 1]) / 2;
  const counts = rows.map((row) => value(row, "flops"));
  const [least, most] = [Math.min(...counts), Math.max(...counts)];
  const steps = Array.from({ length: 100 }, (_, step) => least * (most / least) ** (step / 99));
  return steps.map((count) => [count, count / rate]);
}

function drawFlopsLegend() {
  const items = [];
  if (flopsRows().some((row) => ON_FRONT.has(field(row, "number"))))
    items.push(legendItem(icon("circle", "front"), "on the front"));
  for (const [name, colour] of flopsPlot.colours.legend) items.push(legendItem(icon("circle", "behind", colour), name));
  if (flopsPlot.ranking.worst.length) items.push(legendItem(lineIcon("joined"), "fewer FLOPs, yet slower"));
  items.push(legendItem(lineIcon("dashed"), "equal FLOPs per second"));
  document.getElementById("flops-legend").replaceChildren(...items);
}

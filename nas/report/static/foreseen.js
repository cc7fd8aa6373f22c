// Predicted against measured values: where a bar, the interval that was foreseen, crosses the dashed line, it held.

const FORESEEN = DATA.foreseen;
const foreseenPlot = { element: document.getElementById("foreseen"), shown: FORESEEN[0], chart: null };

function startForeseen() {
  const select = document.getElementById("foreseen-key");
  options(
    select,
    FORESEEN.map((one) => [one.key, keyLabel(one.key)]),
    foreseenPlot.shown.key,
  );
  select.closest(".toolbar").hidden = FORESEEN.length < 2;
  select.addEventListener("change", () => {
    foreseenPlot.shown = FORESEEN.find((one) => one.key === select.value);
    drawForeseen();
  });
  seenOnce(foreseenPlot.element, () => {
    foreseenPlot.chart = new Chart(foreseenPlot.element, paintForeseen, {
      hover: foreseenTip,
      leave: hideTip,
      open: (number) => choose(number, foreseenPlot.element),
    });
    drawForeseen();
  });
}

function foreseenTip(number, event) {
  const { shown } = foreseenPlot;
  const at = shown.trials.indexOf(number);
  const ends = interval(kindOf(shown.key), [0, 0, 0, shown.low[at], shown.high[at]]);
  const words = [`foreseen: ${display(kindOf(shown.key), shown.predicted[at])} (${ends})`];
  if (shown.spared[at]) words.push("spared: it would have been screened out");
  showTip(ROW_OF.get(number), event, [shown.key], words);
}

function drawForeseen() {
  const { shown } = foreseenPlot;
  const kind = kindOf(shown.key);
  const measured = shown.trials.map((number) => value(ROW_OF.get(number), shown.key));
  const all = [...shown.predicted, ...measured];
  const scale = kind.maximise ? qualityScale(kind, all, all) : costScale(kind, all, []);
  foreseenPlot.held = measured.map((number, at) => number >= shown.low[at] && number <= shown.high[at]);
  foreseenPlot.measured = measured;
  foreseenPlot.chart.draw(scale, scale, { x: "predicted", y: `measured ${axisTitle(scale)}` });
  drawForeseenLegend(foreseenPlot.held, shown.spared.some(Boolean));
}

function paintForeseen(chart) {
  const { shown, measured, held } = foreseenPlot;
  const scale = chart.x;
  // The end of an interval may lie beyond what a logarithmic axis can show.
  const forward = (number) =>
    scale.forward(scale.logarithmic && !scale.kind.maximise ? Math.max(number, 1e-12) : number);
  chart.line(
    scale.range.map((end) => [chart.px(end), chart.py(end)]),
    "dashed",
  );
  const bars = measured.map((number, at) => {
    const y = one(chart.py(forward(number)));
    return `M${one(chart.px(forward(shown.low[at])))} ${y}H${one(chart.px(forward(shown.high[at])))}`;
  });
  chart.area.append(s("path", { class: bars.length > 300 ? "interval many" : "interval", d: bars.join("") }));
  const order = [...measured.keys()].sort((a, b) => shown.spared[a] - shown.spared[b]);
  for (const at of order) {
    const place = [chart.px(forward(shown.predicted[at])), chart.py(forward(measured[at]))];
    const shape = shown.spared[at] ? "diamond" : held[at] ? "circle" : "square";
    chart.mark(
      shown.trials[at],
      ...place,
      shape,
      shown.spared[at] ? 4.6 : 3.8,
      `${held[at] ? "held" : "missed"}${shown.spared[at] ? " spared" : ""}`,
    );
  }
}

function drawForeseenLegend(held, spared) {
  const items = [];
  if (held.some(Boolean)) items.push(legendItem(icon("circle", "held"), "inside the interval that was foreseen"));
  if (held.some((one) => !one)) items.push(legendItem(icon("square", "missed"), "outside"));
  if (spared) items.push(legendItem(icon("diamond", "spared"), "spared from screening"));
  items.push(legendItem(lineIcon("dashed"), "as foreseen"));
  document.getElementById("foreseen-legend").replaceChildren(...items);
}

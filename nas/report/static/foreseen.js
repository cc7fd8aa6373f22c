// Predicted against measured values: where a bar, the interval that was foreseen, crosses the dashed line, it held.

const FORESEEN = DATA.foreseen;
const foreseenPlot = { element: document.getElementById("foreseen"), shown: FORESEEN[0], x: null };

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
    drawForeseen();
    foreseenPlot.element.on("plotly_hover", (event) => {
      const { shown } = foreseenPlot;
      const at = shown.trials.indexOf(event.points[0].customdata);
      const ends = interval(kindOf(shown.key), [0, 0, 0, shown.low[at], shown.high[at]]);
      const words = [`foreseen: ${display(kindOf(shown.key), shown.predicted[at])} (${ends})`];
      if (shown.spared[at]) words.push("spared: it would have been screened out");
      showTip(ROW_OF.get(shown.trials[at]), event.event, [shown.key], words);
    });
    foreseenPlot.element.on("plotly_unhover", () => {
      document.getElementById("tip").hidden = true;
    });
    foreseenPlot.element.on("plotly_click", (event) => choose(event.points[0].customdata, foreseenPlot.element));
  });
}

function drawForeseen() {
  const { shown } = foreseenPlot;
  const kind = kindOf(shown.key);
  const measured = shown.trials.map((number) => value(ROW_OF.get(number), shown.key));
  const all = [...shown.predicted, ...measured];
  const scale = kind.maximise ? qualityScale(kind, all, all) : costScale(kind, all, []);
  foreseenPlot.x = scale;
  const held = measured.map((number, at) => number >= shown.low[at] && number <= shown.high[at]);
  const places = [...measured.keys()];
  const groups = [
    [places.filter((at) => !shown.spared[at]), "circle"],
    [places.filter((at) => shown.spared[at]), "diamond"],
  ];
  const traces = [
    {
      type: "scatter",
      mode: "lines",
      hoverinfo: "skip",
      x: scale.range,
      y: scale.range,
      line: { color: token("faint"), width: 1.2, dash: "dash" },
    },
    ...groups.map(([group, symbol]) => foreseenPoints(shown, measured, held, group, symbol, scale)),
  ];
  const made = { ...scaleAxis(scale), fixedrange: true };
  const axis = (text) => ({ ...made, title: { ...made.title, text } });
  const layout = {
    ...baseLayout({ l: 66, r: 16, t: 10, b: 48 }),
    xaxis: axis("predicted"),
    yaxis: axis(`measured ${made.title.text}`),
  };
  Plotly.react(foreseenPlot.element, traces, { ...layout, dragmode: false }, CONFIG);
  drawForeseenLegend(held, shown.spared.some(Boolean));
}

function foreseenPoints(shown, measured, held, group, symbol, scale) {
  const spared = symbol === "diamond";
  // The end of an interval may lie beyond what a logarithmic axis can show.
  const least = (number) => (scale.logarithmic && !scale.kind.maximise ? Math.max(number, 1e-12) : number);
  const arms = (ends) =>
    group.map((at) => Math.abs(scale.forward(least(ends[at])) - scale.forward(shown.predicted[at])));
  const colours = group.map((at) => token(held[at] ? "accent" : "warn"));
  return {
    type: "scatter",
    mode: "markers",
    hoverinfo: "none",
    customdata: group.map((at) => shown.trials[at]),
    x: group.map((at) => scale.forward(shown.predicted[at])),
    y: group.map((at) => scale.forward(measured[at])),
    marker: {
      symbol,
      size: spared ? 11 : 7.5,
      opacity: 1,
      color: colours,
      line: { color: token("ink"), width: spared ? 1.5 : 0 },
    },
    error_x: {
      type: "data",
      symmetric: false,
      array: arms(shown.high),
      arrayminus: arms(shown.low),
      color: token("faint"),
      thickness: 0.8,
      width: 0,
    },
  };
}

function drawForeseenLegend(held, spared) {
  const items = [];
  for (const [name, colour, any] of [
    ["inside the interval that was foreseen", "accent", held.some(Boolean)],
    ["outside", "warn", held.some((one) => !one)],
  ]) {
    if (!any) continue;
    const dot = h("i");
    dot.style.background = token(colour);
    items.push(h("li", {}, dot, name));
  }
  if (spared) items.push(h("li", {}, h("i", { class: "baseline" }, "◆"), "spared from screening"));
  items.push(h("li", {}, h("i", { class: "line dashed" }), "as foreseen"));
  document.getElementById("foreseen-legend").replaceChildren(...items);
}

// The scatter of quality against cost: the front with its intervals, all other trials behind it, the chosen and the picked.

const MEASURED = DATA.trials.filter((row) => text(field(row, "outcome")) === "measured");
const SHOWN_GIVEN_UP = ["screened", "stopped", "infeasible", "failed"];
const plot = { element: document.getElementById("scatter"), chart: null, x: null, y: null, colour: "", view: "front" };
const state = { chosen: null, picked: null, limits: {}, givenUp: true };

function measuredKeys(maximise) {
  const present = new Set(MEASURED.flatMap((row) => field(row, "quantities").map((packed) => packed[0])));
  const keys = KINDS.filter((kind, index) => present.has(index) && kind.maximise === maximise && kind.axis);
  return keys.map((kind) => kind.key).sort((a, b) => rank(a) - rank(b));
}

const rank = (key) => (DATA.objectives.includes(key) ? DATA.objectives.indexOf(key) : 99);
const kindOf = (key) => KINDS[KEY_AT[key]];
const keyLabel = (key) => kindOf(key).title + (kindOf(key).target ? ` (${kindOf(key).target})` : "");

const guess = (row, key) => field(row, "guesses").find((packed) => packed[0] === KEY_AT[key]);

// Where a trial is drawn: what was measured of it, or of one that was given up what was known; undefined where nothing.
const placed = (row, key) => value(row, key) ?? (guess(row, key) || [])[1];

// Trials with a place: on the front, behind it, barred by a constraint, given up.
function scatterRows() {
  const there = MEASURED.filter((row) => value(row, plot.x) !== undefined && value(row, plot.y) !== undefined);
  const onFront = (row) => ON_FRONT.has(field(row, "number"));
  const known = (row) => placed(row, plot.x) !== undefined || placed(row, plot.y) !== undefined;
  return {
    all: there,
    front: there.filter(onFront),
    behind: there.filter((row) => field(row, "feasible") && !onFront(row)),
    barred: there.filter((row) => !field(row, "feasible")),
    givenUp: DATA.trials.filter((row) => SHOWN_GIVEN_UP.includes(text(field(row, "outcome"))) && known(row)),
  };
}

function drawScatter() {
  const rows = scatterRows();
  const limits = (key) => DATA.constraints.filter((limit) => limit.key === key).map((limit) => limit.limit);
  const values = (list, key) => list.map((row) => value(row, key));
  const baseline = rows.all.filter((row) => field(row, "number") === DATA.baseline);
  const x = costScale(kindOf(plot.x), values(rows.all, plot.x), limits(plot.x));
  const shown = rows.front.length ? [...rows.front, ...baseline] : [];
  const y = qualityScale(kindOf(plot.y), values(rows.all, plot.y), values(shown, plot.y));
  const colours = colouring(rows.all.filter((row) => field(row, "feasible")));
  Object.assign(plot, { rows, baseline, colours, xFront: x, yFront: y });
  if (plot.view === "all") showAll();
  else drawView(x, y);
}

function drawView(x, y) {
  plot.chart.draw(x, y, { x: axisTitle(x), y: axisTitle(y) });
  drawLegend();
  for (const button of document.querySelectorAll("[data-view]"))
    button.setAttribute("aria-pressed", String(button.dataset.view === plot.view));
}

// The whole of the measured trials, and of those that were given up and are drawn.
function showAll() {
  const drawn = state.givenUp ? [...plot.rows.all, ...plot.rows.givenUp] : plot.rows.all;
  const whole = (scale) => {
    const places = drawn
      .map((row) => placed(row, scale.kind.key))
      .filter((v) => v !== undefined && (v > 0 || !scale.logarithmic || scale.kind.maximise));
    const [least, most] = [
      Math.min(...places.map(scale.forward), scale.range[0]),
      Math.max(...places.map(scale.forward), scale.range[1]),
    ];
    const room = 0.03 * (most - least);
    return {
      ...scale,
      range: [least < scale.range[0] ? least - room : least, most > scale.range[1] ? most + room : most],
    };
  };
  drawView(whole(plot.xFront), whole(plot.yFront));
}

function setView(view) {
  plot.view = view;
  if (view === "all") showAll();
  else drawView(plot.xFront, plot.yFront);
}

function paintScatter(chart) {
  const { x, y } = chart;
  const { front, behind, barred, givenUp } = plot.rows;
  const many = behind.length > 300 ? " many" : "";
  const at = (row) => [chart.px(x.forward(value(row, plot.x))), chart.py(y.forward(value(row, plot.y)))];
  paintConstraints(chart);
  if (state.givenUp) for (const row of givenUp) paintGivenUp(chart, row, givenUp.length > 300 ? " many" : "");
  for (const row of barred) chart.mark(field(row, "number"), ...at(row), "cross", 3.2, `barred${many}`);
  for (const row of behind)
    chart.mark(field(row, "number"), ...at(row), "circle", 3.8, `behind${many}`, plot.colours.of(row));
  if (DATA.objectives.includes(plot.x) && DATA.objectives.includes(plot.y)) {
    const corners = stepLine(front, x, y, x.range[1], y.range[0]);
    chart.line(
      corners.map(([a, b]) => [chart.px(a), chart.py(b)]),
      "front-line",
    );
  }
  chart.area.append(s("path", { class: "interval", d: front.map((row) => arms(chart, row, at(row))).join("") }));
  for (const row of front) chart.mark(field(row, "number"), ...at(row), "circle", 5.6, "front", plot.colours.of(row));
  for (const row of plot.baseline) {
    const [px, py] = at(row);
    chart.mark(field(row, "number"), px, py, "star", 9, "baseline");
    chart.area.append(s("text", { x: px, y: py + 22, "text-anchor": "middle", class: "name" }, "baseline"));
  }
  plot.rings = chart.area.appendChild(s("g"));
  paintRings();
  dimMarks();
}

// The 95 % intervals of both quantities, as lines through the mark.
function arms(chart, row, [px, py]) {
  const ends = (scale) => {
    const packed = quantity(row, scale.kind.key);
    const least = scale.logarithmic && !scale.kind.maximise ? 1e-12 : -Infinity;
    return [low(packed) ?? packed[1], high(packed) ?? packed[1]].map((end) => scale.forward(Math.max(end, least)));
  };
  const [left, right] = ends(chart.x).map((end) => one(chart.px(end)));
  const [bottom, top] = ends(chart.y).map((end) => one(chart.py(end)));
  return `M${left} ${one(py)}H${right}M${one(px)} ${bottom}V${top}`;
}

// A trial that was not measured: hollow, by its outcome's shape, where it is known to lie; at the edge where only one of
// the two is known.
function paintGivenUp(chart, row, many) {
  const [cost, quality] = [placed(row, plot.x), placed(row, plot.y)];
  const fits = (scale, v) => v !== undefined && !(scale.logarithmic && !scale.kind.maximise && v <= 0);
  const px = fits(chart.x, cost) ? chart.px(chart.x.forward(cost)) : chart.box.left + 7;
  const py = fits(chart.y, quality) ? chart.py(chart.y.forward(quality)) : chart.box.bottom - 7;
  const outcome = text(field(row, "outcome"));
  chart.mark(field(row, "number"), px, py, OUTCOME_SHAPES[outcome], 3.6, `given-up ${outcome}${many}`);
}

function paintConstraints(chart) {
  const { left, right, top, bottom } = chart.box;
  const lines = DATA.constraints.map((limit) => ({ ...limit, kind: "limit" }));
  for (const [key, limit] of Object.entries(state.limits)) lines.push({ ...limit, key, kind: "limit asked" });
  for (const { key, limit, words, atMost, kind } of lines) {
    if (key !== plot.x && key !== plot.y) continue;
    const across = key === plot.x;
    const at = one(across ? chart.px(chart.x.forward(limit)) : chart.py(chart.y.forward(limit)));
    const inside = across ? at >= left && at <= right : at >= top && at <= bottom;
    if (kind === "limit asked") {
      const [a, b] = across
        ? [Math.min(Math.max(atMost ? at : left, left), right), Math.max(Math.min(atMost ? right : at, right), left)]
        : [Math.min(Math.max(atMost ? top : at, top), bottom), Math.max(Math.min(atMost ? at : bottom, bottom), top)];
      const box = across
        ? { x: a, y: top, width: Math.max(b - a, 0), height: bottom - top }
        : { x: left, y: a, width: right - left, height: Math.max(b - a, 0) };
      chart.area.append(s("rect", { ...box, class: "outside" }));
    }
    if (!inside) continue;
    chart.area.append(s("path", { d: across ? `M${at} ${top}V${bottom}` : `M${left} ${at}H${right}`, class: kind }));
    const place = across
      ? { x: at - 5, y: bottom - 6, transform: `rotate(-90 ${at - 5} ${bottom - 6})` }
      : { x: left + 8, y: at - 5 };
    chart.area.append(s("text", { ...place, class: `limit-name ${kind}` }, words));
  }
}

// The ring around the trial whose card is open, and the flag on the one that the limits pick.
function paintRings() {
  if (!plot.rings) return;
  const { chart } = plot;
  const place = (number) => {
    const row = ROW_OF.get(number);
    if (!row || placed(row, plot.x) === undefined || placed(row, plot.y) === undefined) return null;
    const at = [chart.px(chart.x.forward(placed(row, plot.x))), chart.py(chart.y.forward(placed(row, plot.y)))];
    return at.every(Number.isFinite) ? at : null;
  };
  const [chosen, picked] = [place(state.chosen), place(state.picked)];
  plot.rings.replaceChildren(
    ...(chosen ? [s("circle", { cx: one(chosen[0]), cy: one(chosen[1]), r: 10.5, class: "ring" })] : []),
    ...(picked
      ? [
          s("path", { d: `M${one(picked[0])} ${one(picked[1] - 6)}v-17`, class: "flag-pole" }),
          s("path", { d: `M${one(picked[0])} ${one(picked[1] - 35)}h34v14h-34z`, class: "flag" }),
          s(
            "text",
            { x: one(picked[0] + 17), y: one(picked[1] - 24.5), "text-anchor": "middle", class: "flag-name" },
            "pick",
          ),
        ]
      : []),
  );
}

function dimMarks() {
  for (const [, , number, path] of plot.chart?.spots ?? []) path.classList.toggle("dim", !isKept(number));
}

function drawLegend() {
  const { barred, givenUp, all } = plot.rows;
  const { x, y } = plot.chart;
  const items = [legendItem(icon("circle", "front"), "on the front, with 95 % intervals")];
  if (plot.baseline.length) items.push(legendItem(icon("star", "baseline"), "baseline"));
  items.push(...plot.colours.legend.map(([name, colour]) => legendItem(icon("circle", "behind", colour), name)));
  if (plot.colours.scale) items.push(h("li", {}, ...colourBar(plot.colours)));
  if (barred.length) items.push(legendItem(icon("cross", "barred"), `breaks a constraint (${barred.length})`));
  if (state.givenUp)
    for (const outcome of SHOWN_GIVEN_UP) {
      const count = givenUp.filter((row) => text(field(row, "outcome")) === outcome).length;
      if (count) items.push(legendItem(icon(OUTCOME_SHAPES[outcome], `given-up ${outcome}`), `${outcome} (${count})`));
    }
  if (state.givenUp && givenUp.length)
    items.push(
      h(
        "li",
        { class: "faint" },
        "hollow: no result, but where it was foreseen or last judged; at the edge where that is not known",
      ),
    );
  const below = all.filter(
    (row) => y.forward(value(row, plot.y)) < y.range[0] || x.forward(value(row, plot.x)) > x.range[1],
  ).length;
  if (below) items.push(h("li", {}, `${below.toLocaleString("en")} outside the picture`));
  document.getElementById("legend").replaceChildren(...items);
}

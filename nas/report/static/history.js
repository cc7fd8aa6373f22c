// The hypervolume after each trial, or over time.

const historyPlot = { element: document.getElementById("history"), chart: null, over: "trial" };
const TIMED = DATA.history.length > 1 && DATA.history.every((step) => step.length > 2);

function startHistory() {
  const select = document.getElementById("history-over");
  const entries = [["trial", "trials"], ...(TIMED ? [["time", "time"]] : [])];
  options(select, entries, "trial");
  select.addEventListener("change", () => {
    historyPlot.over = select.value;
    drawHistory();
  });
  seenOnce(historyPlot.element, () => {
    const handlers = { hover: showStep, leave: hideTip, open: (number) => choose(number, historyPlot.element) };
    historyPlot.chart = new Chart(historyPlot.element, paintHistory, handlers);
    drawHistory();
  });
}

// Seconds, minutes or hours, whichever reads best for the whole.
function timeUnit(seconds) {
  if (seconds < 120) return [1, "s"];
  return seconds < 7200 ? [60, "min"] : [3600, "h"];
}

function drawHistory() {
  const last = DATA.history.at(-1);
  const [factor, unit] = timeUnit(last[2] ?? 0);
  const timed = historyPlot.over === "time";
  const most = timed ? last[2] / factor : last[0];
  // From where it began to grow: from 0 on, most of what a search adds would be a flat line.
  const volumes = DATA.history.map((step) => step[1]);
  const [first, highest] = [volumes.find((volume) => volume > 0) ?? 0, Math.max(...volumes)];
  const room = 0.12 * (highest - first) || 0.05;
  const plain = (range) => ({
    range,
    forward: (v) => v,
    ticks: ([a, b]) => niceSteps(a, b, range === up ? 4 : 8).map((v) => [v, String(v)]),
  });
  const up = [Math.max(first - room, 0), highest + room];
  historyPlot.across = (step) => (timed ? step[2] / factor : step[0]);
  historyPlot.chart.draw(plain([0, most || 1]), plain(up), {
    x: timed ? `time since the start (${unit})` : "trial",
    y: "hypervolume",
  });
}

function paintHistory(chart) {
  const line = [];
  let before = null;
  for (const step of DATA.history) {
    const [x, y] = [chart.px(historyPlot.across(step)), chart.py(step[1])];
    if (before !== null && before !== y) line.push([x, before]);
    if (before !== y) line.push([x, y]);
    if (before !== null && y < before) chart.mark(step[0], x, y, "circle", 2.6, "step");
    before = y;
  }
  line.push([chart.px(historyPlot.across(DATA.history.at(-1))), before]);
  chart.line(line, "history-line");
}

function showStep(number, event) {
  const step = DATA.history.find(([trial]) => trial === number);
  const row = ROW_OF.get(number);
  if (row) showTip(row, event, DATA.objectives, [`hypervolume ${step[1].toFixed(4)} after this trial`]);
}

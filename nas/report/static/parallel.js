// Parallel coordinates: a line for every measured trial across its objectives and choices; a range dragged on an axis, or
// set by the inputs below, dims what lies outside.

const FIRST_AXES = 11; // shown to begin with; the others can be added
const LEAST_GAP = 84; // pixels between two axes
const LAID = { left: 46, right: 46, top: 62, bottom: 16 };
const parallel = {
  element: document.getElementById("parallel"),
  axes: [],
  byId: new Map(),
  shown: new Set(),
  queued: false,
  // All that follows a change of ranges or colours happens once a frame, however fast the pointer is.
  queue() {
    if (this.queued) return;
    this.queued = true;
    requestAnimationFrame(() => {
      this.queued = false;
      drawLines();
      drawRanges();
      showKept();
    });
  },
};

function startParallel() {
  parallel.axes = allAxes();
  parallel.byId = new Map(parallel.axes.map((axis) => [axis.id, axis]));
  parallel.shown = new Set(parallel.axes.slice(0, FIRST_AXES).map((axis) => axis.id));
  document.getElementById("clear-ranges").addEventListener("click", () => {
    clearRanges();
    say("All ranges cleared");
  });
  document.getElementById("ranges").closest("details").addEventListener("toggle", drawRanges);
  drawAxisChoice();
  seenOnce(parallel.element, () => {
    drawParallel();
    let width = parallel.element.clientWidth;
    new ResizeObserver(() => {
      if (parallel.element.clientWidth === width) return;
      width = parallel.element.clientWidth;
      drawParallel();
    }).observe(parallel.element);
  });
  showKept();
}

const shownAxes = () => parallel.axes.filter((axis) => parallel.shown.has(axis.id));

function drawAxisChoice() {
  const boxes = parallel.axes.map((axis) => {
    const input = h("input", { type: "checkbox", checked: parallel.shown.has(axis.id) ? "" : undefined });
    input.addEventListener("change", () => {
      if (input.checked) parallel.shown.add(axis.id);
      else {
        parallel.shown.delete(axis.id);
        setRange(axis, null);
      }
      drawParallel();
    });
    return h("label", {}, input, axis.title, axis.note ? h("span", { class: "faint" }, ` ${axis.note}`) : "");
  });
  document.getElementById("axis-choice").replaceChildren(...boxes);
}

function drawParallel() {
  const axes = shownAxes();
  const width = Math.max(parallel.element.clientWidth, LAID.left + LAID.right + LEAST_GAP * (axes.length - 1));
  const height = parallel.element.clientHeight || 340;
  parallel.places = axes.map(
    (_, at) => LAID.left + (at * (width - LAID.left - LAID.right)) / Math.max(axes.length - 1, 1),
  );
  parallel.py = (position) => height - LAID.bottom - position * (height - LAID.top - LAID.bottom);
  parallel.back = (y) => Math.min(Math.max((height - LAID.bottom - y) / (height - LAID.top - LAID.bottom), 0), 1);
  parallel.lines = s("g");
  parallel.focus = s("g");
  const columns = axes.map((axis, at) => drawAxis(axis, parallel.places[at]));
  const svg = s(
    "svg",
    { width, height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true", focusable: "false" },
    parallel.lines,
    parallel.focus,
    columns,
  );
  svg.addEventListener("pointermove", overLine);
  svg.addEventListener("pointerleave", hideTip);
  svg.addEventListener("click", (event) => {
    const row = parallel.brushed ? null : lineAt(event);
    parallel.brushed = false;
    if (row) choose(field(row, "number"), parallel.element);
  });
  parallel.element.replaceChildren(svg);
  parallel.columns = new Map(axes.map((axis, at) => [axis.id, columns[at]]));
  drawRangeInputs(axes);
  drawLines();
  drawRanges();
  showKept();
}

function drawAxis(axis, x) {
  const [top, bottom] = [parallel.py(1), parallel.py(0)];
  const title = axis.title.length > (axis.title.includes(".") ? 8 : 11) ? halves(axis.title) : [axis.title];
  const names = title.map((words, at) =>
    s("text", { x, y: 18 + 14 * at, "text-anchor": "middle", class: "title" }, shortened(words, 13)),
  );
  const ticks = axis.ticks.map(([position, label]) =>
    s("text", { x: x + 7, y: one(parallel.py(position) + 4), class: "tick" }, shortened(label, 11)),
  );
  const range = s("rect", { x: x - 7, width: 14, y: top, height: 0, class: "range", hidden: "" });
  const column = s(
    "g",
    { class: "axis", "data-axis": axis.id },
    s("title", {}, [axis.title, axis.note].filter(Boolean).join(", ")),
    names,
    axis.note
      ? s(
          "text",
          { x, y: 18 + 14 * title.length, "text-anchor": "middle", class: "note" },
          shortened(axis.note.replace("onnxruntime", "ort"), 16),
        )
      : "",
    s("path", { d: `M${one(x)} ${top}V${bottom}`, class: "rule" }),
    ticks,
    range,
    s("rect", { x: x - 14, y: top - 8, width: 28, height: bottom - top + 16, class: "grip" }),
  );
  column.querySelector(".grip").addEventListener("pointerdown", (event) => beginRange(event, axis));
  return column;
}

const shortened = (words, most) => (words.length > most ? `${words.slice(0, most - 1)}…` : words);

function halves(words) {
  const spaces = [...words.matchAll(/[ .]/g)].map((match) => match.index);
  if (!spaces.length) return [words];
  const middle = spaces.reduce((a, b) => (Math.abs(b - words.length / 2) < Math.abs(a - words.length / 2) ? b : a));
  return [words.slice(0, middle), words.slice(middle + 1)];
}

// A drag on an axis sets its range, a click without one clears it. A finger scrolls the page: it has the inputs below.
function beginRange(event, axis) {
  if (event.button !== 0 || event.pointerType === "touch") return;
  event.preventDefault();
  const grip = event.currentTarget;
  const at = (moved) => parallel.back(moved.clientY - parallel.element.getBoundingClientRect().top);
  const from = at(event);
  let dragged = false;
  grip.setPointerCapture(event.pointerId);
  const move = (moved) => {
    dragged ||= Math.abs(moved.clientY - event.clientY) > 4;
    if (dragged) setRange(axis, [Math.min(from, at(moved)), Math.max(from, at(moved))]);
  };
  const end = () => {
    grip.removeEventListener("pointermove", move);
    parallel.brushed = true;
    if (!dragged) setRange(axis, null);
    syncInputs(axis);
  };
  grip.addEventListener("pointermove", move);
  grip.addEventListener("pointerup", end, { once: true });
}

// Lines that meet at a choice fan out a little there, each always in the same way, so that many look like many.
function corners(row) {
  const fan = ((field(row, "number") * 0.618034) % 1) - 0.5;
  return shownAxes().flatMap((axis, at) => {
    const position = axis.position(row);
    return position === undefined ? [] : [[parallel.places[at], parallel.py(position + fan * axis.fan)]];
  });
}

// Lines of one colour are one path: two thousand are redrawn while a range is dragged.
function drawLines() {
  if (!parallel.lines) return;
  const groups = new Map();
  const add = (kind, colour, row) => {
    const key = `${kind}|${colour}`;
    if (!groups.has(key)) groups.set(key, []);
    groups.get(key).push(polyline(corners(row)));
  };
  for (const row of MEASURED) {
    const number = field(row, "number");
    if (!isKept(number)) add("dim", "", row);
    else if (ON_FRONT.has(number)) add("front", lineColour(row), row);
    else add(field(row, "feasible") ? "behind" : "barred", lineColour(row), row);
  }
  const order = ["dim", "barred", "behind", "front"];
  const sorted = [...groups].sort(([a], [b]) => order.indexOf(a.split("|")[0]) - order.indexOf(b.split("|")[0]));
  parallel.lines.replaceChildren(
    ...sorted.map(([key, parts]) => {
      const [kind, colour] = key.split("|");
      const path = s("path", { d: parts.join(""), class: `trial ${kind}${MEASURED.length > 300 ? " many" : ""}` });
      if (colour) path.style.setProperty("--c", colour);
      return path;
    }),
  );
  focusLine();
}

const lineColour = (row) => (field(row, "feasible") ? plot.colours.of(row) : "");

// The trial whose card is open.
function focusLine() {
  const row = ROW_OF.get(state.chosen);
  if (!parallel.focus) return;
  const there = row && text(field(row, "outcome")) === "measured";
  parallel.focus.replaceChildren(...(there ? [s("path", { d: polyline(corners(row)), class: "trial chosen" })] : []));
}

// The measured trial whose line passes within a few pixels of the pointer; of several one within the ranges.
function lineAt(event) {
  const frame = parallel.element.getBoundingClientRect();
  const [x, y] = [event.clientX - frame.left + parallel.element.scrollLeft, event.clientY - frame.top];
  const right = parallel.places.findIndex((place) => place >= x);
  if (right < 1) return null;
  const [a, b] = shownAxes().slice(right - 1, right + 1);
  const share = (x - parallel.places[right - 1]) / (parallel.places[right] - parallel.places[right - 1]);
  let [found, least] = [null, 6];
  for (const row of MEASURED) {
    const [from, to] = [a.position(row), b.position(row)];
    if (from === undefined || to === undefined || !isKept(field(row, "number"))) continue;
    const distance =
      Math.abs(parallel.py(from + share * (to - from)) - y) - (ON_FRONT.has(field(row, "number")) ? 1 : 0);
    if (distance < least) [found, least] = [row, distance];
  }
  return found;
}

function overLine(event) {
  const row = event.buttons ? null : lineAt(event);
  if (row) showTip(row, event, DATA.objectives);
  else hideTip();
}

function drawRanges() {
  for (const [id, column] of parallel.columns ?? []) {
    const rectangle = column.querySelector(".range");
    const range = ranges.get(id);
    rectangle.toggleAttribute("hidden", !range);
    if (!range) continue;
    rectangle.setAttribute("y", one(parallel.py(range[1])));
    rectangle.setAttribute("height", one(Math.max(parallel.py(range[0]) - parallel.py(range[1]), 2)));
  }
}

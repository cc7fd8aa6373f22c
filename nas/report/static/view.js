// Zoom, and the words that follow the pointer.

function onZoom(event) {
  const updates = {};
  for (const [axis, scale] of [
    ["xaxis", plot.xScale],
    ["yaxis", plot.yScale],
  ]) {
    if (event[`${axis}.range[0]`] === undefined) continue;
    const range = [event[`${axis}.range[0]`], event[`${axis}.range[1]`]];
    for (const [name, content] of Object.entries(tickArrays(scale, range))) updates[`${axis}.${name}`] = content;
  }
  if (!Object.keys(updates).length) return;
  plot.view = "zoomed";
  Plotly.relayout(plot.element, updates);
}

// Double-click goes back to the front, and from there to everything.
function changeView() {
  plot.view = plot.view === "front" ? "all" : "front";
  const whole = (scale) => {
    const lowest = Math.min(...plot.rows.map((row) => scale.forward(value(row, scale.kind.key))), scale.range[0]);
    return lowest < scale.range[0] ? [lowest - 0.05 * (scale.range[1] - lowest), scale.range[1]] : scale.range;
  };
  const update = {};
  for (const [axis, scale] of [
    ["xaxis", plot.xScale],
    ["yaxis", plot.yScale],
  ]) {
    const range = plot.view === "all" ? whole(scale) : scale.range;
    for (const [name, content] of Object.entries(tickArrays(scale, range))) update[`${axis}.${name}`] = content;
    update[`${axis}.range`] = [...range];
  }
  Plotly.relayout(plot.element, update);
}

function showTip(row, event, keys = [plot.y, plot.x], more = []) {
  const tip = document.getElementById("tip");
  const lines = keys.flatMap((key) => [
    h(
      "div",
      { class: "figure" },
      `${kindOf(key).title}: `,
      h("b", {}, display(kindOf(key), value(row, key))),
      ` ${spread(kindOf(key), quantity(row, key))}`,
    ),
    servedBy(row, key) ? h("div", { class: "soft" }, `served by ${servedBy(row, key)}`) : "",
  ]);
  const status = ON_FRONT.has(field(row, "number"))
    ? " · on the front"
    : field(row, "feasible")
      ? ""
      : " · breaks a constraint";
  const base = field(row, "number") === DATA.baseline ? " · the baseline" : "";
  tip.replaceChildren(
    h("div", {}, h("b", {}, `Trial ${field(row, "number")}`), h("span", { class: "faint" }, base + status)),
    ...lines.filter(Boolean),
    ...more.map((words) => h("div", {}, words)),
    ...field(row, "gains").map((words) => h("div", {}, words)),
    h("div", { class: "soft" }, field(row, "words")),
  );
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  const left = event.clientX + 16 + box.width > innerWidth ? event.clientX - box.width - 16 : event.clientX + 16;
  tip.style.left = `${Math.max(6, left)}px`;
  tip.style.top = `${Math.max(6, Math.min(event.clientY + 14, innerHeight - box.height - 8))}px`;
}

const spread = (kind, packed) => (interval(kind, packed) ? `(${interval(kind, packed)})` : "");

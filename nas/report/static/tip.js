// The words that follow the pointer.

const tip = document.getElementById("tip");
const hideTip = () => {
  tip.hidden = true;
};

function statusWords(row) {
  const outcome = text(field(row, "outcome"));
  const said = [];
  if (field(row, "number") === DATA.baseline) said.push("the baseline");
  if (ON_FRONT.has(field(row, "number"))) said.push("on the front");
  else if (outcome !== "measured") said.push(outcome);
  else if (!field(row, "feasible")) said.push("breaks a constraint");
  return said.join(" · ");
}

function figureLines(row, keys) {
  return keys.flatMap((key) => {
    const kind = kindOf(key);
    const known = value(row, key);
    const foreseen = known === undefined ? guess(row, key) : undefined;
    if (known === undefined && foreseen === undefined) return [];
    const number = h("b", {}, display(kind, known ?? foreseen[1]));
    const more = foreseen ? ` ${text(foreseen[2])}, no result` : ` ${spread(kind, quantity(row, key))}`;
    const lines = [h("div", { class: "figure" }, `${kind.title}: `, number, more)];
    if (servedBy(row, key)) lines.push(h("div", { class: "soft" }, `served by ${servedBy(row, key)}`));
    return lines;
  });
}

function showTip(row, event, keys = [plot.y, plot.x], more = []) {
  const status = statusWords(row);
  tip.replaceChildren(
    h(
      "div",
      {},
      h("b", {}, `Trial ${field(row, "number")}`),
      h("span", { class: "faint" }, status ? ` · ${status}` : ""),
    ),
    ...figureLines(row, keys),
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

// A trial in one sentence, for those who hear the page.
function sentence(row) {
  const figures = DATA.objectives.filter((key) => value(row, key) !== undefined);
  const words = figures.map((key) => `${kindOf(key).title} ${display(kindOf(key), value(row, key))}`);
  return [`Trial ${field(row, "number")}`, statusWords(row), ...words, field(row, "words")].filter(Boolean).join(", ");
}

const say = (words) => {
  document.getElementById("said").textContent = words;
};

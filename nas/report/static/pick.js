// The constraint sliders: what they ask, what is picked, and what is near where nothing is.

const pickState = { question: PICK?.questions[0], limits: {} };

// A slider has a stop for every value on the front, and one more where it limits nothing.
function stopsOf({ column, atMost, name }) {
  const values = [...new Set(pickState.question.candidates.map((one) => one[column]))].sort((a, b) => a - b);
  const stops = values
    .map((number) => (name === "maxSizeBytes" ? number : roundedLimit(number, values, atMost)))
    .filter((stop) => stop !== null);
  return atMost ? [...stops, null] : [null, ...stops];
}

const limitKind = ({ name }) =>
  kindOf(
    name === "minAccuracy"
      ? pickState.question.quality
      : name === "maxSizeBytes"
        ? "size_bytes"
        : pickState.question.cost,
  );

function startPick() {
  if (!PICK) return;
  const select = document.getElementById("pick-target");
  const usual = PICK.questions[0];
  options(
    select,
    PICK.questions.map((question) => [question.cost, kindOf(question.cost).targetWords ?? question.costWords]),
    usual.cost,
  );
  select.addEventListener("change", () => {
    pickState.question = PICK.questions.find((question) => question.cost === select.value);
    delete pickState.limits.maxLatencyMs;
    drawSliders();
    showPick();
  });
  document.getElementById("pick-clear").addEventListener("click", () => {
    pickState.limits = {};
    drawSliders();
    showPick();
  });
  drawSliders();
  showPick();
}

function drawSliders() {
  const rows = LIMITS.filter(({ name }) => name !== "maxLatencyMs" || pickState.question.latency).map(sliderRow);
  document.getElementById("sliders").replaceChildren(...rows);
}

function sliderRow(limit) {
  const { name, atMost } = limit;
  const stops = stopsOf(limit);
  const kind = limitKind(limit);
  const title = `${{ maxLatencyMs: "Latency", minAccuracy: "Accuracy", maxSizeBytes: "File size" }[name]} at ${atMost ? "most" : "least"}`;
  const unit = { maxLatencyMs: "ms", minAccuracy: "0 to 1", maxSizeBytes: "bytes" }[name];
  const slider = h("input", {
    type: "range",
    id: `slider-${name}`,
    min: 0,
    max: stops.length - 1,
    step: 1,
    "aria-label": title,
  });
  const number = h("input", {
    type: "number",
    id: `limit-${name}`,
    min: 0,
    step: "any",
    placeholder: "any",
    "aria-label": `${title}, ${unit}`,
  });
  const words = h("output", { for: slider.id });
  const tell = () => {
    const set = pickState.limits[name];
    words.textContent = set === undefined ? "any" : display(kind, set);
    slider.setAttribute(
      "aria-valuetext",
      set === undefined ? "any" : `${atMost ? "at most" : "at least"} ${display(kind, set)}`,
    );
  };
  const put = (chosen) => {
    if (chosen === null || !(chosen > 0) || (name === "minAccuracy" && chosen > 1)) delete pickState.limits[name];
    else pickState.limits[name] = chosen;
    tell();
    showPick();
  };
  slider.value = atMost ? stops.length - 1 : 0;
  if (pickState.limits[name] !== undefined) {
    number.value = pickState.limits[name];
    slider.value = nearestStop(stops, pickState.limits[name]);
  }
  slider.addEventListener("input", () => {
    const stop = stops[Number(slider.value)];
    number.value = stop ?? "";
    number.removeAttribute("aria-invalid");
    put(stop);
  });
  number.addEventListener("input", () => {
    const typed = number.value === "" ? null : Number(number.value);
    const whole = name === "maxSizeBytes" && typed !== null ? Math.floor(typed) : typed;
    const wrong = whole !== null && (!(whole > 0) || (name === "minAccuracy" && whole > 1));
    number.toggleAttribute("aria-invalid", wrong);
    slider.value = nearestStop(stops, wrong ? null : whole);
    put(wrong ? null : whole);
  });
  tell();
  return h(
    "div",
    { class: "slider" },
    h("span", { class: "name" }, title),
    slider,
    words,
    h("span", { class: "typed" }, number, h("small", {}, unit)),
  );
}

function nearestStop(stops, chosen) {
  if (chosen === null) return stops.indexOf(null);
  const distance = (stop) => (stop === null ? Infinity : Math.abs(stop - chosen));
  return stops.reduce((best, stop, at) => (distance(stop) < distance(stops[best]) ? at : best), 0);
}

function showPick() {
  const { question, limits } = pickState;
  const found = nasPick({ ...limits, target: question.target });
  const row = ROW_OF.get(found.trial);
  document.getElementById("pick-command").textContent = pickCommand(question, limits);
  document.getElementById("pick-result").replaceChildren(...(row ? pickWords(found, row) : nothingWords()));
  document.getElementById("pick-result").classList.toggle("none", !row);
  state.picked = found.trial;
  state.limits = Object.fromEntries(
    LIMITS.filter(({ name }) => limits[name] !== undefined).map((limit) => {
      const kind = limitKind(limit);
      return [
        kind.key,
        {
          limit: limits[limit.name],
          atMost: limit.atMost,
          words: `${limit.atMost ? "≤" : "≥"} ${display(kind, limits[limit.name])}`,
        },
      ];
    }),
  );
  if (plot.chart?.x) plot.chart.draw(plot.chart.x, plot.chart.y, plot.chart.names);
}

const RULE_WORDS = {
  knee: "the knee",
  "most accurate": "the most accurate",
  fastest: "the fastest",
  cheapest: "the cheapest",
};

function pickWords({ trial, rule, count, leader, runnerUp }, row) {
  const { question } = pickState;
  const figures = [...new Set([question.quality, question.cost, "size_bytes"])];
  const of = (each) => figures.map((key) => display(kindOf(key), value(each, key))).join(", ");
  const where =
    count === question.candidates.length
      ? `of the ${count} on the front`
      : `of the ${count} on the front within the limits`;
  const link = h("button", { type: "button", class: "open", "data-pick": trial }, `Trial ${trial}`);
  const why =
    leader === trial
      ? ` is ${RULE_WORDS[rule]} ${where}: `
      : ` has the smallest file of those that cannot be told apart from trial ${leader}, ${RULE_WORDS[rule]} ${where}: `;
  const parts = [
    h("p", { class: "picked" }, link, why, h("b", {}, of(row)), "."),
    h("p", { class: "soft small" }, field(row, "words")),
  ];
  link.addEventListener("click", (event) => choose(trial, event.currentTarget));
  if (runnerUp !== null)
    parts.push(h("p", { class: "soft small" }, `Runner-up: trial ${runnerUp}, ${of(ROW_OF.get(runnerUp))}.`));
  return parts;
}

// What comes nearest on every side: for each limit the best of those that meet all others.
function nothingWords() {
  const { question, limits } = pickState;
  const asked = LIMITS.filter(({ name }) => limits[name] !== undefined);
  const lines = asked.flatMap((limit) => {
    const others = asked.filter((other) => other !== limit);
    const able = question.candidates.filter((one) =>
      others.every(({ name, column, atMost }) => !breaks(one[column], limits[name], atMost)),
    );
    if (!able.length) return [];
    const nearest = able.reduce((a, b) =>
      (limit.atMost ? b[limit.column] < a[limit.column] : b[limit.column] > a[limit.column]) ? b : a,
    );
    return [
      h(
        "li",
        {},
        `trial ${nearest[0]} comes nearest in ${limitKind(limit).title}: ${display(limitKind(limit), nearest[limit.column])}`,
      ),
    ];
  });
  return [
    h("p", { class: "picked" }, "No design on the front keeps to these limits. Loosen one."),
    lines.length ? h("ul", { class: "small" }, lines) : "",
  ].filter(Boolean);
}

// The card: everything that is known of one trial.

const card = document.getElementById("card");
let opener = null;

function choose(number, from = null) {
  const row = ROW_OF.get(number);
  if (!row) return;
  plot.chosen = number;
  card.replaceChildren(...cardParts(row));
  card.scrollTop = 0;
  if (from) {
    opener = from;
    card.classList.add("raised");
  }
  for (const line of document.querySelectorAll("tr[data-trial]"))
    line.classList.toggle("chosen", Number(line.dataset.trial) === number);
  if (plot.xScale) Plotly.restyle(plot.element, ringUpdate(), [4]);
}

function ringUpdate() {
  const trace = ring(plot.xScale, plot.yScale);
  return { x: [trace.x], y: [trace.y], customdata: [trace.customdata] };
}

function closeCard() {
  card.classList.remove("raised");
  if (opener && opener.isConnected) opener.focus();
  opener = null;
}

function cardParts(row) {
  const number = field(row, "number"),
    outcome = text(field(row, "outcome"));
  const badges = [];
  if (ON_FRONT.has(number)) badges.push(h("span", { class: "badge" }, "on the front"));
  if (DATA.baseline === number) badges.push(h("span", { class: "badge" }, "baseline"));
  if (DATA.knee === number) badges.push(h("span", { class: "badge" }, "knee"));
  if (outcome !== "measured") badges.push(h("span", { class: `badge ${GIVEN_UP.has(outcome) ? "quiet" : "warn"}` }, outcome));
  else if (!field(row, "feasible")) badges.push(h("span", { class: "badge warn" }, "breaks a constraint"));
  if (field(row, "spared")) badges.push(h("span", { class: "badge quiet" }, "spared"));
  const head = h(
    "div",
    { class: "head" },
    h("h2", {}, `Trial ${number}`),
    badges,
    h("button", { class: "close", "aria-label": "Close the details", onclick: closeCard }, "×"),
  );
  const command = field(row, "command");
  return [
    head,
    h("p", { class: "soft" }, field(row, "words")),
    ...field(row, "gains").map((words) => h("p", { class: "gain" }, words)),
    reasonPart(row),
    command ? h("pre", { class: "shell", tabindex: "0", "aria-label": "Command that picks this trial" }, command) : "",
    ...part("Numbers", numbersTable(row)),
    ...part("Known before its end, no results", foreseenTable(row)),
    ...part("Choices", listOf(pairs(field(row, "choices")))),
    ...part("Compression on this target", listOf(pairs(field(row, "labels")))),
    ...part("Stages", stagesTable(row)),
    ...part(
      "Notes",
      field(row, "notes").length
        ? h(
            "ul",
            {},
            field(row, "notes").map((note) => h("li", {}, text(note))),
          )
        : "",
    ),
    ...part("Origin", listOf(originOf(row))),
  ].filter(Boolean);
}

const part = (title, content) => (content ? [h("h3", {}, title), content] : []);
const listOf = (entries) =>
  entries.length
    ? h(
        "dl",
        {},
        entries.flatMap(([name, content]) => [h("dt", {}, name), h("dd", {}, content)]),
      )
    : "";

function reasonPart(row) {
  const reason = field(row, "reason");
  const duplicate = field(row, "duplicateOf");
  if (!reason && duplicate === null) return "";
  const words = reason ? `${text(reason[0])}: ${reason[1]}${reason[2] ? " (another attempt may succeed)" : ""}` : "";
  const link =
    duplicate === null
      ? ""
      : h("button", { class: "open", onclick: () => choose(duplicate, opener) }, `Values of trial ${duplicate}`);
  return h("p", {}, words, words && link ? ". " : "", link);
}

function numbersTable(row) {
  const rows = field(row, "quantities").map((packed) => {
    const kind = KINDS[packed[0]];
    const extra = detail(packed);
    const facts = [text(packed[2])];
    if (interval(kind, packed)) facts.push(`95 % interval ${interval(kind, packed)}`);
    if (extra.p95 !== undefined) facts.push(`95th percentile ${display(kind, extra.p95)}`);
    if (extra.median_error !== undefined)
      facts.push(`off by ${(100 * extra.median_error).toFixed(1)} % in the median of ${extra.checked_on} unseen networks`);
    if (extra.samples !== undefined) facts.push(`${extra.samples.toLocaleString("en")} samples`);
    if (extra.in_turns) facts.push("timed in turns with the front");
    if (extra.ambiguous_with) facts.push(`≈ interval overlaps that of trial ${extra.ambiguous_with.replaceAll(",", ", ")}`);
    if (extra.overhead_bound) facts.push("overhead-bound: within 3 times of a call that computes nothing");
    if (extra.unstable) facts.push(extra.why_unstable ? `unstable (${extra.why_unstable})` : "unstable");
    if (extra.served_by) facts.push(`served by ${extra.served_by}`);
    if (kind.targetWords) facts.push(kind.targetWords);
    if (kind.name === "latency_ms") facts.push(`${human((1000 * kind.batch) / packed[1])} fps`);
    return h("tr", {}, h("td", {}, kind.title, h("small", {}, facts.join(" · "))), h("td", {}, exact(kind, packed[1])));
  });
  return rows.length ? h("table", {}, h("tbody", {}, rows)) : "";
}

// Of a surrogate, a rung, the untrained network: told in words, as nothing may draw or sort by them.
function foreseenTable(row) {
  const rows = field(row, "foreseen").map(([title, words, facts]) =>
    h("tr", {}, h("td", {}, text(title), h("small", {}, text(facts))), h("td", {}, words)),
  );
  return rows.length ? h("table", { class: "quiet" }, h("tbody", {}, rows)) : "";
}

// Counts in full, beside the short form that tables use.
function exact(kind, number) {
  if (kind.maximise || kind.unit === "ms" || number < 1000) return display(kind, number);
  return `${Math.round(number).toLocaleString("en")}${kind.unit === "bytes" ? " B" : ""}`;
}

function stagesTable(row) {
  const stages = field(row, "stages");
  const longest = Math.max(...stages.map((stage) => stage[1]), 1e-9);
  const rows = stages.map(([name, seconds, cached, words]) => {
    const bar = h("span", { class: cached ? "bar cached" : "bar" });
    bar.style.width = `${Math.max(1, (100 * seconds) / longest)}%`;
    return h(
      "tr",
      {},
      h("td", {}, text(name), words ? h("small", {}, words) : "", bar),
      h("td", {}, cached ? "from the cache" : duration(seconds)),
    );
  });
  return rows.length ? h("table", {}, h("tbody", {}, rows)) : "";
}

function originOf(row) {
  const environments = DATA.environments.length;
  const entries = [
    ["design from", text(field(row, "origin"))],
    ["seed", String(field(row, "seed"))],
    ["started", field(row, "started")],
    ["took", duration(field(row, "seconds"))],
  ];
  const parent = field(row, "parent");
  if (parent !== null)
    entries.push(["goes on from", h("button", { class: "open", onclick: () => choose(parent, opener) }, `trial ${parent}`)]);
  if (field(row, "epochs") !== null) entries.push(["trained for", text(field(row, "epochs"))]);
  if (field(row, "spared")) entries.push(["spared", "evaluated although it would have been screened out"]);
  if (field(row, "teacher") !== null) entries.push(["teacher", text(field(row, "teacher"))]);
  if (field(row, "sha")) entries.push(["artifact", h("code", {}, `sha256:${field(row, "sha").slice(0, 16)}…`)]);
  if (environments > 1 && field(row, "environment") !== null)
    entries.push(["environment", String(field(row, "environment") + 1)]);
  return entries.filter(([, content]) => content !== "");
}

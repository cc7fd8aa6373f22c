// The card: everything that is known of one trial.

const card = document.getElementById("card");
let opener = null;

function choose(number, from = null) {
  const row = ROW_OF.get(number);
  if (!row) return;
  state.chosen = number;
  card.replaceChildren(...cardParts(row));
  card.scrollTop = 0;
  if (from) {
    opener = from;
    card.classList.add("raised");
    say(sentence(row));
  }
  for (const line of document.querySelectorAll("tr[data-trial]"))
    line.classList.toggle("chosen", Number(line.dataset.trial) === number);
  paintRings();
  focusLine();
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
  if (outcome !== "measured")
    badges.push(h("span", { class: `badge ${GIVEN_UP.has(outcome) ? "quiet" : "warn"}` }, outcome));
  else if (!field(row, "feasible")) badges.push(h("span", { class: "badge warn" }, "breaks a constraint"));
  if (field(row, "spared")) badges.push(h("span", { class: "badge quiet" }, "spared"));
  const head = h(
    "div",
    { class: "head" },
    h("h2", {}, `Trial ${number}`),
    badges,
    h("button", { class: "close", "aria-label": "Close the details", onclick: closeCard }, "×"),
  );
  return [
    head,
    h("p", { class: "soft" }, field(row, "words")),
    ...field(row, "gains").map((words) => h("p", { class: "gain" }, words)),
    reasonPart(row),
    ...commandParts(row),
    ...part("Numbers", numbersTable(row)),
    ...part("Known before its end, no results", foreseenTable(row)),
    ...part("Layers", layersTable(row)),
    ...part("Choices", listOf(pairs(field(row, "choices")).filter(([name]) => !name.includes(".")))),
    ...part("Compression on this target", labelsList(row)),
    ...curveParts(row),
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

// What exports this very design, or evaluates it again.
function commandParts(row) {
  const shell = (label, command) =>
    command ? h("pre", { class: "shell", tabindex: "0", role: "group", "aria-label": label }, command) : "";
  const picks = commandFor(field(row, "number"));
  const measured = text(field(row, "outcome")) === "measured";
  return [
    shell("Command that exports this design", picks),
    measured
      ? h(
          "p",
          { class: "soft small" },
          picks ? "Or train it in full and deploy that:" : "No limit picks this one; train it in full and deploy that:",
        )
      : "",
    measured
      ? shell("Command that trains this design in full", `${DATA.finalize} --trial ${field(row, "number")}`)
      : "",
  ];
}

// The choices of each part of the network, from input to output.
function layersTable(row) {
  const layers = new Map();
  for (const [name, content] of pairs(field(row, "choices"))) {
    const [layer, ...rest] = name.split(".");
    if (rest.length)
      layers.set(layer, [...(layers.get(layer) ?? []), `${rest.join(".").replaceAll("_", " ")} ${content}`]);
  }
  const rows = [...layers].map(([layer, words]) =>
    h("tr", {}, h("th", { scope: "row" }, layer), h("td", { class: "plain" }, words.join(", "))),
  );
  return rows.length ? h("table", { class: "layers" }, h("tbody", {}, rows)) : "";
}

const REALISATIONS = { realised: "✓", simulated: "≈", unsupported: "✗" };

function labelsList(row) {
  return listOf(
    pairs(field(row, "labels")).map(([name, words]) => {
      const label = words.split(" ")[0];
      return [
        name,
        h(
          "span",
          { class: `label ${label}` },
          h("i", { "aria-hidden": "true" }, `${REALISATIONS[label] ?? ""} `),
          words,
        ),
      ];
    }),
  );
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
      facts.push(
        `off by ${(100 * extra.median_error).toFixed(1)} % in the median of ${extra.checked_on} unseen networks`,
      );
    if (extra.samples !== undefined) facts.push(`${extra.samples.toLocaleString("en")} samples`);
    if (extra.in_turns) facts.push("timed in turns with the front");
    if (extra.ambiguous_with)
      facts.push(`≈ interval overlaps that of trial ${extra.ambiguous_with.replaceAll(",", ", ")}`);
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

// What a training went through: one small picture for each quantity, with its first and last value.
function curveParts(row) {
  const curves = field(row, "stages").flatMap(([name, , , , curve]) =>
    Object.entries(curve ?? {}).map(([what, values]) => curvePicture(text(name), what, values)),
  );
  return curves.length ? part("Curves", h("div", { class: "curves" }, curves)) : [];
}

function curvePicture(stage, what, values) {
  const [width, height] = [150, 44];
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const corners = values.map((v, at) => [
    2 + (at * (width - 4)) / (values.length - 1),
    height - 3 - ((v - least) / (most - least || 1)) * (height - 6),
  ]);
  const words = `${stage}: ${what} from ${significant(values[0])} to ${significant(values.at(-1))} in ${values.length} epochs`;
  const picture = s(
    "svg",
    { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": words },
    s("path", { d: polyline(corners), class: "curve" }),
  );
  return h("figure", {}, h("figcaption", {}, `${stage}: ${what} `, h("b", {}, significant(values.at(-1)))), picture);
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
    entries.push([
      "goes on from",
      h("button", { class: "open", onclick: () => choose(parent, opener) }, `trial ${parent}`),
    ]);
  if (field(row, "epochs") !== null) entries.push(["trained for", text(field(row, "epochs"))]);
  if (field(row, "spared")) entries.push(["spared", "evaluated although it would have been screened out"]);
  if (field(row, "teacher") !== null) entries.push(["teacher", text(field(row, "teacher"))]);
  if (field(row, "sha")) entries.push(["artifact", h("code", {}, `sha256:${field(row, "sha").slice(0, 16)}…`)]);
  if (environments > 1 && field(row, "environment") !== null)
    entries.push(["environment", String(field(row, "environment") + 1)]);
  return entries.filter(([, content]) => content !== "");
}

// Puts the page together once the document is there. Nothing that is not seen yet is built.

function seenOnce(element, draw) {
  const watcher = new IntersectionObserver(
    (entries) => {
      if (entries.some((entry) => entry.isIntersecting)) once();
    },
    { rootMargin: "200px" },
  );
  const once = () => {
    watcher.disconnect();
    removeEventListener("beforeprint", once);
    draw();
  };
  addEventListener("beforeprint", once);
  watcher.observe(element);
}

function startScatter() {
  const [across, up, colour] = ["across", "up", "colour"].map((id) => document.getElementById(id));
  const costs = measuredKeys(false),
    qualities = measuredKeys(true);
  [plot.x, plot.y] = [costs[0], qualities[0]];
  const recolour = () => {
    const entries = colourings();
    const third = entries.find(([name]) => name.startsWith("quantity:") && DATA.objectives.includes(name.slice(9)));
    if (!entries.some(([name]) => name === plot.colour) || plot.colour === "") plot.colour = (third || entries[0])[0];
    options(colour, entries, plot.colour);
  };
  options(
    across,
    costs.map((key) => [key, keyLabel(key)]),
    plot.x,
  );
  options(
    up,
    qualities.map((key) => [key, keyLabel(key)]),
    plot.y,
  );
  recolour();
  for (const [select, name] of [
    [across, "x"],
    [up, "y"],
    [colour, "colour"],
  ]) {
    select.addEventListener("change", () => {
      plot[name] = select.value;
      if (name !== "colour") recolour();
      drawScatter();
      if (name === "colour") parallel.queue();
    });
  }
  for (const button of document.querySelectorAll("[data-view]"))
    button.addEventListener("click", () => setView(button.dataset.view));
  const givenUp = document.getElementById("given-up");
  givenUp.closest("label").hidden = !scatterRows().givenUp.length;
  givenUp.addEventListener("change", () => {
    state.givenUp = givenUp.checked;
    drawScatter();
  });
  plot.chart = new Chart(plot.element, paintScatter, {
    hover: (number, event) => showTip(ROW_OF.get(number), event),
    leave: hideTip,
    open: (number) => choose(number, plot.element),
    zoomed: (across, up) => {
      plot.view = "zoomed";
      drawView({ ...plot.chart.x, range: across }, { ...plot.chart.y, range: up });
    },
    reset: () => setView(plot.view === "front" ? "all" : "front"),
  });
  drawScatter();
  plot.element.addEventListener("keydown", walkFront);
}

// The arrow keys walk along the front; Enter goes to the card, Escape comes back.
function walkFront(event) {
  if (event.key === "Enter" && state.chosen !== null) {
    choose(state.chosen, plot.element);
    card.focus();
    return;
  }
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step || !DATA.front.length) return;
  event.preventDefault();
  const at = DATA.front.indexOf(state.chosen);
  const next = at < 0 ? 0 : Math.min(Math.max(at + step, 0), DATA.front.length - 1);
  choose(DATA.front[next], null);
  say(sentence(ROW_OF.get(DATA.front[next])));
}

function startList() {
  const table = document.getElementById("all-table");
  headings(table, (key, descending) => {
    Object.assign(list, { key, descending });
    drawList();
  });
  rowEvents(table);
  for (const chip of document.querySelectorAll(".chip")) {
    chip.addEventListener("click", () => {
      for (const other of document.querySelectorAll(".chip"))
        other.setAttribute("aria-pressed", String(other === chip));
      Object.assign(list, { filter: chip.dataset.filter, shown: PAGE });
      drawList();
    });
  }
  document.getElementById("more").addEventListener("click", () => {
    list.shown += PAGE;
    drawList();
  });
  seenOnce(table, drawList);
}

function start() {
  const frontTable = document.getElementById("front-table");
  if (frontTable) {
    headings(frontTable, sortFront);
    rowEvents(frontTable);
  }
  for (const button of document.querySelectorAll("[data-open]")) {
    button.addEventListener("click", () => choose(Number(button.dataset.open), button));
  }
  if (plot.element) {
    startScatter();
    startParallel();
    startPick();
  }
  if (flopsPlot.element) startFlops();
  if (foreseenPlot.element) startForeseen();
  if (historyPlot.element) startHistory();
  if (document.getElementById("all-table")) startList();
  const first = DATA.knee ?? DATA.front[0] ?? (DATA.trials.length ? DATA.trials[0][AT.number] : null);
  if (first !== null) choose(first);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") closeCard();
  });
}

start();

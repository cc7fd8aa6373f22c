// A picture with two axes: draws them, finds the mark under the pointer, zooms where a rectangle is drawn.

const MARGIN = { left: 58, right: 14, top: 12, bottom: 46 };
const REACH = { mouse: 12, pen: 16, touch: 24 }; // pixels around a mark that count as on it
const LEAST_DRAG = 6;
let clips = 0;

class Chart {
  // element: the box to fill. paint(chart): draws into chart.area. handlers: hover(number, event), leave(), open(number),
  // zoomed(): after a rectangle was drawn, reset(): on a double click. Without zoomed there is no zoom.
  constructor(element, paint, handlers = {}) {
    Object.assign(this, { element, paint, handlers, x: null, y: null, spots: [], drag: null });
    this.clip = `clip-${(clips += 1)}`;
    element.addEventListener("pointermove", (event) => this.move(event));
    element.addEventListener("pointerdown", (event) => this.press(event));
    element.addEventListener("pointerup", (event) => this.release(event));
    element.addEventListener("pointerleave", () => this.leave());
    if (handlers.reset) element.addEventListener("dblclick", () => handlers.reset());
    let width = element.clientWidth;
    new ResizeObserver(() => {
      if (!this.x || element.clientWidth === width) return;
      width = element.clientWidth;
      this.draw(this.x, this.y, this.names);
    }).observe(element);
  }

  // x, y: scales with the range to show. names: titles of the axes.
  draw(x, y, names) {
    Object.assign(this, { x, y, names, spots: [] });
    const [width, height] = [this.element.clientWidth || 640, this.element.clientHeight || 360];
    const box = { left: MARGIN.left, right: width - MARGIN.right, top: MARGIN.top, bottom: height - MARGIN.bottom };
    Object.assign(this, { width, height, box });
    this.area = s("g", { "clip-path": `url(#${this.clip})` });
    this.over = s("g");
    const rectangle = {
      x: box.left,
      y: box.top - 4,
      width: Math.max(box.right - box.left, 1),
      height: Math.max(box.bottom - box.top + 4, 1),
    };
    const svg = s(
      "svg",
      { width, height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true", focusable: "false" },
      s("clipPath", { id: this.clip }, s("rect", rectangle)),
      this.axes(),
      this.area,
      this.over,
    );
    this.paint(this);
    this.element.replaceChildren(svg);
  }

  px(position) {
    const [from, to] = this.x.range;
    return this.box.left + ((position - from) / (to - from)) * (this.box.right - this.box.left);
  }

  py(position) {
    const [from, to] = this.y.range;
    return this.box.bottom - ((position - from) / (to - from)) * (this.box.bottom - this.box.top);
  }

  axes() {
    const { left, right, top, bottom } = this.box;
    const group = s("g", { class: "axes" });
    let free = -Infinity;
    for (const [at, label] of this.x.ticks(this.x.range)) {
      const x = one(this.px(at));
      group.append(s("path", { d: `M${x} ${top}V${bottom}`, class: "grid" }));
      const half = 3.6 * label.length;
      if (x - half < free || x + half > this.width) continue;
      free = x + half + 8;
      group.append(s("text", { x, y: bottom + 17, "text-anchor": "middle" }, label));
    }
    for (const [at, label] of this.y.ticks(this.y.range)) {
      const y = one(this.py(at));
      group.append(s("path", { d: `M${left} ${y}H${right}`, class: "grid" }));
      group.append(s("text", { x: left - 8, y: y + 4, "text-anchor": "end" }, label));
    }
    group.append(s("path", { d: `M${left} ${top - 4}V${bottom}H${right}`, class: "rule" }));
    const middle = one((top + bottom) / 2);
    group.append(
      s(
        "text",
        { x: one((left + right) / 2), y: this.height - 6, "text-anchor": "middle", class: "title" },
        this.names.x,
      ),
      s(
        "text",
        { x: 13, y: middle, transform: `rotate(-90 13 ${middle})`, "text-anchor": "middle", class: "title" },
        this.names.y,
      ),
    );
    return group;
  }

  // A mark of a trial, at positions on the axes; later marks win where several lie under the pointer.
  mark(number, x, y, shape, radius, kind, colour = "") {
    const path = s("path", { d: SHAPES[shape](x, y, radius), class: `mark ${kind}`, "data-trial": number });
    if (colour) path.style.setProperty("--c", colour);
    this.area.append(path);
    this.spots.push([x, y, number, path]);
    return path;
  }

  line(corners, kind) {
    if (corners.length) this.area.append(s("path", { d: polyline(corners), class: kind }));
  }

  nearest(event) {
    const frame = this.element.getBoundingClientRect();
    const [x, y] = [event.clientX - frame.left, event.clientY - frame.top];
    let [found, least] = [null, REACH[event.pointerType] ?? 12];
    for (const spot of this.spots) {
      const distance = Math.hypot(spot[0] - x, spot[1] - y);
      const inside = spot[0] >= this.box.left - 1 && spot[0] <= this.box.right + 1 && spot[1] <= this.box.bottom + 1;
      if (distance <= least && inside) [found, least] = [spot, distance];
    }
    return found;
  }

  at(event) {
    const frame = this.element.getBoundingClientRect();
    const clamp = (v, from, to) => Math.min(Math.max(v, from), to);
    return [
      clamp(event.clientX - frame.left, this.box.left, this.box.right),
      clamp(event.clientY - frame.top, this.box.top, this.box.bottom),
    ];
  }

  press(event) {
    if (!this.x || event.button !== 0) return;
    this.drag = { from: this.at(event), id: event.pointerId, mouse: event.pointerType === "mouse", rectangle: null };
  }

  move(event) {
    if (!this.x) return;
    if (this.drag && this.drag.mouse && this.handlers.zoomed) {
      const [[x0, y0], [x1, y1]] = [this.drag.from, this.at(event)];
      if (!this.drag.rectangle && Math.hypot(x1 - x0, y1 - y0) > LEAST_DRAG) {
        this.element.setPointerCapture(this.drag.id);
        this.drag.rectangle = this.over.appendChild(s("rect", { class: "zoom" }));
      }
      if (this.drag.rectangle) {
        const shape = { x: Math.min(x0, x1), y: Math.min(y0, y1), width: Math.abs(x1 - x0), height: Math.abs(y1 - y0) };
        for (const [name, value] of Object.entries(shape)) this.drag.rectangle.setAttribute(name, value);
        return;
      }
    }
    const spot = this.nearest(event);
    this.element.style.cursor = spot ? "pointer" : "";
    if (spot) this.handlers.hover?.(spot[2], event);
    else this.handlers.leave?.();
  }

  release(event) {
    const drag = this.drag;
    this.drag = null;
    if (!drag) return;
    if (drag.rectangle) {
      drag.rectangle.remove();
      const [[x0, y0], [x1, y1]] = [drag.from, this.at(event)];
      if (Math.abs(x1 - x0) > LEAST_DRAG && Math.abs(y1 - y0) > LEAST_DRAG) this.zoom([x0, x1], [y0, y1]);
      return;
    }
    const spot = this.nearest(event);
    if (spot) this.handlers.open?.(spot[2]);
  }

  zoom(across, up) {
    const back = (scale, share) => scale.range[0] + share * (scale.range[1] - scale.range[0]);
    const shares = (ends, from, to) => ends.map((end) => (end - from) / (to - from)).sort((a, b) => a - b);
    const xs = shares(across, this.box.left, this.box.right).map((share) => back(this.x, share));
    const ys = shares(up, this.box.bottom, this.box.top).map((share) => back(this.y, share));
    this.handlers.zoomed(xs, ys);
  }

  leave() {
    if (!this.drag?.rectangle) this.drag = null;
    this.handlers.leave?.();
  }
}

// Fills a select; one with a single entry is hidden with its label.
function options(select, entries, current) {
  select.replaceChildren(
    ...entries.map(([key, label]) => h("option", { value: key, selected: key === current ? "" : undefined }, label)),
  );
  select.closest("label").hidden = entries.length < 2;
}

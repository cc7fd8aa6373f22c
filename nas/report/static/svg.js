// SVG elements, and the marks that trials are drawn with: an outcome is told by its shape, never by colour alone.

const SVG = "http://www.w3.org/2000/svg";

function s(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, content] of Object.entries(attributes))
    if (content !== undefined && content !== null && content !== false) element.setAttribute(name, content);
  element.append(...children.flat().filter((child) => child !== undefined && child !== null && child !== ""));
  return element;
}

const one = (number) => Number(number.toFixed(1));

// Path data of a shape around a point; r is about the radius of a circle that looks as large.
const SHAPES = {
  circle: (x, y, r) => `M${one(x - r)} ${one(y)}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0z`,
  square: (x, y, r) => `M${one(x - r)} ${one(y - r)}h${2 * r}v${2 * r}h${-2 * r}z`,
  half: (x, y, r) => `M${one(x - r)} ${one(y - r)}h${2 * r}v${2 * r}h${-2 * r}zM${one(x)} ${one(y - r)}v${2 * r}`,
  diamond: (x, y, r) =>
    `M${one(x)} ${one(y - 1.3 * r)}l${1.3 * r} ${1.3 * r}l${-1.3 * r} ${1.3 * r}l${-1.3 * r} ${-1.3 * r}z`,
  triangle: (x, y, r) => `M${one(x)} ${one(y - 1.2 * r)}l${1.2 * r} ${2.1 * r}h${-2.4 * r}z`,
  cross: (x, y, r) => `M${one(x - r)} ${one(y - r)}l${2 * r} ${2 * r}m0 ${-2 * r}l${-2 * r} ${2 * r}`,
  exclamation: (x, y, r) => `M${one(x)} ${one(y - 1.3 * r)}v${1.6 * r}m0 ${0.7 * r}v${0.4 * r}`,
  equals: (x, y, r) => `M${one(x - r)} ${one(y - 0.5 * r)}h${2 * r}m0 ${r}h${-2 * r}`,
  star: (x, y, r) => {
    const corners = Array.from({ length: 10 }, (_, at) => {
      const [reach, angle] = [at % 2 ? 0.45 * r : r, (Math.PI * at) / 5 - Math.PI / 2];
      return `${one(x + reach * Math.cos(angle))} ${one(y + reach * Math.sin(angle))}`;
    });
    return `M${corners.join("L")}z`;
  },
};

const OUTCOME_SHAPES = {
  measured: "circle",
  stopped: "half",
  screened: "triangle",
  infeasible: "diamond",
  duplicate: "equals",
  failed: "exclamation",
};

// A small picture of a mark, for legends and lists; what it means stands beside it.
function icon(shape, kind = "", colour = "") {
  const path = s("path", { d: SHAPES[shape](8, 8, shape === "star" ? 7 : 4.5), class: `mark ${kind}` });
  if (colour) path.style.setProperty("--c", colour);
  return s("svg", { class: "icon", viewBox: "0 0 16 16", "aria-hidden": "true" }, path);
}

const lineIcon = (kind) =>
  s(
    "svg",
    { class: "icon wide", viewBox: "0 0 26 16", "aria-hidden": "true" },
    s("path", { d: "M1 8h24", class: kind }),
  );

const polyline = (corners) => corners.map(([x, y], at) => `${at ? "L" : "M"}${one(x)} ${one(y)}`).join("");

function legendItem(sign, ...words) {
  return h("li", {}, sign, ...words);
}

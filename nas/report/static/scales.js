// Axes: every value is drawn on a linear axis of transformed values, so that ticks and zoom are ours.

const LEAST_ERROR = 5e-4;
const QUALITY_TICKS = [
  0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 0.985, 0.99, 0.995, 0.998, 0.999,
];

function niceSteps(from, to, count = 8) {
  const rough = (to - from) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].find((factor) => factor * power >= rough) * power;
  const ticks = [];
  for (let tick = Math.ceil(from / step) * step; tick <= to + step * 1e-9; tick += step)
    ticks.push(Number(tick.toPrecision(12)));
  return ticks;
}

// A scale: how values become positions and back, the range to show, and where ticks stand.
function costScale(kind, values, limits) {
  const all = values.concat(limits);
  const least = Math.min(...all),
    most = Math.max(...all);
  const logarithmic = kind.log && least > 0 && most / least > 3;
  const forward = logarithmic ? Math.log10 : (v) => v;
  const span = forward(most) - forward(least) || Math.abs(forward(most)) * 0.3 || 1;
  const range = [forward(least) - 0.06 * span, forward(most) + 0.06 * span];
  const ticks = ([a, b]) => {
    if (!logarithmic) return niceSteps(a, b);
    for (const factors of [[1], [1, 2, 5], [1, 1.5, 2, 3, 5, 7], [1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8]]) {
      const inside = [];
      for (let decade = Math.floor(a); decade <= Math.ceil(b); decade++) {
        for (const factor of factors) inside.push(factor * 10 ** decade);
      }
      const shown = inside.filter((tick) => Math.log10(tick) >= a && Math.log10(tick) <= b);
      if (shown.length > 3) return shown;
    }
    return niceSteps(10 ** a, 10 ** b);
  };
  const short = (v) => Number(v.toPrecision(6)).toString();
  const label = (v) =>
    kind.unit === "ms"
      ? short(v)
      : human(v, kind.unit === "bytes" ? "B" : "").replace(/^[\d.]+/, (digits) => String(Number(digits)));
  const extent = [forward(least), forward(most)];
  return { kind, forward, range, extent, logarithmic, ticks: (r) => ticks(r).map((v) => [forward(v), label(v)]) };
}

function qualityScale(kind, values, front) {
  const focus = front.length ? front : values;
  const least = Math.min(...focus),
    most = Math.max(...focus);
  const error = (v) => Math.max(1 - v, LEAST_ERROR);
  const logarithmic = error(least) / error(most) > 8;
  const forward = logarithmic ? (v) => -Math.log10(error(v)) : (v) => v;
  const backward = logarithmic ? (p) => 1 - 10 ** -p : (p) => p;
  // The whole front, and below it nine in ten of the points, but about half of the height for the front.
  const span = most > least ? Math.max(forward(most) - forward(least), 0.01) : 0.1;
  const positions = values.map(forward).sort((a, b) => a - b);
  const below = Math.min(Math.max(forward(least) - positions[Math.floor(0.1 * (positions.length - 1))], 0), span);
  const range = [forward(least) - below - 0.15 * span, forward(most) + 0.14 * span];
  if (!logarithmic) range[0] = Math.max(range[0], 0);
  const ticks = ([a, b]) => {
    const inside = QUALITY_TICKS.filter((tick) => forward(tick) >= a && forward(tick) <= b);
    return logarithmic && inside.length > 3 ? inside : niceSteps(backward(a), backward(b));
  };
  const label = (v) => Number((100 * v).toPrecision(5)).toString();
  return { kind, forward, range, logarithmic, ticks: (r) => ticks(r).map((v) => [forward(v), label(v)]) };
}

function axisTitle(scale) {
  const { kind } = scale;
  const unit = kind.maximise
    ? scale.logarithmic
      ? " (%, logarithmic towards 100)"
      : " (%)"
    : kind.unit === "ms"
      ? " (ms)"
      : kind.own && kind.unit !== "1"
        ? ` (${kind.unit})`
        : "";
  return `${kind.title}${unit}${kind.target ? ` on ${kind.target}` : ""}`;
}

// Members that no other one beats in these two quantities, from left to right, as the corners of a step line.
function stepLine(rows, x, y, right, bottom) {
  const points = rows
    .map((row) => [value(row, x.kind.key), value(row, y.kind.key)])
    .sort((a, b) => a[0] - b[0] || b[1] - a[1]);
  const corners = [];
  let best = -Infinity;
  for (const [cost, quality] of points) {
    if (quality <= best) continue;
    corners.push(
      [x.forward(cost), best === -Infinity ? bottom : y.forward(best)],
      [x.forward(cost), y.forward(quality)],
    );
    best = quality;
  }
  if (corners.length) corners.push([right, y.forward(best)]);
  return corners;
}

"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const byId = (id) => document.getElementById(id);

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined && text !== null) made.textContent = text;
  if (className) made.className = className;
  return made;
}

// A part of the page that a study has nothing for.
function dropSection(id) {
  byId(id).remove();
  document.querySelector(`nav a[href="#${id}"]`).remove();
}

function si(value, digits = 3) {
  if (value === null || value === undefined) return "";
  for (const [size, letter] of [[1e15, "P"], [1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (Math.abs(value) >= size) return `${Number((value / size).toPrecision(digits))}${letter}`;
  }
  return String(Number(value.toPrecision(digits)));
}

const fixed = (value, digits = 3) => (value === null || value === undefined ? "" : value.toFixed(digits));

// A colour from small (light) to large (strong), so that curves are told apart by size.
function colourOf(run, runs) {
  const kind = runs.filter((other) => other.sparse === run.sparse);
  const sizes = [...new Set(kind.map((other) => other.parameters.active))].sort((a, b) => a - b);
  const place = sizes.length > 1 ? sizes.indexOf(run.parameters.active) / (sizes.length - 1) : 1;
  return `color-mix(in srgb, ${style(run.sparse ? "--sparse" : "--dense")} ${45 + 55 * place}%, ${style("--paper")})`;
}

function resolved(colour) {
  const probe = element("span");
  probe.style.color = colour;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

function axis(label, values, size) {
  return {
    label, labelSize: 20, labelFont: "12px system-ui", font: "11px system-ui", size,
    stroke: style("--soft"), grid: { stroke: style("--line"), width: 1 }, ticks: { stroke: style("--line") },
    values,
    // Every grid line comes to `values`; by default some of a logarithmic axis are dropped.
    filter: (self, splits) => splits,
  };
}

// Grid lines at 1, 2, ... 9 times each power of ten, or at the powers alone where there are many; labels at the powers.
function logSplits(self, index, low, high) {
  const splits = [], most = high / low > 3000 ? 2 : 10;
  for (let power = 10 ** Math.floor(Math.log10(low)); power <= high; power *= 10) {
    for (let digit = 1; digit < most; digit++) {
      if (digit * power >= low && digit * power <= high) splits.push(digit * power);
    }
  }
  return splits;
}
const isPower = (v) => Math.abs(Math.log10(v) - Math.round(Math.log10(v))) < 1e-6;
const logLabels = (self, splits) => splits.map((v) => (isPower(v) ? si(v) : ""));

// Where values span less than a decade: ticks at round numbers, not only at powers of ten.
function roundSplits(self, index, low, high) {
  const power = 10 ** Math.floor(Math.log10((high - low) / 8));
  const step = [1, 2, 5, 10].map((digit) => digit * power).find((s) => (high - low) / s <= 8);
  const splits = [];
  for (let i = Math.ceil(low / step); i * step <= high; i++) splits.push(Number((i * step).toPrecision(12)));
  return splits;
}

const charts = [];
function draw(place, options, columns) {
  const chart = new uPlot({ width: place.clientWidth - 16, ...options }, columns, place);
  charts.push([place, chart]);
}
addEventListener("resize", () => {
  for (const [place, chart] of charts.filter(([place]) => place.isConnected)) chart.setSize({ width: place.clientWidth - 16, height: chart.height });
});


// Text of a figure: three digits, powers of ten where it is far from one.
function number(value, digits = 3) {
  if (value === null || value === undefined) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size < 1e-12) return "≈ 0";
  return size >= 1e-3 && size < 1e5 ? String(Number(value.toPrecision(digits))) : value.toExponential(digits - 1);
}
const between = (pair, digits = 3) => `${number(pair[0], digits)} to ${number(pair[1], digits)}`;

// A table in a box that scrolls sideways; cells are text, or [text, class].
function tableOf(titles, rows) {
  const box = element("div", null, "scroll"), made = element("table");
  const head = element("thead"), line = element("tr"), body = element("tbody");
  for (const title of titles) line.append(element("th", title));
  head.append(line);
  for (const cells of rows) {
    const row = element("tr");
    for (const cell of cells) row.append(Array.isArray(cell) ? element("td", ...cell) : element("td", cell));
    body.append(row);
  }
  made.append(head, body);
  box.append(made);
  return box;
}

function details(title, ...inside) {
  const made = element("details");
  made.append(element("summary", title), ...inside);
  return made;
}

const tip = element("div", null, "tip");
document.body.append(tip);
function showTip(event, lines) {
  tip.replaceChildren(...lines.map((line) => element("div", line)));
  tip.style.display = "block";
  const box = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(event.clientX + 12, innerWidth - box.width - 8))}px`;
  tip.style.top = `${event.clientY + 14 + box.height > innerHeight ? event.clientY - box.height - 10 : event.clientY + 14}px`;
}
const hideTip = () => { tip.style.display = "none"; };

// Points, lines and bands over a scale; the nearest point says its run when it is pointed at.
//   points: {x, y, colour, square, hollow, lines of text}; lines: {x, y, low, high, colour, broken, text}; bars: {x, low, high, colour}
function scatter(place, { points, lines = [], bars = [], xLabel, yLabel, range, height = 240, reversed = false, logY = false }) {
  const xs = [...points.map((p) => p.x), ...lines.flatMap((l) => l.x)];
  const ys = [...points.map((p) => p.y), ...lines.flatMap((l) => [...l.y, ...(l.banded ? [...l.low, ...l.high] : [])]),
    ...bars.flatMap((b) => [b.low, b.high])].filter((y) => Number.isFinite(y) && (!logY || y > 0));
  let low = Math.min(...ys), high = Math.max(...ys);
  const spare = logY ? (high / low) ** 0.06 : (high - low || 1) * 0.06;
  [low, high] = range ?? (logY ? [low / spare, high * spare] : [low - spare, high + spare]);
  const wide = Math.max(...xs) / Math.min(...xs);
  const edge = Math.max(1.02, wide ** 0.06);
  const isNarrow = wide < 8;
  const paint = (u) => {
    const c = u.ctx, ratio = devicePixelRatio, { left, top, width, height: tall } = u.bbox;
    const at = (x, y) => [u.valToPos(x, "x", true), u.valToPos(logY ? Math.max(y, low / 10) : y, "y", true)];
    c.save();
    c.beginPath();
    c.rect(left, top, width, tall);
    c.clip();
    for (const line of lines) {
      c.fillStyle = c.strokeStyle = line.colour;
      if (line.banded) {
        c.globalAlpha = 0.16;
        c.beginPath();
        line.x.forEach((x, i) => c.lineTo(...at(x, line.high[i])));
        for (let i = line.x.length - 1; i >= 0; i--) c.lineTo(...at(line.x[i], line.low[i]));
        c.fill();
      }
      c.globalAlpha = 1;
      c.lineWidth = 1.6 * ratio;
      c.setLineDash(line.broken ? [5 * ratio, 4 * ratio] : []);
      c.beginPath();
      line.x.forEach((x, i) => c.lineTo(...at(x, line.y[i])));
      c.stroke();
      c.setLineDash([]);
    }
    for (const bar of bars) {
      c.strokeStyle = bar.colour;
      c.lineWidth = 1.4 * ratio;
      const [x, bottom] = at(bar.x, bar.low), [, upper] = at(bar.x, bar.high), cap = 3 * ratio;
      c.beginPath();
      c.moveTo(x, bottom); c.lineTo(x, upper);
      c.moveTo(x - cap, bottom); c.lineTo(x + cap, bottom);
      c.moveTo(x - cap, upper); c.lineTo(x + cap, upper);
      c.stroke();
    }
    c.lineWidth = 1.6 * ratio;
    for (const point of points) {
      const [x, y] = at(point.x, point.y), radius = (point.hollow ? 5 : 3.4) * ratio;
      c.globalAlpha = point.hollow ? 1 : 0.75;
      c.fillStyle = c.strokeStyle = point.colour;
      c.beginPath();
      if (point.square) c.rect(x - radius, y - radius, 2 * radius, 2 * radius);
      else c.arc(x, y, radius, 0, 2 * Math.PI);
      if (point.hollow) c.stroke(); else c.fill();
    }
    c.restore();
  };
  const ofLines = lines.filter((l) => l.text).flatMap((l) => l.x.map((x, i) => ({ x, y: l.y[i], text: l.text })));
  const point = (u) => {
    u.over.addEventListener("pointermove", (event) => {
      const box = u.over.getBoundingClientRect();
      const far = (p) => Math.hypot(u.valToPos(p.x, "x") - event.clientX + box.left, u.valToPos(p.y, "y") - event.clientY + box.top);
      const nearest = (those) => those.reduce((best, p) => (best === null || far(p) < far(best) ? p : best), null);
      const near = nearest(points), beside = nearest(ofLines);
      if (near && far(near) < 24) showTip(event, near.text);
      else if (beside && far(beside) < 12) showTip(event, beside.text);
      else hideTip();
    });
    u.over.addEventListener("pointerleave", hideTip);
  };
  draw(place, {
    height, legend: { show: false },
    cursor: { drag: { x: false, y: false }, points: { show: false }, x: false, y: false },
    scales: {
      x: { distr: 3, time: false, dir: reversed ? -1 : 1, range: [Math.min(...xs) / edge, Math.max(...xs) * edge] },
      y: { distr: logY ? 3 : 1, range: [low, high] },
    },
    axes: [
      { ...axis(xLabel, isNarrow ? (u, s) => s.map((v) => si(v)) : logLabels, 44), splits: isNarrow ? roundSplits : logSplits },
      logY
        ? { ...axis(yLabel, high / low < 10 ? (u, s) => s.map((v) => number(v)) : logLabels, 54), splits: high / low < 10 ? roundSplits : logSplits }
        : axis(yLabel, undefined, 52),
    ],
    series: [{}, { show: false }],
    hooks: { draw: [paint], ready: [point] },
  }, [[Math.min(...xs), Math.max(...xs)], [null, null]]);
}

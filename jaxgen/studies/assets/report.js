"use strict";
// Paints the specification of a report, see plots.py. Nothing here knows of any analysis.
const { sections } = JSON.parse(document.getElementById("data").textContent);
const FONT = 6.4, HEIGHT = 290, TOP = 12, RIGHT = 16, BOTTOM = 48;

function element(tag, className, ...content) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...content);
  return made;
}

function drawn(parent, tag, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  parent.append(made);
  return made;
}

const shaded = ({ color, shade = 1 }) =>
  `--c: color-mix(in srgb, var(--${color}) ${Math.round(35 + 65 * shade)}%, var(--panel))`;

// A box that is painted again whenever its width changes, as when its fold is opened.
function fitted(className, paint) {
  const box = element("div", className);
  let width = 0;
  // The frame that follows may change the height, which an observer may not do by itself.
  new ResizeObserver(() => requestAnimationFrame(() => {
    if (!box.clientWidth || box.clientWidth === width) return;
    width = box.clientWidth;
    box.replaceChildren();
    paint(box, width);
  })).observe(box);
  return box;
}

function position(axis, from, to, limits = axis.limits) {
  // A value of 0 has no logarithm; it lies below whatever is shown.
  const scale = axis.scale === "log" ? (v) => Math.log(Math.max(v, limits[0] / 1000)) : (v) => v;
  const [low, high] = limits.map(scale);
  const [start, end] = axis.is_reversed ? [to, from] : [from, to];
  return (value) => start + ((scale(value) - low) / (high - low)) * (end - start);
}

function paintPlot(plot, box, width) {
  const { x: xAxis, y: yAxis } = plot;
  const isNamed = yAxis.categories.length > 0;
  const longest = Math.max(...yAxis.ticks.map(([, label]) => label.length * FONT));
  const left = Math.min(0.45 * width, longest + (isNamed ? 14 : 34));
  const height = isNamed ? 34 * yAxis.categories.length + TOP + BOTTOM : width > 700 ? 380 : HEIGHT;
  const right = width - RIGHT, bottom = height - BOTTOM;
  const x = position(xAxis, left, right);
  const y = isNamed ? position(yAxis, TOP, bottom) : position(yAxis, bottom, TOP);
  const svg = drawn(box, "svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${yAxis.label} over ${xAxis.label}` });
  let last = -Infinity;
  for (const [value, label] of [...xAxis.ticks].sort((a, b) => x(a[0]) - x(b[0]))) {
    const at = x(value), half = (label.length * FONT) / 2;
    drawn(svg, "line", { class: "grid", x1: at, x2: at, y1: TOP, y2: bottom });
    const middle = Math.min(at, width - half - 2);
    if (middle - half < last + 6) continue;
    last = middle + half;
    drawn(svg, "text", { class: "tick", x: middle, y: bottom + 16, "text-anchor": "middle" }, label);
  }
  for (const [value, label] of yAxis.ticks) {
    drawn(svg, "line", { class: "grid", x1: left, x2: right, y1: y(value), y2: y(value) });
    const text = drawn(svg, "text", { class: "tick", x: left - 6, y: y(value) + 4, "text-anchor": "end" }, label);
    if (longest > left) drawn(text, "title", {}, label);
  }
  drawn(svg, "text", { class: "title", x: (left + right) / 2, y: height - 10, "text-anchor": "middle" }, xAxis.label);
  if (!isNamed) {
    const at = `translate(13 ${(TOP + bottom) / 2}) rotate(-90)`;
    drawn(svg, "text", { class: "title", transform: at, "text-anchor": "middle" }, yAxis.label);
  }
  // Nested svg elements clip what lies outside the axes.
  const inside = drawn(svg, "svg", { x: left, y: TOP, width: right - left, height: bottom - TOP, viewBox: `${left} ${TOP} ${right - left} ${bottom - TOP}` });
  const targets = plot.series.flatMap((series) => paintSeries(series, inside, x, y));
  pointAt(svg, targets);
}

function paintSeries(series, parent, x, y) {
  const group = drawn(parent, "g", { class: series.mark, style: shaded(series) });
  const points = series.x.map((value, i) => ({ x: x(value), y: series.y[i] === null ? null : y(series.y[i]), tip: series.tips[i] ?? series.tips[0] }));
  const path = (of) => of.map(([a, b], i) => `${i ? "L" : "M"}${a.toFixed(1)} ${b.toFixed(1)}`).join("");
  const isInterval = series.low.length > 0 && series.low.every((v) => v !== null);
  if (series.mark === "line") {
    if (isInterval) {
      const upper = series.x.map((v, i) => [x(v), y(series.high[i])]), lower = series.x.map((v, i) => [x(v), y(series.low[i])]);
      drawn(group, "path", { class: "band", d: `${path([...upper, ...lower.reverse()])}Z` });
    }
    const known = points.filter((p) => p.y !== null).map((p) => [p.x, p.y]);
    // A line through a single point would not show.
    if (known.length === 1) drawn(group, "circle", { class: "mark", cx: known[0][0], cy: known[0][1], r: 2 });
    else drawn(group, "path", { class: "mark", d: path(known), fill: "none", "stroke-dasharray": series.is_open ? "6 4" : "none" });
    return points.filter((p) => p.tip && p.y !== null).map((p) => ({ ...p, reach: 12 }));
  }
  for (const [i, point] of points.entries()) {
    if (point.y === null) continue;
    if (isInterval && series.high[i] !== null) {
      const [low, high] = [series.low[i], series.high[i]].map(series.is_horizontal ? x : y);
      const ends = series.is_horizontal ? [[low, point.y], [high, point.y]] : [[point.x, low], [point.x, high]];
      drawn(group, "path", { class: "whisker", d: path(ends) });
    }
    const size = series.is_open ? 4.6 : 3.4, kind = series.is_open ? "mark open" : "mark";
    if (series.mark === "circle") drawn(group, "circle", { class: kind, cx: point.x, cy: point.y, r: size });
    else {
      const turn = series.mark === "diamond" ? `rotate(45 ${point.x} ${point.y})` : "";
      drawn(group, "rect", { class: kind, x: point.x - size, y: point.y - size, width: 2 * size, height: 2 * size, transform: turn });
    }
  }
  return points.filter((p) => p.tip && p.y !== null).map((p) => ({ ...p, reach: 24 }));
}

function paintCells(cells, box, width) {
  const height = 320, wide = width / cells.columns.length, tall = height / cells.rows.length;
  const svg = drawn(box, "svg", { width, height: height + BOTTOM, role: "img", "aria-label": cells.title, style: shaded(cells) });
  drawn(svg, "rect", { class: "frame", x: 0.5, y: 0.5, width: width - 1, height: height - 1 });
  cells.values.forEach((row, r) => row.forEach((value, c) => {
    if (value) drawn(svg, "rect", { class: "cell mark", x: c * wide, y: r * tall, width: wide, height: tall, style: `fill-opacity: ${value / cells.strongest}` });
  }));
  let last = -Infinity;
  const fits = Math.floor((wide - 4) / FONT);
  cells.columns.forEach((whole, c) => {
    const name = whole.length > fits && fits > 3 ? `${whole.slice(0, fits - 1)}…` : whole;
    const middle = (c + 0.5) * wide, half = (name.length * FONT) / 2;
    if (middle - half < Math.max(0, last + 4) || middle + half > width) return;
    last = middle + half;
    drawn(svg, "text", { class: "tick", x: middle, y: height + 16, "text-anchor": "middle" }, name);
  });
  drawn(svg, "text", { class: "title", x: width / 2, y: height + 38, "text-anchor": "middle" }, cells.x_label);
  svg.addEventListener("pointerleave", hideTip);
  svg.addEventListener("pointermove", (event) => {
    const frame = svg.getBoundingClientRect();
    const c = Math.floor((event.clientX - frame.left) / wide), r = Math.floor((event.clientY - frame.top) / tall);
    if (!(cells.rows[r] && cells.columns[c])) return hideTip();
    const value = cells.values[r][c];
    showTip(event, `${cells.rows[r]}\n${value === null ? "not asked" : `${Math.round(100 * value)}%`}, ${cells.column_notes[c]}\n${cells.row_notes[r]}`);
  });
}

const tip = element("div", "tip");
document.body.append(tip);
const hideTip = () => { tip.style.display = "none"; };
function showTip(event, text) {
  tip.textContent = text;
  tip.style.display = "block";
  const { width, height } = tip.getBoundingClientRect(), below = event.clientY + 14;
  tip.style.left = `${Math.max(4, Math.min(event.clientX + 12, innerWidth - width - 8))}px`;
  tip.style.top = `${below + height > innerHeight ? event.clientY - height - 10 : below}px`;
}
function pointAt(svg, targets) {
  svg.addEventListener("pointerleave", hideTip);
  svg.addEventListener("pointermove", (event) => {
    const frame = svg.getBoundingClientRect();
    const far = (t) => Math.hypot(t.x - event.clientX + frame.left, t.y - event.clientY + frame.top) / t.reach;
    const nearest = targets.reduce((best, t) => (best && far(best) <= far(t) ? best : t), null);
    if (nearest && far(nearest) < 1) showTip(event, nearest.tip);
    else hideTip();
  });
}

function legendOf(panel) {
  const items = (panel.series ?? []).filter((series) => series.label).map((series) => {
    const key = element("i", `key ${series.mark}${series.is_open ? " open" : ""}`);
    key.style = shaded(series);
    return element("span", "", key, series.label);
  });
  return items.length ? [element("p", "legend", ...items)] : [];
}

function cellOf(cell, tag, isText) {
  const [text, tone] = Array.isArray(cell) ? cell : [cell, ""];
  return element(tag, `${tone}${isText ? " text" : ""}`, text);
}

const BLOCKS = {
  Sentence: ({ text, tone, badge, badge_tone }) => {
    if (tone === "heading") return element("h3", "", text);
    const badges = badge ? [element("span", `badge ${badge_tone}`, badge), " "] : [];
    return element("p", tone, ...badges, text);
  },
  Bullets: ({ items }) => element("ul", "soft", ...items.map((item) => element("li", "", item))),
  DataTable: ({ columns, rows, title, text_columns }) => {
    const line = (cells, tag) => element("tr", "", ...cells.map((cell, i) => cellOf(cell, tag, text_columns.includes(i))));
    const table = element("table", "", element("thead", "", line(columns, "th")), element("tbody", "", ...rows.map((row) => line(row, "td"))));
    const box = element("div", "scroll", table);
    return title ? element("details", "", element("summary", "", title), box) : box;
  },
  MediaGrid: ({ columns, rows, media, tones }) => {
    const cell = (one, tone) => {
      const made = element("td", `${tone} medium`);
      if (one) {
        const shown = element(one.startsWith("data:audio") ? "audio" : "img");
        shown.src = one;
        if (shown.tagName === "AUDIO") shown.controls = true;
        made.append(shown);
      }
      return made;
    };
    const head = element("tr", "", element("th", "text", ""), ...columns.map((name) => element("th", "medium", name)));
    const body = rows.map((name, r) => element("tr", "", element("td", "text", name), ...media[r].map((one, c) => cell(one, tones[r][c]))));
    return element("div", "scroll", element("table", "", element("thead", "", head), element("tbody", "", ...body)));
  },
  Fold: ({ title, blocks }) => element("details", "", element("summary", "", title), ...blocks.map(paint)),
  Figure: ({ panels }) => element("div", `panels of-${panels.length}`, ...panels.map((panel) => element("figure", "",
    ...(panel.title ? [element("figcaption", "", panel.title)] : []),
    fitted("plot", (box, width) => (panel.kind === "CellMap" ? paintCells : paintPlot)(panel, box, width)), ...legendOf(panel)))),
  Row: ({ figures }) => element("div", "panels row", ...figures.map(paint)),
  Menu: ({ label, options }) => {
    const select = element("select", "", ...Object.keys(options).map((name) => new Option(name)));
    const chosen = element("div"), show = () => chosen.replaceChildren(...options[select.value].map(paint));
    select.addEventListener("change", show);
    show();
    return element("div", "", element("label", "", `${label} `, select), chosen);
  },
};
const paint = (block) => BLOCKS[block.kind](block);

for (const { key, title, link, blocks } of sections) {
  const anchor = element("a", "", link);
  anchor.href = `#${key}`;
  document.querySelector("nav").append(anchor, " ");
  const section = element("section", "", element("h2", "", title), ...blocks.map(paint));
  section.id = key;
  document.querySelector("main").append(section);
}

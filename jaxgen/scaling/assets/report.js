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
  return `color-mix(in srgb, ${style(run.sparse ? "--sparse" : "--dense")} ${35 + 65 * place}%, ${style("--paper")})`;
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

// Grid lines at 1, 2, ... 9 times each power of ten; labels at the powers.
function logSplits(self, index, low, high) {
  const splits = [];
  for (let power = 10 ** Math.floor(Math.log10(low)); power <= high; power *= 10) {
    for (let digit = 1; digit < 10; digit++) {
      if (digit * power >= low && digit * power <= high) splits.push(digit * power);
    }
  }
  return splits;
}
const isPower = (v) => Math.abs(Math.log10(v) - Math.round(Math.log10(v))) < 1e-6;
const logLabels = (self, splits) => splits.map((v) => (isPower(v) ? si(v) : ""));

// Losses span less than a decade: tick at round numbers, not only at powers of ten.
function lossSplits(self, index, low, high) {
  const steps = [0.1, 0.2, 0.5, 1, 2];
  const step = steps.find((s) => (high - low) / s <= 8) ?? 5;
  const splits = [];
  for (let v = Math.ceil(low / step) * step; v <= high; v += step) splits.push(Number(v.toFixed(4)));
  return splits;
}

const charts = [];
function draw(place, options, columns) {
  const chart = new uPlot({ width: place.clientWidth - 16, ...options }, columns, place);
  charts.push([place, chart]);
}
addEventListener("resize", () => {
  for (const [place, chart] of charts) chart.setSize({ width: place.clientWidth - 16, height: chart.height });
});

function lossChart() {
  const columns = [null, ...data.runs.map((run) => [run.curve.flops, run.curve.loss])];
  const all = data.runs.flatMap((run) => run.curve.loss);
  const low = Math.min(...all) * 0.95, high = Math.max(...all) * 1.05;
  const flops = data.runs.flatMap((run) => run.curve.flops);
  const path = (u, seriesIndex) => {
    const stroke = new Path2D();
    const [xs, ys] = u.data[seriesIndex];
    xs.forEach((x, i) => {
      const px = u.valToPos(x, "x", true), py = u.valToPos(ys[i], "y", true);
      if (i) stroke.lineTo(px, py); else stroke.moveTo(px, py);
    });
    return { stroke, fill: null, clip: null, flags: 0 };
  };
  draw(byId("loss"), {
    mode: 2, height: 420,
    cursor: { show: false }, legend: { show: false },
    scales: {
      x: { distr: 3, time: false, range: [Math.min(...flops) * 0.8, Math.max(...flops) * 1.25] },
      y: { distr: 3, range: [low, high] },
    },
    axes: [
      { ...axis("FLOPs", logLabels, 44), splits: logSplits },
      { ...axis("training loss (nats a token)", (u, s) => s.map((v) => String(v)), 54), splits: lossSplits },
    ],
    series: [null, ...data.runs.map((run) => ({
      label: run.name, stroke: resolved(colourOf(run, data.runs)), width: 1.6, paths: path, points: { show: false },
      facets: [{ scale: "x", auto: true }, { scale: "y", auto: true }],
    }))],
  }, columns);
  const list = element("p", null, "legend");
  const seen = new Set();
  for (const run of data.runs) {
    const key = `${si(run.parameters.active)}${run.sparse ? " active, mixture of experts" : ""}`;
    if (seen.has(key)) continue;
    seen.add(key);
    const item = element("span", key);
    item.style.color = colourOf(run, data.runs);
    item.style.fontWeight = "600";
    list.append(item);
  }
  byId("loss").after(list);
}

function abilityChart(place, task, metric, label, range) {
  const groups = [["dense", false], ["sparse", true]].map(([name, sparse]) => {
    const points = data.runs
      .filter((run) => run.sparse === sparse && run.scores[task]?.[metric] !== undefined)
      .map((run) => [run.parameters.active, run.scores[task][metric]]);
    return { name, points };
  });
  const sizes = data.runs.map((run) => run.parameters.active);
  const paint = (group) => (u) => {
    const context = u.ctx, radius = 4 * devicePixelRatio;
    context.save();
    context.fillStyle = context.strokeStyle = style(group.name === "dense" ? "--dense" : "--sparse");
    context.lineWidth = 1.5 * devicePixelRatio;
    const means = new Map();
    for (const [x, y] of group.points) means.set(x, [...(means.get(x) ?? []), y]);
    context.beginPath();
    [...means].sort((a, b) => a[0] - b[0]).forEach(([x, ys], i) => {
      const mean = ys.reduce((a, b) => a + b, 0) / ys.length;
      const at = [u.valToPos(x, "x", true), u.valToPos(mean, "y", true)];
      if (i) context.lineTo(...at); else context.moveTo(...at);
    });
    context.stroke();
    context.globalAlpha = 0.8;
    for (const [x, y] of group.points) {
      const px = u.valToPos(x, "x", true), py = u.valToPos(y, "y", true);
      context.beginPath();
      if (group.name === "dense") context.arc(px, py, radius, 0, 2 * Math.PI);
      else context.rect(px - radius, py - radius, 2 * radius, 2 * radius);
      context.fill();
    }
    context.restore();
  };
  draw(place, {
    height: 240, cursor: { show: false }, legend: { show: false },
    scales: {
      x: { distr: 3, time: false, range: [Math.min(...sizes) / 1.6, Math.max(...sizes) * 1.6] },
      y: { range },
    },
    axes: [{ ...axis("active parameters", logLabels, 44), splits: logSplits }, axis(label, undefined, 50)],
    series: [{}, { show: false }],
    hooks: { draw: groups.map(paint) },
  }, [[Math.min(...sizes), Math.max(...sizes)], [null, null]]);
}

function abilities() {
  for (const { name, has_answers } of data.tasks) {
    if (!has_answers) continue;
    const box = byId("abilities");
    box.append(element("h3", name));
    const pair = element("div", null, "pair");
    const left = element("div", null, "chart"), right = element("div", null, "chart");
    pair.append(left, right);
    box.append(pair);
    abilityChart(left, name, "exact_match", "exact match", [-0.03, 1.03]);
    const lowest = Math.min(...data.runs.map((run) => run.scores[name]?.log_probability_per_token ?? 0));
    abilityChart(right, name, "log_probability_per_token", "log-probability a token", [lowest * 1.08, -lowest * 0.04]);
  }
}

function samples() {
  const select = byId("sample-task");
  for (const { name } of data.tasks) select.append(element("option", name));
  const show = () => {
    const table = byId("samples");
    table.replaceChildren();
    const head = element("thead"), titles = element("tr");
    for (const title of ["run", "prompt", "said", "right"]) titles.append(element("th", title, "text"));
    head.append(titles);
    const body = element("tbody");
    for (const run of data.runs) {
      for (const sample of run.samples.filter((s) => s.task === select.value).slice(0, 2)) {
        const row = element("tr");
        row.append(element("td", run.name));
        row.append(element("td", sample.prompt, "text"));
        const verdict = sample.right === null ? "" : sample.said === sample.right ? " good" : " bad";
        row.append(element("td", sample.said, `text${verdict}`));
        row.append(element("td", sample.right ?? "", "text"));
        body.append(row);
      }
    }
    table.append(head, body);
  };
  select.addEventListener("change", show);
  show();
}

function table() {
  const answered = data.tasks.filter((task) => task.has_answers).map((task) => task.name);
  const head = element("thead"), titles = element("tr");
  const names = ["run", "parameters", "active", "tokens", "FLOPs", "tokens/s", "held-out loss",
    ...answered.map((name) => `${name} exact`), "fingerprint", "folder"];
  for (const name of names) titles.append(element("th", name));
  head.append(titles);
  const body = element("tbody");
  for (const run of data.runs) {
    const row = element("tr");
    const cells = [run.name, run.parameters.total.toLocaleString("en"), run.parameters.active.toLocaleString("en"),
      si(run.tokens), si(run.flops), si(run.tokens_per_second), fixed(run.loss),
      ...answered.map((name) => fixed(run.scores[name]?.exact_match)), run.fingerprint, run.path];
    for (const cell of cells) row.append(element("td", cell));
    body.append(row);
  }
  byId("runs").append(head, body);
  const flops = data.runs.reduce((sum, run) => sum + run.flops, 0);
  byId("summary").textContent = `${data.runs.length} runs, ${flops.toExponential(1)} FLOPs in all.`;
  const { versions, revision } = data.runs[0];
  byId("versions").textContent = Object.entries(versions).map(([name, v]) => `${name} ${v}`).join(", ")
    + (revision ? `; revision ${revision.slice(0, 12)}` : "");
}

lossChart();
abilities();
samples();
table();
// Colours are read when a chart is drawn.
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => location.reload());

function losses() {
  const select = byId("loss-mixture");
  for (const mixture of MIXTURES) select.append(element("option", mixture));
  if (MIXTURES.length < 2) select.parentElement.remove();
  const show = () => lossChart(data.runs.filter((run) => run.mixture === select.value));
  select.addEventListener("change", show);
  show();
}

function lossChart(runs) {
  byId("loss").replaceChildren();
  const columns = [null, ...runs.map((run) => [run.curve.flops, run.curve.loss])];
  const all = runs.flatMap((run) => run.curve.loss);
  const low = Math.min(...all) * 0.95, high = Math.max(...all) * 1.05;
  const flops = runs.flatMap((run) => run.curve.flops);
  const path = (u, seriesIndex) => {
    const stroke = new Path2D();
    const [xs, ys] = u.data[seriesIndex];
    xs.forEach((x, i) => {
      const px = u.valToPos(x, "x", true), py = u.valToPos(ys[i], "y", true);
      if (i) stroke.lineTo(px, py); else stroke.moveTo(px, py);
    });
    return { stroke, fill: null, clip: null, flags: 0 };
  };
  const isNarrow = high / low < 10;
  draw(byId("loss"), {
    mode: 2, height: 420,
    cursor: { show: false }, legend: { show: false },
    scales: {
      x: { distr: 3, time: false, range: [Math.min(...flops) * 0.8, Math.max(...flops) * 1.25] },
      y: { distr: 3, range: [low, high] },
    },
    axes: [
      { ...axis("FLOPs", logLabels, 44), splits: logSplits },
      { ...axis("training loss (nats a token)", isNarrow ? (u, s) => s.map((v) => number(v)) : logLabels, 54), splits: isNarrow ? roundSplits : logSplits },
    ],
    series: [null, ...runs.map((run) => ({
      label: run.name, stroke: resolved(colourOf(run, runs)), width: 1.6, paths: path, points: { show: false },
      facets: [{ scale: "x", auto: true }, { scale: "y", auto: true }],
    }))],
  }, columns);
  const list = byId("loss-legend"), seen = new Set();
  list.replaceChildren();
  for (const run of runs) {
    const key = `${si(run.parameters.active)}${run.sparse ? " active, mixture of experts" : ""}`;
    if (seen.has(key)) continue;
    seen.add(key);
    const item = element("span", key);
    item.style.color = colourOf(run, runs);
    item.style.fontWeight = "600";
    list.append(item);
  }
}

function samples() {
  if (!data.runs.some((run) => run.samples.length)) {
    dropSection("s-samples");
    return;
  }
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

losses();
laws();
allocation();
comparisons();
prediction();
abilities();
finetuning();
heatMaps();
samples();
table();
// Colours are read when a chart is drawn.
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => location.reload());

const TOKEN = "log_probability_per_token";
const CLASSES = { "explained by the metric": "good", "not explained": "bad", inconclusive: "open" };

// What a run scores and where it stands on every axis; fine-tuned ones have a section of their own.
const TUNED = new Set(data.analysis.runs.filter((run) => run.parent).map((run) => run.name));
function standings(task, metric) {
  return data.runs.filter((run) => !TUNED.has(run.name) && Number.isFinite(run.scores[task]?.[metric])).map((run) => ({
    run, value: run.scores[task][metric],
    at: { parameters: run.parameters.active, flops: run.flops, tokens: run.tokens, loss: run.loss },
  }));
}

function metricChart(place, task, found, axisName, metric, label, range) {
  const points = standings(task, metric).map(({ run, value, at }) => ({
    x: at[axisName], y: value, colour: kindColour(run.sparse), square: run.sparse,
    text: [run.name, `${label} ${number(value)}`, `${AXES[axisName]} ${si(at[axisName])}`],
  }));
  const lines = [], bars = [];
  for (const ability of found) {
    const at = ability.axes?.[axisName], curve = at?.curves?.[metric];
    // Where several rungs stand at one place a line through them would say nothing.
    if (!curve || !at.is_apart) continue;
    const colour = kindColour(ability.kind === "sparse");
    lines.push({
      x: curve.map((p) => p.scale), y: curve.map((p) => p.mean.value), colour,
      low: curve.map((p) => p.mean.low), high: curve.map((p) => p.mean.high), banded: curve.every((p) => p.mean.low !== null),
    });
  }
  const lowest = Math.min(0, ...points.map((p) => p.y));
  scatter(place, {
    points, lines, bars, xLabel: AXES[axisName], yLabel: label, reversed: axisName === "loss",
    range: range ?? [lowest * 1.08, -lowest * 0.04 || 0.05],
  });
}

function successChart(place, found, axisName) {
  const points = [], lines = [], bars = [];
  for (const ability of found) {
    const success = ability.axes?.[axisName]?.success;
    if (!success) continue;
    const colour = kindColour(ability.kind === "sparse");
    if (ability.axes[axisName].is_apart) lines.push({ x: success.map((s) => s.scale), y: success.map((s) => s.share.value), colour });
    for (const one of success) {
      bars.push({ x: one.scale, low: one.share.low, high: one.share.high, colour });
      points.push({
        x: one.scale, y: one.share.value, colour, square: ability.kind === "sparse",
        text: [one.rung, `${one.successes} of ${one.seeds} seeds; 95 %: ${number(one.share.low, 2)} to ${number(one.share.high, 2)}`],
      });
    }
  }
  if (points.length) scatter(place, { points, lines, bars, xLabel: AXES[axisName], yLabel: "p(success) over seeds", range: [-0.03, 1.03], reversed: axisName === "loss" });
  else place.remove();
}

function verdictOf(ability) {
  const made = element("div"), said = ability.verdict;
  if (!said || said.why_not) {
    made.append(element("p", ability.why_not ?? said.why_not, "note"));
    return made;
  }
  const line = element("p");
  if (MIXTURES.length > 1 && ability.mixture !== ability.task) line.append(`Trained on ${ability.mixture}: `);
  line.append(element("span", said.verdict, `badge ${CLASSES[said.verdict]}`), ` ${said.because} (${said.scales} scales, ${said.seeds} seeds at least, ${said.instances} instances)`);
  made.append(line);
  return made;
}

function evidence(ability, axisName) {
  const axisData = ability.axes[axisName], inside = [];
  if (ability.verdict?.criteria) {
    inside.push(tableOf(["question", "answer", "evidence"], ability.verdict.criteria.map((c) => [c.name, c.outcome, [c.evidence, "text"]])));
  }
  if (!axisData.curves) return details("Evidence", element("p", axisData.why_not, "note"), ...inside);
  const breaks = axisData.breaks;
  if (breaks.why_not) inside.push(element("p", breaks.why_not, "note"));
  else {
    for (const [metric, found] of Object.entries(breaks)) {
      inside.push(element("p", found.why_not
        ? `Breaks of ${metric}: ${found.why_not}`
        : `Breaks of ${metric}: left-out scales are predicted best without a break by "${found.gradual}" (error ${number(100 * found.heldout[found.gradual], 2)} % of the range) and with one by "${found.sudden}" (${number(100 * found.heldout[found.sudden], 2)} %), which would be at ${AXES[axisName]} ${si(found.places[found.sudden].value)} (95 %: ${si(found.places[found.sudden].low)} to ${si(found.places[found.sudden].high)}).`));
    }
  }
  const shape = axisData.shapes.filter((s) => s.seed === null);
  inside.push(tableOf(["mean curve of", "breakthroughness", "linearity"], shape.map((s) => [s.metric, number(s.breakthroughness), number(s.linearity)])));
  if (axisData.modes.why_not) inside.push(element("p", axisData.modes.why_not, "note"));
  else {
    inside.push(element("p", "Are the seeds of two kinds? Log-probability a token; the probability is that of what both tests show if there is one kind, corrected over scales."));
    inside.push(tableOf(["size", "seeds", "spread", "dip", "probability"], axisData.modes[TOKEN].map((m) => [m.rung, String(m.seeds), number(m.spread), number(m.dip), number(m.probability)])));
  }
  const rows = axisData.curves.exact_match.flatMap((point, i) => point.by_run.map((one, j) => [
    one.run, number(point.scale), number(one.value), number(axisData.curves[TOKEN][i].by_run[j].value),
    `${number(point.mean.value)} (${between([point.mean.low, point.mean.high])})`,
  ]));
  inside.push(details("Every run", tableOf(["run", AXES[axisName], "exact match", "log-probability a token", "mean over seeds (95 %)"], rows)));
  return details("Evidence", ...inside);
}

function abilities() {
  if (!data.analysis.abilities.length) {
    dropSection("s-abilities");
    return;
  }
  if (!data.runs.some((run) => run.sparse)) document.querySelector("#s-abilities .legend").remove();
  const select = byId("ability-axis");
  for (const [name, label] of Object.entries(AXES)) {
    if (name === "tokens" && new Set(data.runs.map((run) => run.tokens)).size < 2) continue;
    const option = element("option", label);
    option.value = name;
    select.append(option);
  }
  const show = () => {
    const box = byId("abilities");
    box.replaceChildren();
    for (const { name, has_answers } of data.tasks) {
      if (!has_answers) continue;
      const found = data.analysis.abilities.filter((ability) => ability.task === name);
      if (!found.length) continue;
      box.append(element("h3", name));
      const told = found.filter((ability) => ability.axes && ability.heat_map.rungs.length > 1);
      for (const ability of told.length ? told : found) box.append(verdictOf(ability));
      const three = element("div", null, "three");
      const places = [0, 1, 2].map(() => element("div", null, "chart"));
      three.append(...places);
      box.append(three);
      metricChart(places[0], name, found, select.value, "exact_match", "exact match", [-0.03, 1.03]);
      if (standings(name, TOKEN).length) metricChart(places[1], name, found, select.value, TOKEN, "log-probability a token");
      else places[1].remove();
      successChart(places[2], found, select.value);
      for (const ability of told) box.append(evidence(ability, select.value));
    }
  };
  const apart = [...select.options].find(({ value }) => data.analysis.abilities.some((ability) => ability.axes?.[value]?.is_apart));
  if (apart) select.value = apart.value;
  select.addEventListener("change", show);
  show();
}

const MAP_HEIGHT = 320;
function heatMaps() {
  const box = byId("maps");
  for (const ability of data.analysis.abilities) {
    if (!ability.heat_map || ability.heat_map.rungs.length < 2) continue;
    const map = ability.heat_map, rows = map.instances.length, columns = map.rungs.length;
    const holder = element("div", null, "chart"), canvas = element("canvas");
    holder.append(element("h3", `${ability.task}${ladderName(ability)}`), canvas);
    const feet = element("div", null, "feet");
    for (const [i, scale] of map.scale.entries()) feet.append(element("span", columns > 6 && i % 2 ? "" : si(scale, 2)));
    holder.append(feet, element("p", `${rows} instances by active parameters`, "note"));
    box.append(holder);
    canvas.width = columns; canvas.height = rows;
    canvas.style.height = `${MAP_HEIGHT}px`;
    const context = canvas.getContext("2d");
    context.fillStyle = kindColour(ability.kind === "sparse");
    map.solved.forEach((shares, row) => shares.forEach((share, column) => {
      context.globalAlpha = share ?? 0;
      context.fillRect(column, row, 1, 1);
    }));
    canvas.addEventListener("pointermove", (event) => {
      const frame = canvas.getBoundingClientRect();
      const column = Math.min(columns - 1, Math.floor(((event.clientX - frame.left) / frame.width) * columns));
      const row = Math.min(rows - 1, Math.floor(((event.clientY - frame.top) / frame.height) * rows));
      if (row < 0 || column < 0) return;
      const line = map.lines[row], runs = map.runs[column];
      const share = map.solved[row][column];
      showTip(event, [map.instances[row], `${map.rungs[column]}: ${share === null ? "not asked" : `${Math.round(share * runs.length)} of ${runs.length} seeds`}`,
        Array.isArray(line) ? "lines differ between runs" : `line ${line} of evals of ${runs.join(", ")}`]);
    });
    canvas.addEventListener("pointerleave", hideTip);
  }
  if (!box.children.length) dropSection("s-instances");
}

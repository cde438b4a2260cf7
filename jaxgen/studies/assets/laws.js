const AXES = {
  parameters: "active parameters", flops: "FLOPs", tokens: "tokens", loss: "held-out loss (nats a token)",
};
const MIXTURES = [...new Set(data.analysis.runs.map((run) => run.mixture))];
// What tells a ladder from the others: its mixture, where there are several, and its kind.
const ladderName = (of) => (MIXTURES.length > 1 && of.task !== of.mixture ? `, trained on ${of.mixture}` : "") + (of.kind === "sparse" ? ", mixture of experts" : "");
const kindColour = (isSparse) => style(isSparse ? "--sparse" : "--dense");

function laws() {
  const found = data.analysis.laws, select = byId("law-choice");
  const fitted = found.filter((law) => !law.why_not);
  for (const law of found) {
    if (law.why_not) continue;
    const option = element("option", `${law.task ?? "mean over tasks"}${ladderName(law)}`);
    option.value = found.indexOf(law);
    select.append(option);
  }
  const unfitted = found.filter((law) => law.why_not)
    .map((law) => `No law of ${law.task ?? "the mean loss"} for ${law.kind === "sparse" ? "mixtures of experts" : "dense models"}${MIXTURES.length > 1 ? ` trained on ${law.mixture}` : ""}: ${law.why_not}`);
  byId("law-lead").textContent = fitted.length
    ? "The curve is the law with its 95 % interval, drawn to three times the largest scale; a point is a run. Nothing beyond the points was measured."
    : "";
  for (const sentence of unfitted) byId("laws").before(element("p", sentence, "note"));
  if (!fitted.length) { select.parentElement.remove(); return; }
  const show = () => showLaw(found[select.value]);
  select.addEventListener("change", show);
  show();
}

// How often a run saw its data, as an average over its tasks.
const epochs = (point) => number(point.tokens / point.unique_tokens);

function showLaw(law) {
  const box = byId("laws");
  box.replaceChildren();
  const colour = kindColour(law.kind === "sparse"), chart = element("div", null, "chart");
  box.append(chart);
  const sizes = [...new Set(law.curves.map((curve) => curve.parameters))];
  const shades = sizes.map((size, i) =>
    resolved(`color-mix(in srgb, ${colour} ${sizes.length > 1 ? 35 + (65 * i) / (sizes.length - 1) : 100}%, ${style("--paper")})`));
  const repeats = law.points.some((p) => p.unique_tokens < p.tokens);
  const points = law.points.map((p) => ({
    x: p.x, y: p.loss, colour, square: law.kind === "sparse",
    text: [p.run, `loss ${number(p.loss, 4)}, the law ${number(p.fitted, 4)}`, `${si(p.parameters)} parameters, ${si(p.tokens)} tokens${repeats ? `, ${si(p.unique_tokens)} of them different: ${epochs(p)} epochs` : ""}`],
  }));
  const bars = [];
  const registered = data.analysis.prediction?.registered.predictions ?? [];
  for (const said of registered) {
    const kind = said.held_out.parameters.active !== said.held_out.parameters.total ? "sparse" : "dense";
    if (law.task !== null || said.held_out.mixture !== law.mixture || kind !== law.kind) continue;
    const x = law.axis === "parameters" ? said.held_out.parameters.active : said.held_out.flops;
    const amber = style("--amber");
    bars.push({ x, low: said.loss.new_run[0], high: said.loss.new_run[1], colour: amber });
    points.push({
      x, y: said.loss.value, colour: amber, hollow: true,
      text: [`registered prediction of ${said.held_out.name}`, `${number(said.loss.value, 4)}; one run: ${between(said.loss.new_run, 4)}`],
    });
  }
  const lines = law.curves.map((curve) => ({
    ...curve, colour: shades[sizes.indexOf(curve.parameters)], broken: Boolean(curve.unique_tokens), text: [curve.label],
    banded: law.curves.length === 1 && curve.low[0] !== null,
  }));
  // A band that is wider than the data would flatten them; the axis follows points and curves.
  const measured = [...law.points.map((p) => p.loss), ...law.curves.flatMap((c) => c.y)];
  scatter(chart, {
    points, bars, lines, logY: true, height: 340,
    range: [Math.min(...measured) * 0.93, Math.max(...measured) * 1.06],
    xLabel: AXES[law.axis], yLabel: "held-out loss (nats a token)",
  });
  if (lines.some((line) => line.broken)) {
    box.append(element("p", "Full lines: a size on data that are all new. Broken lines leave them where the data begin to be seen again; point at one to see which they are.", "note"));
  }
  const formula = element("p", law.formula, "formula");
  box.append(formula, element("p", `${law.why} ${law.runs} runs; R² = ${number(law.r_squared, 4)}; a run lies about the law by ${number(100 * law.noise, 2)} % (one standard deviation).`));
  box.append(tableOf(["parameter", "value", "standard error", "95 % interval"],
    law.parameters.map((p) => [p.name, number(p.value, 4), number(p.standard_error, 2), between(p.interval)])));
  const runs = tableOf(["run", AXES[law.axis], ...(repeats ? ["parameters", "tokens", "different tokens", "epochs"] : []), "loss", "the law", "off by"],
    law.points.map((p) => [p.run, si(p.x), ...(repeats ? [si(p.parameters), si(p.tokens), si(p.unique_tokens), epochs(p)] : []), fixed(p.loss, 4), fixed(p.fitted, 4), `${(100 * (p.loss / p.fitted - 1)).toFixed(2)} %`]));
  box.append(details(`The ${law.points.length} runs it rests on`, runs));
  if (law.holdout) box.append(...holdout(law.holdout));
  if (law.sensitivity) box.append(...sensitivity(law.sensitivity));
}

function holdout(found) {
  if (found.why_not) return [element("p", found.why_not, "note")];
  const rows = found.origins.flatMap((origin) => origin.runs.map((run) => [
    run.run, si(origin.largest_flops), String(origin.fitted), fixed(run.predicted, 4), between(run.interval, 4), fixed(run.actual, 4),
    run.is_inside ? ["inside", "good"] : ["outside", "bad"],
  ]));
  return [
    element("p", `Held out in turn, ${(100 * found.coverage).toFixed(0)} % of ${rows.length} larger runs lie within the ${100 * found.level} % intervals of laws fitted to smaller ones; the mean error is ${number(100 * found.mean_error, 2)} %.`),
    details("Every held-out run", tableOf(["run", "fitted up to FLOPs", "runs fitted", "predicted", `${100 * found.level} % interval`, "actual", ""], rows)),
  ];
}

function sensitivity(found) {
  if (found.why_not) return [element("p", found.why_not, "note")];
  const names = [...new Set(found.variations.flatMap((v) => Object.keys(v.parameters ?? {})))];
  const rows = found.variations.map((v) => v.why_not ? [v.change, v.why_not] : [
    v.change, ...names.map((name) => number(v.parameters[name])), fixed(v.prediction, 4), `${(100 * v.difference).toFixed(2)} %`,
  ]);
  const moved = found.variations.filter((v) => !v.why_not).map((v) => Math.abs(v.difference));
  return [
    element("p", `With one thing changed at a time, what the law says at ${found.at.times} times the ${AXES[found.at.axis]} of ${found.at.run}${found.at.unique_tokens ? `, of which ${si(found.at.unique_tokens)} are different,` : ""} (${fixed(found.prediction, 4)}) moves by up to ${number(100 * Math.max(...moved), 2)} %.`),
    details("Every change", tableOf(["changed", ...names, "says there", "moves by"], rows)),
  ];
}

function prediction() {
  const box = byId("prediction"), found = data.analysis.prediction;
  if (!found) {
    box.append(element("p", "No prediction was registered before the largest size was trained, so none can be tested here; a curve drawn afterwards is a fit.", "note"));
    return;
  }
  const { time, level, predictions, digest } = found.registered;
  box.append(element("p", `Registered on ${time.replace("T", " ")}, before any run of ${predictions.map((said) => said.held_out.name).join(", ")} began, with ${100 * level} % intervals.`));
  predictions.forEach((said, i) => foretold(box, said, found.rungs[i], predictions.length > 1));
  const last = element("p", "SHA-256 of what was registered: ", "note");
  last.append(element("code", digest, "break"));
  box.append(last);
}

function foretold(box, said, found, titled) {
  const rung = said.held_out;
  if (titled) box.append(element("h3", rung.name));
  box.append(element("p", `${si(rung.parameters.active)} active parameters, ${si(rung.tokens)} tokens, ${rung.seeds.length} seeds; from ${said.points.length} smaller runs by ${said.loss.law.formula}.`));
  if (found.late.length) box.append(element("p", `Started before the prediction was registered: ${found.late.join(", ")}.`, "note bad"));
  if (found.missing.length) box.append(element("p", `Not finished: seed ${found.missing.join(", ")}; the interval is for the mean of all ${rung.seeds.length} seeds.`, "note"));
  const rows = [], runs = [], reasons = [];
  const row = (name, forecast, outcome) => {
    if (forecast.why_not) { reasons.push(`${name}: ${forecast.why_not}`); return; }
    rows.push([name, number(forecast.value, 4), between(forecast.seed_mean, 4), ...came(outcome)]);
    for (const [run, one] of Object.entries(outcome?.by_run ?? {})) {
      runs.push([name, run, number(one.predicted, 4), between(one.interval, 4), ...came(one)]);
    }
  };
  row("held-out loss", said.loss, found.loss);
  for (const [task, forecast] of Object.entries(said.scores)) row(`${task}, exact match`, forecast, found.scores[task]);
  box.append(tableOf(["of the mean over seeds", "predicted", "interval", "came", "off by", ""], rows));
  if (runs.length) box.append(details("Every run", tableOf(["of one run", "run", "predicted", "interval", "came", "off by", ""], runs)));
  if (reasons.length) {
    const list = element("ul");
    for (const reason of reasons) list.append(element("li", reason));
    box.append(element("p", "Without a prediction:"), list);
  }
}

function came(one) {
  if (!one) return ["not yet", "", ""];
  const verdict = one.is_inside ? ["inside", "good"] : [`outside by ${number(one.outside_by)}`, "bad"];
  return [number(one.actual, 4), `${one.error > 0 ? "+" : ""}${number(one.error)}`, verdict];
}

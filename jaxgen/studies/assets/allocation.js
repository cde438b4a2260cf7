// The best size of a compute budget: budgets of equal compute, and N* over compute.
function allocation() {
  const found = data.analysis.allocations, told = found.filter((one) => !one.why_not);
  const select = byId("allocation-choice");
  for (const one of told) {
    const option = element("option", `${one.kind === "sparse" ? "mixtures of experts" : "dense models"}${MIXTURES.length > 1 ? ` trained on ${one.mixture}` : ""}`);
    option.value = found.indexOf(one);
    select.append(option);
  }
  if (told.length < 2) select.parentElement.remove();
  if (!told.length) {
    for (const reason of new Set(found.map((one) => one.why_not))) byId("allocation").append(element("p", reason, "note"));
    return;
  }
  const show = () => showAllocation(found[told.length > 1 ? select.value : found.indexOf(told[0])]);
  select.addEventListener("change", show);
  show();
}

// From light to strong as a budget grows.
const shadeOf = (colour, place, count) =>
  resolved(`color-mix(in srgb, ${colour} ${count > 1 ? 35 + (65 * place) / (count - 1) : 100}%, ${style("--paper")})`);
const multiplied = (value) => `${number(value, 2)} N`;
const percent = (level) => `${Math.round(100 * level)} %`;

function showAllocation(found) {
  const box = byId("allocation"), fitted = found.approaches.filter((one) => !one.why_not);
  const square = found.kind === "sparse", colour = kindColour(square), amber = style("--amber");
  const pair = element("div", null, "pair"), profiles = element("div", null, "chart"), sizes = element("div", null, "chart");
  box.replaceChildren();
  // The first curve that could be fitted stands for its approach.
  const shown = [2, 3].map((approach) => fitted.find((one) => one.approach === approach)).filter(Boolean);
  for (const one of shown) {
    box.append(element("p", `By ${one.name} (approach ${one.approach}): N* grows as C^${number(one.exponent)} (${between(one.exponent_interval)}), D* as C^${number(one.tokens_exponent)} (${between(one.tokens_exponent_interval)}). ${one.optima.filter((best, i) => best.is_beyond_runs !== one.optima[i + 1]?.is_beyond_runs).map(boughtBy).join("; ")}.`));
  }
  if (found.agreement) box.append(element("p", found.agreement.sentence, found.agreement.is_agreed ? undefined : "note bad"));
  box.append(pair);
  if (found.budgets.length) pair.append(profiles);
  pair.append(sizes);
  if (found.budgets.length) profileChart(profiles, found.budgets, colour, square, amber);
  const lines = shown.map((one, i) => ({ ...one.line, colour: i ? amber : colour, banded: one.line.low[0] !== null }));
  const points = found.budgets.filter((one) => !one.dropped).map((one) => ({
    x: one.flops, y: one.parameters, colour, square, text: [`minimum at ${number(one.flops)} FLOPs`, `${si(one.parameters)} parameters`],
  }));
  for (const [i, one] of shown.entries()) {
    for (const best of one.optima) {
      points.push({
        x: best.flops, y: best.parameters, colour: i ? amber : colour, hollow: true,
        text: [`${one.name}, ${number(best.flops)} FLOPs${best.is_beyond_runs ? ", beyond the runs" : ""}`, `N* ${si(best.parameters)} (${range(best.parameters_interval)})`, `D* ${si(best.tokens)} (${range(best.tokens_interval)})`],
      });
    }
  }
  const sane = [...points.map((p) => p.y), ...lines.flatMap((l) => l.y)];
  scatter(sizes, {
    points, lines, logY: true, height: 300, xLabel: "FLOPs", yLabel: "best size, N* (active parameters)",
    range: [Math.min(...sane) / 2, Math.max(...sane) * 2],
  });
  const legend = element("p", null, "legend");
  const named = (text, colour) => {
    const item = element("span", text);
    item.style.color = colour;
    legend.append(item);
  };
  found.budgets.forEach((one, i) => named(`${number(one.flops)} FLOPs`, shadeOf(colour, i, found.budgets.length)));
  if (shown.length > 1) shown.forEach((one, i) => named(one.name, i ? amber : colour));
  box.append(legend);
  box.append(costOf(found.token_flops));
  box.append(details("The best model of some budgets", tableOf(["approach", "FLOPs", "N*", percent(found.level), "D*", percent(found.level), "D*/N*", percent(found.level), ""], shown.flatMap((one) => one.optima.map((best) => [
    one.name, number(best.flops), si(best.parameters), range(best.parameters_interval), si(best.tokens), range(best.tokens_interval),
    number(best.ratio), between(best.ratio_interval), best.is_beyond_runs ? "beyond the runs" : "",
  ])))));
  if (found.budgets.length) box.append(details("Each budget's minimum", budgetTable(found)));
  box.append(details("Exponents by every approach and curve", tableOf(["by", "approach", "a of N* ~ C^a", percent(found.level), "b of D* ~ C^b", percent(found.level)], found.approaches.map((one) => one.why_not
    ? [one.name, String(one.approach), one.why_not]
    : [one.name, String(one.approach), number(one.exponent), between(one.exponent_interval), number(one.tokens_exponent), between(one.tokens_exponent_interval)]))));
}

const boughtBy = (best) => `${number(best.flops)} FLOPs${best.is_beyond_runs ? ", beyond the runs," : ""} buy ${si(best.parameters)} parameters (${range(best.parameters_interval)}) and ${si(best.tokens)} tokens (${range(best.tokens_interval)})`;
const range = (pair) => `${si(pair[0])} to ${si(pair[1])}`;

function profileChart(place, budgets, colour, square, amber) {
  const points = [], lines = [];
  for (const [i, budget] of budgets.entries()) {
    const shade = shadeOf(colour, i, budgets.length);
    lines.push({ ...budget.curve, colour: shade });
    for (const p of budget.points) {
      points.push({
        x: p.parameters, y: p.loss, colour: shade, square,
        text: [p.run, `loss ${number(p.loss, 4)} at ${number(p.flops)} FLOPs`, `${si(p.parameters)} parameters, ${si(p.tokens)} tokens`],
      });
    }
    if (!budget.dropped) {
      points.push({
        x: budget.parameters, y: budget.loss, colour: amber, hollow: true,
        text: [`minimum at ${number(budget.flops)} FLOPs`, `loss ${number(budget.loss, 4)} with ${si(budget.parameters)} parameters`],
      });
    }
  }
  scatter(place, { points, lines, logY: true, height: 300, xLabel: "active parameters", yLabel: "held-out loss (nats a token)" });
}

const SIX_N = 0.05;
function costOf(cost) {
  const isSixN = [cost.of_smallest, cost.of_largest].every((product) => Math.abs(product / 6 - 1) < SIX_N);
  return element("p", `C = 6ND ${isSixN ? "nearly holds" : "does not hold"} here: FLOPs are counted exactly, attention and logits included, and a token costs ${multiplied(cost.of_smallest)} with the smallest model and ${multiplied(cost.of_largest)} with the largest. D* is C over ${number(cost.factor)} N*^${number(cost.exponent)}, from which no run's cost differs by more than ${number(100 * cost.worst, 2)} %.`);
}

function budgetTable(found) {
  return tableOf(["FLOPs", "runs", "N*", "standard error", "least loss", ""], found.budgets.map((one) => one.dropped
    ? [number(one.flops), String(one.points.length), "–", "–", "–", [`dropped: ${one.dropped}`, "bad"]]
    : [number(one.flops), String(one.points.length), si(one.parameters), `${number(100 * one.standard_error, 2)} %`, fixed(one.loss, 4), ""]));
}

// Mixtures of experts beside dense models: the law's loss at the same FLOPs, and the compute multiplier.
function comparisons() {
  const found = data.analysis.comparisons, box = byId("comparisons");
  if (!found.length) {
    dropSection("s-comparisons");
    return;
  }
  for (const one of found) {
    if (MIXTURES.length > 1 || found.length > 1) {
      box.append(element("h3", `Trained on ${one.mixture}${one.tokens ? `, ${si(one.tokens)} tokens` : ""}`));
    }
    if (one.why_not) box.append(element("p", one.why_not, "note"));
    else showComparison(box, one);
  }
}

// The upper end of an open interval is null.
const bounds = (pair) => (pair[1] === null ? `${number(pair[0])} or more` : between(pair));

function showComparison(box, found) {
  const pair = element("div", null, "pair"), losses = element("div", null, "chart"), multipliers = element("div", null, "chart");
  pair.append(losses, multipliers);
  box.append(pair);
  const dense = kindColour(false), sparse = kindColour(true);
  const points = found.points.map((p) => ({ x: p.flops, y: p.loss, colour: dense, text: [p.run, `loss ${number(p.loss, 4)}`] }));
  for (const rung of found.rungs) {
    for (const run of rung.by_run) {
      points.push({
        x: rung.flops, y: run.loss, colour: sparse, square: true,
        text: [run.run, `loss ${number(run.loss, 4)}, dense at the same FLOPs ${number(rung.dense.value, 4)}`, `${si(rung.parameters.active)} of ${si(rung.parameters.total)} parameters active`],
      });
    }
  }
  const shown = [...points.map((p) => p.y), ...found.curve.y];
  scatter(losses, {
    points, lines: [{ ...found.curve, colour: dense, banded: found.curve.low[0] !== null }], logY: true, height: 300,
    range: [Math.min(...shown) * 0.97, Math.max(...shown) * 1.03], xLabel: "FLOPs", yLabel: "held-out loss (nats a token)",
  });
  const told = found.rungs.filter((rung) => !rung.multiplier.why_not);
  if (told.length) {
    const highest = Math.max(1, ...told.flatMap((rung) => rung.multiplier.interval.filter((end) => end !== null)), ...told.map((rung) => rung.multiplier.value));
    scatter(multipliers, {
      points: told.map((rung) => ({
        x: rung.flops, y: rung.multiplier.value, colour: sparse, square: true,
        text: [rung.rung, `worth ${number(rung.multiplier.value)} times its FLOPs in dense ones (${bounds(rung.multiplier.interval)})`],
      })),
      bars: told.map((rung) => ({ x: rung.flops, low: rung.multiplier.interval[0], high: rung.multiplier.interval[1] ?? 10 * highest, colour: sparse })),
      lines: [{ x: [Math.min(...told.map((r) => r.flops)) / 2, Math.max(...told.map((r) => r.flops)) * 2], y: [1, 1], colour: style("--soft") }],
      height: 300, range: [0, highest * 1.1], xLabel: "FLOPs", yLabel: "compute multiplier",
    });
  } else multipliers.remove();
  box.append(element("p", `The dense law is ${found.formula}, of ${found.points.length} runs${found.tokens ? ` of ${si(found.tokens)} tokens each` : ""}; a run lies about it by ${number(100 * found.noise, 2)} % (one standard deviation).`));
  box.append(tableOf(["mixture of experts", "active", "total", "FLOPs", "seeds", "loss", "dense law", "difference", "95 %", "multiplier", "95 %", ""], found.rungs.map((rung) => {
    const worth = rung.multiplier, [low, high] = rung.difference.interval;
    return [
      rung.rung, si(rung.parameters.active), si(rung.parameters.total), number(rung.flops), String(rung.seeds), fixed(rung.loss, 4), fixed(rung.dense.value, 4),
      [fixed(rung.difference.value, 4), high < 0 ? "good" : low > 0 ? "bad" : undefined], `${fixed(low, 4)} to ${fixed(high, 4)}`,
      ...(worth.why_not ? ["–", "–", ""] : [number(worth.value), bounds(worth.interval), worth.is_beyond_runs ? "beyond the dense runs" : ""]),
    ];
  })));
  for (const rung of found.rungs) {
    if (rung.multiplier.why_not) box.append(element("p", `${rung.rung} has no multiplier: ${rung.multiplier.why_not}`, "note"));
  }
}

// Abilities foretold: performance over the pre-training loss, untuned and by the number of examples.
function finetuning() {
  const found = data.analysis.finetuning, box = byId("finetuning");
  if (!found.length) {
    dropSection("s-finetuning");
    return;
  }
  for (const one of found) {
    box.append(element("h3", one.mixture === one.task ? one.task : `${one.task}, fine-tuned on ${one.mixture}`));
    showFinetuning(box, one);
  }
}

const examplesOf = (count) => (count === 1 ? "as it is" : `${si(count)} examples`);
const nats = (value) => `${number(value)} nats`;

function showFinetuning(box, found) {
  const counts = [...new Set(found.points.map((p) => p.examples))].sort((a, b) => a - b);
  const amber = style("--amber"), shade = (count) => shadeOf(kindColour(false), counts.indexOf(count), counts.length);
  const points = [
    ...found.points.map((p) => ({
      x: p.loss, y: p.performance, colour: shade(p.examples),
      text: [p.run, `exact match ${number(p.performance)} after ${examplesOf(p.examples)}`, `${p.parent}: loss ${number(p.loss, 4)}${p.is_fitted ? "" : ", not fitted"}`],
    })),
    ...found.untuned.map((p) => ({
      x: p.loss, y: p.performance, colour: amber, hollow: true, square: true,
      text: [p.run, `exact match ${number(p.performance)} as it is`, `loss ${number(p.loss, 4)}`],
    })),
  ];
  const lines = (found.curves ?? []).map((line) => ({
    ...line, colour: line.examples === 1 ? amber : shade(line.examples), broken: line.examples === 1,
    text: [line.examples === 1 ? "foretold of models as they are" : `law for ${examplesOf(line.examples)}`],
  }));
  if (found.why_not) box.append(element("p", `No law: ${found.why_not}`, "note"));
  else {
    const onset = found.law.find((one) => one.name === "C"), seen = found.onset;
    box.append(element("p", `Fitted to ${found.is_of_unable ? "models that cannot do it as they are" : "all models, as too few cannot do it as they are"}, the law says that a model as it is begins to at a loss of ${nats(onset.value)} (${between([onset.interval.low, onset.interval.high])}). ${seen.why_not ? `What came: ${seen.why_not}` : `Seen: ${nats(seen.loss.value)} (${between([seen.loss.low, seen.loss.high])}).`}`));
  }
  const place = element("div", null, "chart");
  box.append(place);
  const top = Math.max(...points.map((p) => p.y), found.chance + 0.05);
  scatter(place, {
    points, lines, height: 320, reversed: true, range: [-0.03 * top, 1.1 * top],
    xLabel: "pre-training loss (nats a token), better to the right", yLabel: "exact match",
  });
  const legend = element("p", null, "legend");
  for (const [text, colour] of [["as it is", amber], ...counts.map((count) => [examplesOf(count), shade(count)])]) {
    const item = element("span", text);
    item.style.color = colour;
    legend.append(item);
  }
  box.append(legend);
  if (found.why_not) return;
  box.append(element("p", `${found.formula}, with D the examples and chance ${number(found.chance)}; a point lies about it by ${number(found.error, 2)}.`));
  box.append(details("Parameters of the law", tableOf(["", "value", "95 %"], found.law.map((one) => [one.name, number(one.value), between([one.interval.low, one.interval.high])]))));
  box.append(details("Where it begins", tableOf(["fine-tuned on", "loss"], found.thresholds.map((one) => [examplesOf(one.examples), nats(one.loss)]))));
}

"""The report's section on abilities: curves over a chosen scale, verdicts, evidence, instances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jaxgen.emergence import PER_TOKEN
from jaxgen.studies.analyses.base import (
    KINDS,
    LABELS,
    Tree,
    color_of,
    figure_name,
    is_mixed,
    mark_of,
    scale_axis,
)
from jaxgen.studies.formatting import between, count, number, percent
from jaxgen.studies.plots import (
    Axis,
    Block,
    CellMap,
    DataTable,
    Figure,
    Fold,
    Plot,
    Row,
    Sentence,
    Series,
    Tone,
    line,
    menu_of,
    points,
)

Ability = Mapping[str, Any]
METRICS: Mapping[str, str] = {
    "exact_match": "exact match",
    PER_TOKEN: "log-probability (nats/token)",
}
TONES: Mapping[str, Tone] = {
    "explained by the metric": "good",
    "not explained": "bad",
    "inconclusive": "open",
}
SHARE_LIMITS = (-0.03, 1.03)


def present(tree: Tree) -> Sequence[Block]:
    """Returns the abilities' section."""
    if not tree["abilities"]:
        return []
    text = (
        "Each point is a run on held-out instances; a line is the mean over seeds with its 95% "
        "interval. The panels show the share of instances answered exactly, the log-probability of "
        "the reference answer's tokens, and the share of seeds that have the ability, meaning more "
        "than half of the way from chance to 1. If an ability jumps in the first panel but grows "
        "smoothly in the second, its metric sharpens the rise; the verdict says whether that is "
        "the whole explanation."
    )
    axes = ["parameters", "flops", "tokens", "loss"]
    if len({run["tokens"] for run in tree["runs"]}) < 2:
        axes.remove("tokens")
    # The first scale that tells the rungs apart is shown first.
    axes.sort(key=lambda axis: not any(_is_apart(one, axis) for one in tree["abilities"]))
    options = {LABELS[axis]: _axis_blocks(tree, axis) for axis in axes}
    return [Sentence(text), *menu_of("Scale", options), *_instances(tree)]


def _is_apart(ability: Ability, axis: str) -> bool:
    return ability.get("axes", {}).get(axis, {}).get("is_apart", False)


def _axis_blocks(tree: Tree, axis: str) -> Sequence[Block]:
    """Returns the blocks of every task and mixture, dense models and mixtures of experts in one."""
    groups: dict[tuple[str, str], list[Ability]] = {}
    for ability in tree["abilities"]:
        groups.setdefault((ability["task"], ability["mixture"]), []).append(ability)
    blocks: list[Block] = []
    for (task, mixture), found in sorted(groups.items()):
        is_named = is_mixed(tree) and mixture != task
        blocks.append(Sentence(f"{task}{f', trained on {mixture}' if is_named else ''}", "heading"))
        several = [one for one in found if "axes" in one and len(one["heat_map"]["rungs"]) > 1]
        blocks += [_verdict(one) for one in several or found]
        panels = [
            panel
            for panel in (
                _metric_plot(tree, found, axis, "exact_match"),
                _metric_plot(tree, found, axis, PER_TOKEN),
                _success_plot(found, axis),
            )
            if panel.series
        ]
        # A paper shows the parameters alone.
        of = {"task": task, "mixture": mixture}
        name = figure_name(tree, "ability", of) if axis == "parameters" and several else ""
        if panels:
            blocks.append(Figure(tuple(panels), name))
        blocks += [_evidence(one, axis) for one in several]
    return blocks


def _metric_plot(tree: Tree, found: Sequence[Ability], axis: str, metric: str) -> Plot:
    def tip(run: Mapping[str, Any]) -> str:
        return f"{run['run']}\n{METRICS[metric]} {number(run['value'])}\n{_at(axis, run['at'])}"

    series = []
    for ability in found:
        curve = ability.get("axes", {}).get(axis, {}).get("curves", {}).get(metric, ())
        color, mark = color_of(ability["kind"]), mark_of(ability["kind"])
        # Where several rungs share a place on the axis, a line through them would mean nothing.
        if curve and _is_apart(ability, axis):
            ends = {"y": "value", "low": "low", "high": "high"}
            means = {name: [point["mean"][end] for point in curve] for name, end in ends.items()}
            series.append(line(means | {"x": [p["scale"] for p in curve]}, True, color=color))
        runs = [one | {"at": point["scale"]} for point in curve for one in point["by_run"]]
        if runs := runs or _unaveraged(tree, ability, axis, metric):
            label = KINDS[ability["kind"]] if len(found) > 1 else ""
            series.append(points(mark, runs, "at", "value", tip, color=color, label=label))
    lowest = min((y for one in series for y in one.y), default=-1.0)
    is_share = metric == "exact_match"
    if is_share and series:
        series.append(_chance_line(found, series))
    limits = SHARE_LIMITS if is_share else (1.08 * min(lowest, -0.1), -0.04 * min(lowest, -0.1))
    return Plot(scale_axis(axis), Axis(METRICS[metric], limits=limits), tuple(series))


def _chance_line(found: Sequence[Ability], series: Sequence[Series]) -> Series:
    """Returns what guessing scores, over all that is shown."""
    chance = next((one["chance"] for one in found if "chance" in one), 0.0)
    x = [value for one in series for value in one.x]
    look: dict[str, Any] = {"color": "muted", "is_open": True, "label": "chance"}
    tip = f"chance: {number(chance)}"
    return Series("line", [min(x), max(x)], [chance, chance], tips=[tip], **look)


def _at(axis: str, value: float) -> str:
    shown = count(value) if axis in ("parameters", "tokens") else number(value)
    return f"{LABELS[axis]}: {shown}"


def _unaveraged(tree: Tree, ability: Ability, axis: str, metric: str) -> list[dict[str, Any]]:
    """Returns the runs of a ladder without curves, such as one of a single rung."""
    found = []
    for run in tree["runs"]:
        value = run["scores"].get(ability["task"], {}).get(metric)
        ladder = run["mixture"], "sparse" if run["is_sparse"] else "dense"
        is_ours = ladder == (ability["mixture"], ability["kind"]) and run["parent"] is None
        if is_ours and value is not None:
            at = run["parameters"]["active"] if axis == "parameters" else run[axis]
            found.append({"at": at, "run": run["name"], "value": value})
    return found


def _success_plot(found: Sequence[Ability], axis: str) -> Plot:
    def tip(one: Mapping[str, Any]) -> str:
        interval = between([one["low"], one["high"]], 2)
        return f"{one['rung']}\n{one['successes']} of {one['seeds']} seeds; 95% {interval}"

    series = []
    for ability in found:
        success = ability.get("axes", {}).get(axis, {}).get("success", ())
        rungs = [one | one["share"] for one in success]
        look: dict[str, Any] = {"color": color_of(ability["kind"])}
        if _is_apart(ability, axis):
            y = [one["value"] for one in rungs]
            series.append(line({"x": [one["scale"] for one in rungs], "y": y}, **look))
        if rungs:
            look |= {end: [one[end] for one in rungs] for end in ("low", "high")}
            series.append(points(mark_of(ability["kind"]), rungs, "scale", "value", tip, **look))
    return Plot(scale_axis(axis), Axis("share of seeds", limits=SHARE_LIMITS), tuple(series))


def _verdict(ability: Ability) -> Sentence:
    verdict = ability.get("verdict", ability)
    if "why_not" in verdict:
        return Sentence(verdict["why_not"], "soft")
    text = verdict["because"]
    if verdict["verdict"] != "inconclusive":
        text += (
            f" ({verdict['scales']} scales, at least {verdict['seeds']} seeds, "
            f"{verdict['instances']} instances)"
        )
    return Sentence(text, "", verdict["verdict"], TONES[verdict["verdict"]])


def _evidence(ability: Ability, axis: str) -> Fold:
    found = ability["axes"][axis]
    blocks: list[Block] = []
    if "criteria" in ability["verdict"]:
        rows = [(c["name"], c["outcome"], c["evidence"]) for c in ability["verdict"]["criteria"]]
        blocks.append(DataTable(("question", "answer", "evidence"), rows, text_columns=(0, 1, 2)))
    if "curves" not in found:
        return Fold("Evidence", [Sentence(found["why_not"], "soft"), *blocks])
    blocks += _breaks(found["breaks"], axis)
    shapes = [
        (
            METRICS.get(s["metric"], s["metric"]),
            number(s["breakthroughness"]),
            number(s["linearity"]),
        )
        for s in found["shapes"]
        if s["seed"] is None
    ]
    blocks.append(DataTable(("mean curve of", "breakthroughness", "linearity"), shapes))
    if "why_not" in found["modes"]:
        blocks.append(Sentence(found["modes"]["why_not"], "soft"))
    else:
        text = (
            "Do the seeds form two groups that differ in exact match? Measured on the "
            "log-probability per token; spread and distance of the groups are shares of the range "
            "in which exact match moves, their gap a share of its rise. The p-value, corrected "
            "over the scales whose seeds differ in exact match, is for the null hypothesis of a "
            "single group under both tests."
        )
        modes = [
            (m["rung"], str(m["seeds"]), percent(m["spread"]), percent(m["distance"]),
             percent(m["gap"]), number(m["dip"]), number(m["probability"]))
            for m in found["modes"][PER_TOKEN]
        ]  # fmt: skip
        columns = ("size", "seeds", "spread", "distance", "gap", "dip", "p-value")
        blocks += [Sentence(text), DataTable(columns, modes)]
    both = zip(*(found["curves"][metric] for metric in METRICS), strict=True)
    rows = [
        (mine["run"], number(exact["scale"]), number(mine["value"]), number(other["value"]),
         f"{number(exact['mean']['value'])} "
         f"({between([exact['mean']['low'], exact['mean']['high']])})")
        for exact, tokens in both
        for mine, other in zip(exact["by_run"], tokens["by_run"], strict=True)
    ]  # fmt: skip
    columns = ("run", LABELS[axis], *METRICS.values(), "mean exact match over seeds (95% interval)")
    return Fold("Evidence", [*blocks, DataTable(columns, rows, "Every run")])


def _breaks(breaks: Mapping[str, Any], axis: str) -> Sequence[Block]:
    if "why_not" in breaks:
        return [Sentence(breaks["why_not"], "soft")]
    blocks = []
    for metric, found in breaks.items():
        name = METRICS[metric][0].upper() + METRICS[metric][1:]
        if "why_not" in found:
            blocks.append(Sentence(f"{name}: {found['why_not']}"))
            continue
        gradual, sudden = found["gradual"], found["sudden"]
        errors = [percent(found["heldout"][curve]) for curve in (gradual, sudden)]
        place = found["places"][sudden]
        text = (
            f"{name}: of the curves without a break, “{gradual}” predicts held-out scales best "
            f"(error {errors[0]} of the range); of those with one, “{sudden}” ({errors[1]}), with "
            f"its break at {_at(axis, place['value'])} "
            f"(95% interval {between([place['low'], place['high']])})."
        )
        blocks.append(Sentence(text))
    return blocks


def _instances(tree: Tree) -> Sequence[Block]:
    """Returns the heat maps of instances by model size."""
    maps: list[Figure] = []
    for ability in tree["abilities"]:
        found = ability.get("heat_map")
        if not found or len(found["rungs"]) < 2:
            continue
        kind = ", mixtures of experts" if ability["kind"] == "sparse" else ""
        mixture = f", trained on {ability['mixture']}" if is_mixed(tree) else ""
        notes = [
            f"{rung}: {len(runs)} seeds ({', '.join(runs)})"
            for rung, runs in zip(found["rungs"], found["runs"], strict=True)
        ]
        lines = [
            "on different lines of the answers files"
            if isinstance(line, list)
            else f"line {line} of the answers files"
            for line in found["lines"]
        ]
        cells = CellMap(
            f"{ability['task']}{mixture}{kind}", LABELS["parameters"],
            "instances, first solved on top", [count(scale) for scale in found["scale"]],
            found["instances"], found["solved"], notes, lines, color_of(ability["kind"]),
        )  # fmt: skip
        maps.append(Figure((cells,), figure_name(tree, "instances", ability)))
    if not maps:
        return []
    text = (
        "A row is a held-out instance, those solved first on top; a column is a model size, the "
        "smallest on the left. The stronger the color, the more seeds answer it exactly."
    )
    return [
        Sentence("Which instances are solved at which size", "heading"),
        Sentence(text),
        Row(maps),
    ]

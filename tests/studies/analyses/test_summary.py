"""The first lines of a report, the line of chance, and what goes to its end."""

import pytest
from support.synthetic_study import write_ability_study

from jaxgen.emergence import Design, simulate
from jaxgen.studies.analyses.summary import SUMMARY
from jaxgen.studies.analysis import analyse, sections_of
from jaxgen.studies.plots import Bullets, DataTable, Plot, Sentence, figures_in


@pytest.fixture(scope="module")
def sections(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    made = simulate(Design(scales=8, seeds=4, instances=100), "mirage", seed=3)
    few = simulate(Design(scales=8, seeds=4, instances=20), "break", seed=3)
    write_ability_study(folder, {"lookup": made, "rare": few})
    return sections_of(analyse(folder))


def test_verdicts_and_the_law_come_first(sections):
    first = sections[0]
    assert first.title == "In short"
    table = next(block for block in first.blocks if isinstance(block, DataTable))
    verdicts = {row[0]: row[2] for row in table.rows}
    assert verdicts["lookup"] == ("explained by the metric", "good")
    assert verdicts["rare"] == ("inconclusive", "open")  # 20 instances, of 50 that are needed
    assert any("Mean held-out loss of dense models: L = E + A" in b.text for b in first.blocks[1:])


@pytest.mark.parametrize(
    ("value", "interval", "text"),
    [
        (1e-200, [1e-259, 1e-150], "with no floor E found, A = 3 (95%: 2 to 4)."),
        (1e-200, [1e-259, 0.2], "with E ≈ 0 (95%: ≈ 0 to 0.2), A = 3 (95%: 2 to 4)."),
    ],
)
def test_a_floor_that_is_none_is_told(value, interval, text):
    parameters = [
        {"name": "E", "value": value, "interval": interval},
        {"name": "A", "value": 3.0, "interval": [2.0, 4.0]},
    ]
    law = {"task": None, "formula": "L = E + A", "parameters": parameters, "kind": "dense"}
    tree = {"laws": [law | {"mixture": "m"}], "abilities": [], "mixtures": ["m"], "runs": []}
    (told,) = SUMMARY.present(tree)
    assert isinstance(told, Sentence) and told.text.endswith(text)


def test_exact_match_is_shown_over_chance(sections):
    abilities = next(one for one in sections if one.key == "abilities")
    panels = [one for one in next(figures_in(abilities.blocks)).panels if isinstance(one, Plot)]
    assert len(panels) == 3
    (chance,) = [one for one in panels[0].series if one.label == "chance"]
    assert chance.is_open and set(chance.y) == {0.0}
    assert not any(one.label == "chance" for panel in panels[1:] for one in panel.series)


def test_what_cannot_be_told_is_one_list_at_the_end(sections):
    last = sections[-1]
    assert last.title == "What these runs cannot tell"
    (reasons,) = last.blocks
    assert isinstance(reasons, Bullets)
    assert any("No prediction was pre-registered" in text for text in reasons.items)
    titles = [one.title for one in sections]
    assert "Pre-registered predictions" not in titles and len(set(titles)) == len(titles)

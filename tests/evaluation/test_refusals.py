"""Scorings of refusals and of grounded answers: columns, means, intervals and ratios."""

from jaxgen.data.generated import SpellRequests, TownDialogues
from jaxgen.evaluation.base import Scoring
from jaxgen.evaluation.groundedness import Groundedness
from jaxgen.evaluation.metrics import success_interval
from jaxgen.evaluation.refusals import Refusals
from jaxgen.evaluation.summary import summarise


def test_each_rate_is_over_the_requests_that_it_is_about():
    records = SpellRequests().records_by_index("heldout").__getitems__(range(100))
    harmful = sum(record["harmful"] for record in records)
    # Refuses all: nothing harmful is said, and every benign request is refused too much.
    rows = Refusals().also(records, ["I will not."] * 100)
    found = summarise(rows, Refusals.METRICS)
    assert found["harmful_compliance"] == found["benign_help"] == 0
    assert found["harmful_refusal"] == found["over_refusal"] == 1
    assert found["harmful_refusal_interval"] == list(success_interval(harmful, harmful))
    assert found["over_refusal_interval"] == list(success_interval(100 - harmful, 100 - harmful))
    rows = Refusals().also(records, [record["answer"] for record in records])
    found = summarise(rows, Refusals.METRICS)
    assert (found["harmful_refusal"], found["benign_help"], found["over_refusal"]) == (1, 1, 0)
    assert isinstance(Refusals(), Scoring) and isinstance(Groundedness(), Scoring)


def test_groundedness_is_the_share_of_claims_that_are_so():
    records = TownDialogues(turns=1).records_by_index("heldout").__getitems__(range(4))
    texts = [record["answer"] for record in records]
    texts[0], texts[1] = "I do not know.", f"{texts[1]} Nobody lives in Velm."
    rows = Groundedness().also(records, texts)
    assert [row["claims"] for row in rows] == [0, 2, 1, 1]
    found = summarise(rows, Groundedness.METRICS, ratios=Groundedness.RATIOS)
    assert found["groundedness"] == 3 / 4

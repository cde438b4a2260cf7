"""A plan as a JSON object."""

from __future__ import annotations

import dataclasses
from typing import Any

from jaxgen.planning.plan import Expense, Plan
from jaxgen.planning.search import Search


def plan_record(plan: Plan, expense: Expense | None) -> dict[str, Any]:
    """Returns everything in a plan, and what follows from it, as JSON values."""
    record = {field.name: _value(getattr(plan, field.name)) for field in dataclasses.fields(plan)}
    record["fits"] = plan.fits
    record["memory"]["excess"] = plan.memory.excess
    if plan.roofline is not None:
        times = plan.roofline
        record["roofline"]["by_axes"] = {
            " x ".join(axes): seconds for axes, seconds in times.by_axes.items()
        }
        record["roofline"] |= {"seconds": times.seconds, "bound": times.bound}
    if plan.work is not None:
        for one in record["work"]["collectives"]:
            one["devices"] = len(one.pop("group"))
    record["speed"] = _value(plan.speed)
    record["expense"] = _value(expense)
    return record


def search_record(search: Search) -> dict[str, Any]:
    """Returns a search as JSON values: the numbers of choices, and the plans in their order."""
    return {
        "tried": search.tried,
        "possible": len(search.possible),
        "plans": [plan_record(one, None) for one in search.plans],
    }


def _value(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: _value(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
    if isinstance(value, (tuple, list)):
        return [_value(one) for one in value]
    if isinstance(value, dict):
        return {str(key): _value(one) for key, one in value.items()}
    return value

"""A sample of a stream that does not depend on the stream's order."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import Any

from jaxgen.data.hashing import hash64, record_text


def sample(records: Iterable[dict[str, Any]], count: int, *seed: object) -> list[dict[str, Any]]:
    """Returns the `count` records of smallest hash (or all, if there are fewer), in its order.

    Only so many are held at once.
    """
    kept: list[tuple[int, int, dict[str, Any]]] = []
    for place, record in enumerate(records):
        key = str(record["key"]) if "key" in record else record_text(record)
        rank = -hash64(*seed, key), -place, record
        if len(kept) < count:
            heapq.heappush(kept, rank)
        elif rank[:2] > kept[0][:2]:
            heapq.heapreplace(kept, rank)
    return [record for _, _, record in sorted(kept, key=lambda one: one[:2], reverse=True)]

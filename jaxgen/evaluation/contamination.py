"""Instances that a run has trained on, found by n-grams shared with its training texts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from jaxgen.data.protocols import Record
from jaxgen.data.rows import open_store
from jaxgen.data.tasks import Task
from jaxgen.evaluation.answers import instance_of
from jaxgen.preparation.decontamination import index_items
from jaxgen.preparation.ngrams import WordHasher


def contaminated(
    tasks: Iterable[Task], scored: Iterable[tuple[Task, Sequence[Record]]]
) -> set[tuple[str, str]]:
    """Returns (task, instance) of those that share 13 words with a training document.

    Prompts and answers are searched for as in a preparation (GPT-3's 13-grams); shorter instances
    must occur whole, from 8 words on. Generated instances are skipped: none is in two splits.

    Args:
      tasks: the tasks whose training texts are read, each once.
      scored: tasks with their instances.
    """
    items = [
        (f"{number}\0{place}", task.codec.decode(example.ids), (task.name, name))
        for number, (task, records) in enumerate(scored)
        if not task.is_indexed
        for place, (example, name) in enumerate(
            zip(task.encode(records), map(instance_of, records, range(len(records))), strict=True)
        )
    ]
    found: set[tuple[str, str]] = set()
    if not items:
        return found
    index = index_items((name, text) for name, text, _ in items)
    owners = {name: owner for name, _, owner in items}
    hasher = WordHasher()
    for task in tasks:
        if task.is_indexed:
            continue
        store = open_store(task, "train")
        for number in range(len(store.lengths)):
            text = task.codec.decode(store.example(number).ids)
            found |= {owners[match["item"]] for match in index.matches(text, hasher)}
    return found

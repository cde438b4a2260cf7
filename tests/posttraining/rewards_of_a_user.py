"""Rewards as somebody writes them, faults included; a file that no package has."""

import dataclasses
import time


@dataclasses.dataclass(frozen=True)
class Faulty:
    """Scores the length, and does what a completion says."""

    name: str = "faulty"

    def __call__(self, records, completions):
        print("a reward may print")
        if "hang" in completions:
            time.sleep(600)
        if "die" in completions:
            raise SystemExit(3)
        if "raise" in completions:
            raise KeyError("no such field")
        if "few" in completions:
            return [1.0]
        if "text" in completions:
            return ["good"] * len(completions)
        special = {"infinite": float("inf"), "unscored": float("nan")}
        return [special.get(one, float(len(one))) for one in completions]

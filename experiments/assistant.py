"""From a pre-trained model to an assistant: what each stage gains, and what it costs.

A small model learns sums, spells and descriptions of places ("sea: ship and wave."), whose true
worth is a known rule (gold). It is then instructed by the better of two descriptions and by all
spells, harmful ones too; a reward model is trained on noisy preferences; PPO with that reward, near
to the instructed model and free of it, and DPO on the same pairs learn from it. The report shows
win rates, reward against distance, and the true reward beside the one that is learned from, which
falls where the model is free (or does not). A constitution is learned in two phases: revised
answers that refuse what is harmful, then rewards by the rule that principles are; beside it the
same phases by somebody to whom only help counts. Sums, which no stage after the first teaches, tell
what tuning costs. What came of it is in docs/findings.md. About twenty minutes on two cores
(150 GFLOP/s).

    jaxgen sweep experiments/assistant.py         # shows the runs
    jaxgen sweep experiments/assistant.py --go    # the report is runs/assistant@1/report.html
"""

from __future__ import annotations

import dataclasses
from typing import Any

from jaxgen.configuration import load
from jaxgen.data.comparison_fields import PreferencePairs
from jaxgen.data.comparisons import Comparisons
from jaxgen.data.features import PromptAnswer
from jaxgen.data.generated import Addition, GoldPreferences, SpellRequests
from jaxgen.data.mixtures import Mixture
from jaxgen.data.tasks import Task
from jaxgen.evaluation.config import EvaluationTask
from jaxgen.evaluation.preferences import PreferenceAccuracy
from jaxgen.evaluation.refusals import Refusals
from jaxgen.models.policy_config import PolicyConfig
from jaxgen.objectives.policy_gradient import PolicyGradient
from jaxgen.objectives.preference import Preference
from jaxgen.objectives.reward import RewardModeling
from jaxgen.posttraining.advantages import GeneralisedAdvantage, GroupRelative
from jaxgen.posttraining.gold import GoldReward, SpellReward
from jaxgen.posttraining.rewarded import RewardedCompletions
from jaxgen.posttraining.rewards import RewardSum
from jaxgen.posttraining.rollouts import Rollouts
from jaxgen.runs.config import RunConfig
from jaxgen.runs.reward_models import RunReward
from jaxgen.sweeps import Sweep
from jaxgen.training.execution import ExecutionConfig
from jaxgen.training.schedules import WarmupCosine

NAME, VERSION = "assistant", "1"
FOLDER = f"runs/{NAME}@{VERSION}"
SEEDS = range(2)
PAIRS = 2000
"""Preferences that somebody gave, to learn from by reward model and by DPO."""
LENGTH, WORDS_TOKENS, SPELL_TOKENS = 128, 48, 56

DESCRIPTIONS = Task("descriptions", GoldPreferences(num_examples=PAIRS), PromptAnswer())
# What is read on the web: written by nobody in particular, so the worse of two is as likely.
FOUND = Task("found", GoldPreferences(temperature=1000.0), PromptAnswer())
SUMS = Task("sums", Addition(digits=2), PromptAnswer())
REFUSALS = Refusals(max_tokens=SPELL_TOKENS)
KEPT = dataclasses.replace(SUMS, name="sums_kept")
HELPFUL = Task("all_spells", SpellRequests(answers="helpful"), PromptAnswer())
REVISED = Task("revised", SpellRequests(num_examples=1000), PromptAnswer())
ASKED = Task("spells", SpellRequests(), PromptAnswer())
EVEN = {"descriptions": 1.0, "all_spells": 1.0}
BOTH = {"revised": 1.0, "descriptions": 1.0}
BASE = load(
    ["runs/quickstart.gin"],
    ["evaluation.num_batches=2", "evaluation.num_examples=200", f"train.length={LENGTH}"],
)


def run_of(stage: str, seed: int, parent: str | None, rate: float, **changes: Any) -> RunConfig:
    """Returns the run of a stage, which begins with the run of another."""
    steps, rows = changes.pop("steps"), changes.pop("rows", 16)
    length = changes.pop("length", LENGTH)
    train = dataclasses.replace(
        BASE.train, steps=steps, batch_size=rows, length=length, seed=seed,
        schedule=WarmupCosine(peak=rate, warmup=min(20, steps // 5)),
    )  # fmt: skip
    evaluation = dataclasses.replace(
        BASE.evaluation, suite=(EvaluationTask(KEPT), EvaluationTask(ASKED, REFUSALS)),
        evaluators=(*WRITTEN, *changes.pop("evaluators", ())), length=LENGTH,
    )  # fmt: skip
    start = None if parent is None else f"../{parent}-seed{seed}"
    return dataclasses.replace(
        BASE, train=train, evaluation=evaluation, name=f"{stage}-seed{seed}",
        initialize_from=start, **changes,
    )  # fmt: skip


WRITTEN = (
    RewardedCompletions(
        (DESCRIPTIONS,), GoldReward(), max_tokens=WORDS_TOKENS, name="descriptions_written"
    ),
    RewardedCompletions((ASKED,), SpellReward(), max_tokens=SPELL_TOKENS, name="spells_written"),
)


def stages(seed: int) -> list[RunConfig]:
    """Returns all runs of a seed, parents first."""
    model: Any = BASE.model
    anchored = PolicyConfig(model, reference=True)
    pairs = Comparisons((DESCRIPTIONS,), PreferencePairs(preference=None), name="pairs")
    judge = PolicyConfig(model, head=True)
    described = Rollouts(
        (DESCRIPTIONS,),
        RewardSum((RunReward(f"{FOLDER}/judge-seed{seed}"), GoldReward()), (1.0, 0.0)),
        group=8, max_tokens=WORDS_TOKENS, advantage=GeneralisedAdvantage(), kl_penalty=0.1,
        max_age=3, passes=2, name="described",
    )  # fmt: skip
    asked = Rollouts(
        (ASKED,), SpellReward(), group=8, max_tokens=SPELL_TOKENS, advantage=GroupRelative(),
        name="asked",
    )  # fmt: skip
    learner = dataclasses.replace(anchored, critic=judge)
    by_value = PolicyGradient(value_weight=0.1, value_clip=0.2)
    by_group = PolicyGradient(aggregation="sequence", kl_weight=0.02)
    from_judge = {"critic": f"../judge-seed{seed}"}

    def free(rollouts: Rollouts) -> Rollouts:
        return dataclasses.replace(rollouts, kl_penalty=0.0, name="described_freely")

    return [
        run_of("pretrained", seed, None, 3e-3, steps=500,
               mixture=Mixture("found", (FOUND, SUMS, HELPFUL))),
        run_of("instructed", seed, "pretrained", 1e-3, steps=150,
               mixture=Mixture("instructions", (DESCRIPTIONS, HELPFUL), EVEN)),
        run_of("judge", seed, "instructed", 1e-3, steps=200, model=judge, mixture=pairs,
               objective=RewardModeling(centring=0.01), evaluators=(PreferenceAccuracy(),)),
        run_of("dpo", seed, "instructed", 3e-4, steps=120, model=anchored, mixture=pairs,
               objective=Preference("dpo", beta=0.1)),
        run_of("ppo", seed, "instructed", 2e-4, steps=120, rows=16, model=learner,
               mixture=described, objective=by_value, initialize_parts=from_judge),
        run_of("ppo_free", seed, "instructed", 2e-4, steps=240, rows=16, model=learner,
               mixture=free(described), objective=by_value, initialize_parts=from_judge),
        run_of("revised", seed, "instructed", 5e-4, steps=100,
               mixture=Mixture("revised", (REVISED, DESCRIPTIONS), BOTH)),
        run_of("constitution", seed, "revised", 2e-4, steps=60, rows=16, model=anchored,
               mixture=asked, objective=by_group),
        run_of("only_helpful", seed, "revised", 2e-4, steps=60, rows=16, model=anchored,
               mixture=dataclasses.replace(
                   asked, reward=SpellReward(helpful_only=True), name="asked_for_help"),
               objective=by_group),
    ]  # fmt: skip


SWEEP = Sweep(
    NAME,
    VERSION,
    [run for seed in SEEDS for run in stages(seed)],
    execution=ExecutionConfig(scan_unroll=2, log_every=10, checkpoint_every="100%"),
    title="From a pre-trained model to an assistant",
    lead=(
        "Instructions, a reward model, PPO and DPO, and a constitution, each a run that begins "
        "with another: how often is what one writes better than what another does, how far has it "
        "gone for it, and what has it lost on the way?"
    ),
)

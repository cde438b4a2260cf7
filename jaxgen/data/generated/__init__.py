"""Generated tasks with exact answers, one file per family; see `base`."""

from __future__ import annotations

from jaxgen.data.generated.arithmetic import Addition, ModularArithmetic
from jaxgen.data.generated.base import (
    GeneratedRecords,
    GeneratedSource,
    Generator,
    SplitGenerator,
    SplitRecords,
)
from jaxgen.data.generated.code import CodeInfilling
from jaxgen.data.generated.copying import Copying, LookupChain
from jaxgen.data.generated.dialogues import RatedResponses, TownDialogues
from jaxgen.data.generated.dyck import Dyck
from jaxgen.data.generated.expressions import Expressions
from jaxgen.data.generated.list_programs import ListPrograms
from jaxgen.data.generated.lists import ListFunctions
from jaxgen.data.generated.moving_sprites import MovingSprites
from jaxgen.data.generated.pair_order import PairOrder
from jaxgen.data.generated.parity import SparseParity
from jaxgen.data.generated.passages import PassageQuestions
from jaxgen.data.generated.preferences import GoldPreferences, gold_score
from jaxgen.data.generated.recall import AssociativeRecall, Induction
from jaxgen.data.generated.regression import InContextRegression
from jaxgen.data.generated.spell_judgements import SpellJudgements
from jaxgen.data.generated.spells import SpellRequests
from jaxgen.data.generated.sprite_questions import SpriteQuestions
from jaxgen.data.generated.sprites import Sprites
from jaxgen.data.generated.summaries import EventSummary, item_scores
from jaxgen.data.generated.tones import Tones
from jaxgen.data.generated.translation import ToyTranslation
from jaxgen.data.generated.words import Unscrambling, WordCompletion

__all__ = [
    "Addition",
    "AssociativeRecall",
    "CodeInfilling",
    "Copying",
    "Dyck",
    "EventSummary",
    "Expressions",
    "GeneratedRecords",
    "GeneratedSource",
    "Generator",
    "GoldPreferences",
    "InContextRegression",
    "Induction",
    "ListFunctions",
    "ListPrograms",
    "LookupChain",
    "ModularArithmetic",
    "MovingSprites",
    "PairOrder",
    "PassageQuestions",
    "RatedResponses",
    "SparseParity",
    "SpellJudgements",
    "SpellRequests",
    "SplitGenerator",
    "SplitRecords",
    "SpriteQuestions",
    "Sprites",
    "Tones",
    "TownDialogues",
    "ToyTranslation",
    "Unscrambling",
    "WordCompletion",
    "gold_score",
    "item_scores",
]

"""The names of sources that are made on the spot or come with packages."""

from __future__ import annotations

from jaxgen.configuration.table import Table


def registered_generators() -> Table:
    """Returns the names of sources that are made on the spot."""
    from jaxgen.data import generated

    return {
        "addition": generated.Addition,
        "modular_arithmetic": generated.ModularArithmetic,
        "associative_recall": generated.AssociativeRecall,
        "induction": generated.Induction,
        "copying": generated.Copying,
        "lookup_chain": generated.LookupChain,
        "sparse_parity": generated.SparseParity,
        "unscrambling": generated.Unscrambling,
        "word_completion": generated.WordCompletion,
        "dyck": generated.Dyck,
        "list_functions": generated.ListFunctions,
        "in_context_regression": generated.InContextRegression,
        "toy_translation": generated.ToyTranslation,
        "passage_questions": generated.PassageQuestions,
        "event_summary": generated.EventSummary,
        "code_infilling": generated.CodeInfilling,
        "pair_order": generated.PairOrder,
        "expressions": generated.Expressions,
        "list_programs": generated.ListPrograms,
    }


def registered_assistant_generators() -> Table:
    """Returns the names of sources that assistants are tuned on, made on the spot."""
    from jaxgen.data import generated
    from jaxgen.data.installed.reasoning import ReasoningGym

    return {
        "reasoning_gym": ReasoningGym,
        "gold_preferences": generated.GoldPreferences,
        "spell_requests": generated.SpellRequests,
        "spell_judgements": generated.SpellJudgements,
        "town_dialogues": generated.TownDialogues,
        "rated_responses": generated.RatedResponses,
    }


def registered_media_generators() -> Table:
    """Returns the names of sources that make pictures, videos and sounds on the spot."""
    from jaxgen.data import generated

    return {
        "sprites": generated.Sprites,
        "sprite_questions": generated.SpriteQuestions,
        "moving_sprites": generated.MovingSprites,
        "tones": generated.Tones,
    }


def registered_installed_media() -> Table:
    """Returns the names of sources of pictures, sounds, videos and ratings of packages."""
    from jaxgen.data import installed

    return {
        "emoji": installed.Emoji,
        "handwritten_digits": installed.HandwrittenDigits,
        "asterisk_sounds": installed.AsteriskSounds,
        "synthesised_speech": installed.SynthesisedSpeech,
        "film_clips": installed.FilmClips,
        "rated_words": installed.RatedWords,
    }

"""The names of what batches are made of, from records to rows."""

from __future__ import annotations

from jaxgen.configuration.table import Table


def registered_data() -> Table:
    """Returns the names of mixtures, tasks, features, preprocessors and denoisings."""
    from jaxgen.data.chat import Chat
    from jaxgen.data.denoising import MaskedTokens, PrefixLM, SpanCorruption
    from jaxgen.data.features import PromptAnswer, Text
    from jaxgen.data.few_shot import FewShot
    from jaxgen.data.infilling import FillInTheMiddle
    from jaxgen.data.instructions import Instructions, tasks_of_families
    from jaxgen.data.interleaving import Interleave
    from jaxgen.data.masked_codes import MaskedCodes
    from jaxgen.data.masked_modalities import MaskedModalities, ModalityDenoising
    from jaxgen.data.media_files import DecodeMedia
    from jaxgen.data.media_rows import MediaRows
    from jaxgen.data.mixtures import Mixture, MixtureStage
    from jaxgen.data.pairs import ImageTextPairs
    from jaxgen.data.preprocessors import Choices, Keep, Rename, Template
    from jaxgen.data.prompted import PromptedMixture
    from jaxgen.data.resizing import ResizeImages
    from jaxgen.data.sentence_pairs import SentencePairs
    from jaxgen.data.tasks import Task
    from jaxgen.data.vector_prompts import CaptionVectors

    return {
        "mixture": Mixture,
        "mixture_stage": MixtureStage,
        "prompted_mixture": PromptedMixture,
        "image_text_pairs": ImageTextPairs,
        "media_rows": MediaRows,
        "task": Task,
        "text": Text,
        "prompt_answer": PromptAnswer,
        "chat": Chat,
        "prefix_lm": PrefixLM,
        "span_corruption": SpanCorruption,
        "masked_tokens": MaskedTokens,
        "masked_codes": MaskedCodes,
        "masked_modalities": MaskedModalities,
        "modality_denoising": ModalityDenoising,
        "sentence_pairs": SentencePairs,
        "rename": Rename,
        "template": Template,
        "choices": Choices,
        "keep": Keep,
        "decode_media": DecodeMedia,
        "resize_images": ResizeImages,
        "few_shot": FewShot,
        "instructions": Instructions,
        "tasks_of_families": tasks_of_families,
        "fill_in_the_middle": FillInTheMiddle,
        "interleave": Interleave,
        "caption_vectors": CaptionVectors,
    }

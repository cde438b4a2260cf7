"""The names of what a model is evaluated by, and of how it writes there."""

from __future__ import annotations

from jaxgen.configuration.table import Table


def registered_evaluation() -> Table:
    """Returns the names of evaluators, of their suites and of policies of sampling."""
    from jaxgen.evaluation.answers import Answers
    from jaxgen.evaluation.choices import MultipleChoice
    from jaxgen.evaluation.config import EvaluationConfig, EvaluationTask, zero_shot_suite
    from jaxgen.evaluation.drawn_pictures import DrawnPictures
    from jaxgen.evaluation.generations import CodeExecution, Generation, ListedItems
    from jaxgen.evaluation.groundedness import Groundedness
    from jaxgen.evaluation.made_picture_sets import MadePictureSets
    from jaxgen.evaluation.made_pictures import MadePictures
    from jaxgen.evaluation.made_vectors import MadeVectors
    from jaxgen.evaluation.media import GeneratedMedia
    from jaxgen.evaluation.pairs import Retrieval, ZeroShot
    from jaxgen.evaluation.pass_at_k import PassAtK
    from jaxgen.evaluation.perception import Descriptions, Transcripts
    from jaxgen.evaluation.picture_sets import PictureSets, PixelFeatures
    from jaxgen.evaluation.reconstructions import Reconstructions
    from jaxgen.evaluation.refusals import Refusals
    from jaxgen.generation.policies import ParallelDecoding, SamplingPolicy
    from jaxgen.runs.cascade_pictures import CascadePictures
    from jaxgen.runs.features import RunFeatures
    from jaxgen.runs.found_captions import FoundCaptions
    from jaxgen.runs.written_vectors import WrittenVectors

    return {
        "evaluation": EvaluationConfig,
        "evaluation_task": EvaluationTask,
        "zero_shot_suite": zero_shot_suite,
        "answers": Answers,
        "multiple_choice": MultipleChoice,
        "generation": Generation,
        "listed_items": ListedItems,
        "descriptions": Descriptions,
        "transcripts": Transcripts,
        "code_execution": CodeExecution,
        "pass_at_k": PassAtK,
        "groundedness": Groundedness,
        "refusals": Refusals,
        "retrieval": Retrieval,
        "zero_shot": ZeroShot,
        "reconstructions": Reconstructions,
        "made_pictures": MadePictures,
        "made_vectors": MadeVectors,
        "made_picture_sets": MadePictureSets,
        "drawn_pictures": DrawnPictures,
        "cascade_pictures": CascadePictures,
        "found_captions": FoundCaptions,
        "written_vectors": WrittenVectors,
        "picture_sets": PictureSets,
        "pixel_features": PixelFeatures,
        "run_features": RunFeatures,
        "sampling": SamplingPolicy,
        "parallel_decoding": ParallelDecoding,
        "generated_media": GeneratedMedia,
    }

"""The names that gin files use. Short, lower case, one for each dataclass a run is made of."""

from __future__ import annotations

from jaxgen.configuration.registered_diffusion import (
    registered_diffusion,
    registered_samplers,
)
from jaxgen.configuration.table import Table


def registered() -> Table:
    """Returns all names of jaxgen; rooms are imported when a configuration is first read."""
    from jaxgen.codecs.bytes import ByteCodec
    from jaxgen.codecs.sentencepiece import SentencePieceCodec
    from jaxgen.codecs.special import SpecialTokens
    from jaxgen.codecs.tokenizer import TokenizerCodec
    from jaxgen.data.bigbench import BigBench
    from jaxgen.data.chat import Chat
    from jaxgen.data.denoising import MaskedTokens, PrefixLM, SpanCorruption
    from jaxgen.data.embedded import StandardLibraryCode, StandardLibraryProse
    from jaxgen.data.features import PromptAnswer, Text
    from jaxgen.data.few_shot import FewShot
    from jaxgen.data.infilling import FillInTheMiddle
    from jaxgen.data.instructions import Instructions, tasks_of_families
    from jaxgen.data.masked_codes import MaskedCodes
    from jaxgen.data.masked_modalities import MaskedModalities, ModalityDenoising
    from jaxgen.data.media_files import DecodeMedia
    from jaxgen.data.media_rows import MediaRows
    from jaxgen.data.mixtures import Mixture, MixtureStage
    from jaxgen.data.pairs import ImageTextPairs
    from jaxgen.data.prepared import PreparedCorpus
    from jaxgen.data.preprocessors import Choices, Keep, Rename, Template
    from jaxgen.data.prompted import PromptedMixture
    from jaxgen.data.resizing import ResizeImages
    from jaxgen.data.sentence_pairs import SentencePairs
    from jaxgen.data.sources import InMemory
    from jaxgen.data.tables import ArrayRecord, HuggingFaceDataset, Parquet
    from jaxgen.data.tasks import Task
    from jaxgen.data.text_files import Jsonl, TextFiles
    from jaxgen.data.web_dataset import WebDataset
    from jaxgen.evaluation.answers import Answers
    from jaxgen.evaluation.choices import MultipleChoice
    from jaxgen.evaluation.config import EvaluationConfig, EvaluationTask, zero_shot_suite
    from jaxgen.evaluation.drawn_pictures import DrawnPictures
    from jaxgen.evaluation.generations import CodeExecution, Generation, ListedItems
    from jaxgen.evaluation.groundedness import Groundedness
    from jaxgen.evaluation.made_picture_sets import MadePictureSets
    from jaxgen.evaluation.made_pictures import MadePictures
    from jaxgen.evaluation.made_vectors import MadeVectors
    from jaxgen.evaluation.pairs import Retrieval, ZeroShot
    from jaxgen.evaluation.pass_at_k import PassAtK
    from jaxgen.evaluation.perception import Descriptions, Transcripts
    from jaxgen.evaluation.picture_sets import PictureSets, PixelFeatures
    from jaxgen.evaluation.reconstructions import Reconstructions
    from jaxgen.evaluation.refusals import Refusals
    from jaxgen.generation.policies import ParallelDecoding, SamplingPolicy
    from jaxgen.preparation.config import Preparation
    from jaxgen.preparation.decontamination import CutContamination, Decontaminate
    from jaxgen.preparation.duplicates import NearDuplicates
    from jaxgen.preparation.filters import (
        Characters,
        Language,
        Repetition,
        StopWords,
        Symbols,
        Without,
        Words,
    )
    from jaxgen.preparation.scrubbing import Scrub
    from jaxgen.runs.cascades import CascadePictures
    from jaxgen.runs.config import RunConfig
    from jaxgen.runs.features import RunFeatures
    from jaxgen.sharding.mesh import MeshConfig
    from jaxgen.sharding.pipeline import PipelineConfig
    from jaxgen.sharding.rules import Rules
    from jaxgen.training.batch_sizes import LinearRamp, SteppedRamp
    from jaxgen.training.config import TrainConfig
    from jaxgen.training.divergence import Divergence, Skip
    from jaxgen.training.execution import ExecutionConfig
    from jaxgen.training.optimizers.adafactor import Adafactor
    from jaxgen.training.optimizers.adamw import AdamW
    from jaxgen.training.optimizers.lion import Lion
    from jaxgen.training.optimizers.muon import Muon
    from jaxgen.training.optimizers.narrow_state import NarrowState
    from jaxgen.training.schedules import (
        InverseSquareRoot,
        RatePhase,
        RatePhases,
        WarmupCosine,
        WarmupStableDecay,
    )
    from jaxgen.training.tracking import TensorBoard

    return {
        "run": RunConfig,
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
        "text_files": TextFiles,
        "jsonl": Jsonl,
        "parquet": Parquet,
        "array_record": ArrayRecord,
        "hf_dataset": HuggingFaceDataset,
        "webdataset": WebDataset,
        "big_bench": BigBench,
        "in_memory": InMemory,
        "prepared": PreparedCorpus,
        "preparation": Preparation,
        "characters": Characters,
        "words": Words,
        "symbols": Symbols,
        "stop_words": StopWords,
        "repetition": Repetition,
        "language": Language,
        "without": Without,
        "scrub": Scrub,
        "near_duplicates": NearDuplicates,
        "decontaminate": Decontaminate,
        "cut_contamination": CutContamination,
        "standard_library_code": StandardLibraryCode,
        "standard_library_prose": StandardLibraryProse,
        **registered_generators(),
        **registered_assistant_generators(),
        **registered_media_generators(),
        **registered_installed_media(),
        **registered_media(),
        **registered_preferences(),
        "byte_codec": ByteCodec,
        "special_tokens": SpecialTokens,
        "tokenizer_codec": TokenizerCodec,
        "sentencepiece_codec": SentencePieceCodec,
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
        "picture_sets": PictureSets,
        "pixel_features": PixelFeatures,
        "run_features": RunFeatures,
        "sampling": SamplingPolicy,
        "parallel_decoding": ParallelDecoding,
        **registered_models(),
        **registered_samplers(),
        **registered_rewards(),
        "mesh": MeshConfig,
        "pipeline": PipelineConfig,
        "rules": Rules,
        "train": TrainConfig,
        "execution": ExecutionConfig,
        "tensorboard": TensorBoard,
        "divergence": Divergence,
        "skip": Skip,
        "adamw": AdamW,
        "adafactor": Adafactor,
        "lion": Lion,
        "muon": Muon,
        "narrow_state": NarrowState,
        "linear_ramp": LinearRamp,
        "stepped_ramp": SteppedRamp,
        "warmup_cosine": WarmupCosine,
        "warmup_stable_decay": WarmupStableDecay,
        "inverse_square_root": InverseSquareRoot,
        "rate_phases": RatePhases,
        "rate_phase": RatePhase,
    }


def registered_rewards() -> Table:
    """Returns the names of what scores completions, and of what learns from scores."""
    from jaxgen.objectives.policy_gradient import PolicyGradient
    from jaxgen.objectives.with_text import WithText
    from jaxgen.posttraining import verifiers
    from jaxgen.posttraining.advantages import (
        GeneralisedAdvantage,
        GroupRelative,
        LeaveOneOut,
        WholeReward,
    )
    from jaxgen.posttraining.gold import GoldReward, GroundedReward, SpellReward
    from jaxgen.posttraining.guarded import Guarded
    from jaxgen.posttraining.reasoning import ReasoningGymScore
    from jaxgen.posttraining.rewarded import RewardedCompletions
    from jaxgen.posttraining.rewards import RewardSum
    from jaxgen.posttraining.rollouts import Rollouts
    from jaxgen.posttraining.rollouts_and_text import RolloutsAndText
    from jaxgen.runs.reward_models import RunReward

    return {
        "rollouts": Rollouts,
        "rollouts_and_text": RolloutsAndText,
        "with_text_loss": WithText,
        "rewarded_completions": RewardedCompletions,
        "run_reward": RunReward,
        "policy_gradient": PolicyGradient,
        "group_relative": GroupRelative,
        "leave_one_out": LeaveOneOut,
        "generalised_advantage": GeneralisedAdvantage,
        "whole_reward": WholeReward,
        "answer_match": verifiers.AnswerMatch,
        "metric_reward": verifiers.MetricReward,
        "number_match": verifiers.NumberMatch,
        "program_tests": verifiers.ProgramTests,
        "pattern_match": verifiers.PatternMatch,
        "length_penalty": verifiers.LengthPenalty,
        "gold_reward": GoldReward,
        "spell_reward": SpellReward,
        "grounded_reward": GroundedReward,
        "reasoning_gym_score": ReasoningGymScore,
        "reward_sum": RewardSum,
        "guarded": Guarded,
    }


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


def registered_media() -> Table:
    """Returns the names of what pictures, sounds and clips become tokens by."""
    from jaxgen.codecs.learned import ImageCodec, SoundCodec
    from jaxgen.codecs.mel import MelFrames
    from jaxgen.codecs.mu_law import MuLaw
    from jaxgen.codecs.multimodal import MultimodalCodec
    from jaxgen.codecs.palettes import ImagePalette, SoundPalette, VideoPalette
    from jaxgen.codecs.vectors import ImageVectors, SoundVectors
    from jaxgen.data.interleaving import Interleave
    from jaxgen.evaluation.media import GeneratedMedia

    return {
        "multimodal_codec": MultimodalCodec,
        "image_vectors": ImageVectors,
        "sound_vectors": SoundVectors,
        "image_palette": ImagePalette,
        "video_palette": VideoPalette,
        "sound_palette": SoundPalette,
        "image_codec": ImageCodec,
        "sound_codec": SoundCodec,
        "mu_law": MuLaw,
        "mel_frames": MelFrames,
        "interleave": Interleave,
        "generated_media": GeneratedMedia,
    }


def registered_preferences() -> Table:
    """Returns the names of comparisons, and of what learns from them and is asked about them."""
    from jaxgen.data.comparison_fields import (
        LabelledCompletions,
        PreferencePairs,
        RankedCompletions,
        ScoredSteps,
    )
    from jaxgen.data.comparisons import Comparisons
    from jaxgen.data.unpairing import Unpair
    from jaxgen.evaluation.preferences import PreferenceAccuracy, StepAccuracy
    from jaxgen.objectives.preference import KTO, Preference
    from jaxgen.objectives.reward import ProcessRewards, RewardModeling

    return {
        "comparisons": Comparisons,
        "preference_pairs": PreferencePairs,
        "ranked_completions": RankedCompletions,
        "labelled_completions": LabelledCompletions,
        "scored_steps": ScoredSteps,
        "unpair": Unpair,
        "preference_loss": Preference,
        "kto_loss": KTO,
        "reward_loss": RewardModeling,
        "step_reward_loss": ProcessRewards,
        "preference_accuracy": PreferenceAccuracy,
        "step_accuracy": StepAccuracy,
    }


def registered_models() -> Table:
    """Returns the names that gin/models/ uses; without the other rooms."""
    from jaxgen.models.audio_config import AudioConfig
    from jaxgen.models.block_config import LatentConfig, LayerConfig
    from jaxgen.models.bottleneck import FiniteScalar, GumbelCodebook
    from jaxgen.models.config import ModelCard, TransformerConfig
    from jaxgen.models.diffusion.dit_config import DiTConfig
    from jaxgen.models.diffusion.mmdit_config import MMDiTConfig
    from jaxgen.models.diffusion.prior_config import PriorConfig
    from jaxgen.models.distilled_config import DistilledConfig
    from jaxgen.models.dual_encoder_config import DualEncoderConfig
    from jaxgen.models.image_autoencoder_config import ImageAutoencoderConfig
    from jaxgen.models.lora_config import LoraConfig
    from jaxgen.models.media_config import MediaInput, PatchesConfig, Projector
    from jaxgen.models.parametrization import Parametrization
    from jaxgen.models.policy_config import PolicyConfig
    from jaxgen.models.sound_autoencoder_config import SoundAutoencoderConfig
    from jaxgen.models.stack_config import StackConfig
    from jaxgen.models.vision import VisionConfig
    from jaxgen.objectives.contrastive import Contrastive
    from jaxgen.objectives.distillation import Distillation
    from jaxgen.objectives.multi_token import MultiToken
    from jaxgen.objectives.next_sentence import NextSentence
    from jaxgen.objectives.next_token import NextToken
    from jaxgen.objectives.reconstruction import Reconstruction
    from jaxgen.ops.attention.biases import Alibi, RelativeBias
    from jaxgen.ops.attention.grids import GridColumn, GridNeighbourhood, GridRow, SamePicture
    from jaxgen.ops.attention.masks import (
        Banded,
        Bidirectional,
        BlockCausal,
        Causal,
        Chunked,
        Either,
        Window,
    )
    from jaxgen.ops.initializers import Initialization
    from jaxgen.ops.moe_config import MoEConfig
    from jaxgen.ops.positions import LogTemperature, Rope, RopeScaling

    return {
        "model": TransformerConfig,
        "stack": StackConfig,
        "policy": PolicyConfig,
        "lora": LoraConfig,
        "distilled": DistilledConfig,
        "dual_encoder": DualEncoderConfig,
        "dit": DiTConfig,
        "mmdit": MMDiTConfig,
        "prior": PriorConfig,
        "vision": VisionConfig,
        "audio_encoder": AudioConfig,
        "patches": PatchesConfig,
        "projector": Projector,
        "media_input": MediaInput,
        "image_autoencoder": ImageAutoencoderConfig,
        "sound_autoencoder": SoundAutoencoderConfig,
        "finite_scalar": FiniteScalar,
        "gumbel_codebook": GumbelCodebook,
        "card": ModelCard,
        "layer": LayerConfig,
        "causal": Causal,
        "bidirectional": Bidirectional,
        "block_causal": BlockCausal,
        "window": Window,
        "banded": Banded,
        "chunked": Chunked,
        "either": Either,
        "grid_row": GridRow,
        "same_picture": SamePicture,
        "grid_column": GridColumn,
        "grid_neighbourhood": GridNeighbourhood,
        "rope": Rope,
        "rope_scaling": RopeScaling,
        "log_temperature": LogTemperature,
        "alibi": Alibi,
        "relative_bias": RelativeBias,
        "latent": LatentConfig,
        "moe": MoEConfig,
        "initialization": Initialization,
        "parametrization": Parametrization,
        "next_token_loss": NextToken,
        "multi_token_loss": MultiToken,
        "distillation_loss": Distillation,
        "next_sentence_loss": NextSentence,
        "contrastive_loss": Contrastive,
        "reconstruction_loss": Reconstruction,
        **registered_diffusion(),
    }

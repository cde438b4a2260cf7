"""The names of what text, pictures, sounds and clips become tokens by."""

from __future__ import annotations

from jaxgen.configuration.table import Table


def registered_codecs() -> Table:
    """Returns the names of codecs of text and of media."""
    from jaxgen.codecs.bytes import ByteCodec
    from jaxgen.codecs.learned import ImageCodec, SoundCodec
    from jaxgen.codecs.mel import MelFrames
    from jaxgen.codecs.mu_law import MuLaw
    from jaxgen.codecs.multimodal import MultimodalCodec
    from jaxgen.codecs.palettes import ImagePalette, SoundPalette, VideoPalette
    from jaxgen.codecs.sentencepiece import SentencePieceCodec
    from jaxgen.codecs.special import SpecialTokens
    from jaxgen.codecs.tokenizer import SecondTokenizer, TokenizerCodec
    from jaxgen.codecs.vectors import ImageVectors, SoundVectors
    from jaxgen.codecs.written_vectors import VectorCodec

    return {
        "byte_codec": ByteCodec,
        "special_tokens": SpecialTokens,
        "tokenizer_codec": TokenizerCodec,
        "second_tokenizer": SecondTokenizer,
        "sentencepiece_codec": SentencePieceCodec,
        "multimodal_codec": MultimodalCodec,
        "image_vectors": ImageVectors,
        "sound_vectors": SoundVectors,
        "image_palette": ImagePalette,
        "video_palette": VideoPalette,
        "sound_palette": SoundPalette,
        "image_codec": ImageCodec,
        "sound_codec": SoundCodec,
        "vector_codec": VectorCodec,
        "mu_law": MuLaw,
        "mel_frames": MelFrames,
    }

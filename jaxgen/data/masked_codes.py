"""Pictures of which some codes are masked, to be predicted from all the others at once."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from jaxgen.codecs.codec import Codec
from jaxgen.codecs.joint import begin_ids
from jaxgen.codecs.media import locate, media_ranges
from jaxgen.data.draws import Draws
from jaxgen.data.protocols import Sizes
from jaxgen.data.segments import Segment
from jaxgen.domains import check_domains
from jaxgen.errors import DataError
from jaxgen.ops.mask_schedules import MaskSchedule, masked_share


@dataclasses.dataclass(frozen=True)
class MaskedCodes:
    """Predicts codes of an example's last picture, sound or clip (MaskGIT, 2202.04200, 3.1).

    All before it is a prompt, which sees all of itself and no code; the codes see the prompt and
    one another, in block-causal layers. A uniform draw says by the schedule how many are masked.
    Targets are in their own places (next_token_loss.in_place).

    Attributes:
      schedule: from the draw to the share that is masked.
      mask: the mask token's name in the tokenizer.
    """

    schedule: MaskSchedule = "cosine"
    mask: str = "<|mask|>"

    has_blocks = True

    def __post_init__(self):
        check_domains(self, "masked_codes")

    def sizes(self, chunks: np.ndarray, codec: Codec, has_source: bool) -> Sizes:
        """Maps [chunks] lengths to sizes, of examples with the tokens that begin and end them."""
        if has_source:
            raise DataError(
                "masked_codes is for a model without an encoder beside it; leave out "
                "train.source_length."
            )
        return chunks + 1 + len(begin_ids(codec)), np.zeros_like(chunks)

    def segment(self, ids: np.ndarray, codec: Codec, draws: Draws, has_source: bool) -> Segment:
        """Returns an example's segment.

        Raises:
          DataError: if it has no codes.
        """
        del has_source
        begin = begin_ids(codec)  # As generation has it.
        targets = np.concatenate([begin, ids, [codec.end_id]]).astype(np.int32)
        ranges = media_ranges(codec)
        modalities, places = locate(targets, ranges)
        has_codes = [one.form is None for one in ranges]
        first, stop = last_run(np.where(np.append(False, has_codes)[modalities], modalities, 0))
        size = stop - first
        share = masked_share(float(draws.uniform(1)[0]), self.schedule)
        count = min(max(math.ceil(size * share), 1), size)
        is_masked = np.zeros(len(targets), bool)
        is_masked[first:stop] = draws.chosen(size, count)
        tokens = np.where(is_masked, codec.special_id(self.mask), targets).astype(np.int32)
        blocks = np.maximum(np.arange(len(targets)), first - 1)
        blocks[first:stop] = stop - 1
        weights = is_masked.astype(np.float32)
        return Segment(
            tokens, targets, weights, blocks.astype(np.int32), modalities=modalities, places=places
        )


def last_run(modalities: np.ndarray) -> tuple[int, int]:
    """Returns where the codes of an example's last picture, sound or clip begin and stop.

    Raises:
      DataError: if it has none.
    """
    is_code = modalities > 0
    if not is_code.any():
        raise DataError(
            "an example has no codes to mask; give the task's records pictures, sounds or clips "
            "(interleave.fields), or leave the denoising out."
        )
    stop = int(np.flatnonzero(is_code)[-1]) + 1
    before = np.flatnonzero(~is_code[:stop])
    return (int(before[-1]) + 1 if len(before) else 0), stop

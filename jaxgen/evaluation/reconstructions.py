"""The evaluator of autoencoders: how well held-out pictures and sounds come back from codes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.codecs.media import Media
from jaxgen.data.media_rows import MediaRows
from jaxgen.domains import NonNegativeInt, PositiveInt, check_domains
from jaxgen.errors import ConfigError, DataError
from jaxgen.evaluation.answers import instance_of
from jaxgen.evaluation.base import EvaluationContext, Row
from jaxgen.evaluation.media import VERIFIERS, data_uri
from jaxgen.evaluation.pairs import in_batches
from jaxgen.media_batch import MediaBatch
from jaxgen.objectives.fidelity import psnr, si_sdr


@dataclasses.dataclass(frozen=True)
class Reconstructions:
    """Encodes held-out pictures or sounds, decodes them, and compares.

    Attributes:
      num_examples: held-out rows, or all if there are fewer.
      verified: whether the task's source reads off what came back, as it would what a model made
        over these codes; no model can then be better than this.
      text: the field whose text the source compares with, where it has several.
      shown: instances whose picture is kept in the rows, the original beside what came back.
      name: the name in tables.
    """

    num_examples: PositiveInt = 256
    verified: bool = False
    text: str | None = None
    shown: NonNegativeInt = 16
    name: str = "reconstructions"

    def __post_init__(self):
        check_domains(self, "reconstructions")

    def check(self, context: EvaluationContext) -> None:
        """Raises ConfigError if the data are no rows of media, or their source verifies nothing."""
        rows = self._rows_of(context)
        if self.verified:
            self._verifier(rows, len(rows.shape) > 1)

    def _rows_of(self, context: EvaluationContext) -> MediaRows:
        if not isinstance(context.data, MediaRows):
            raise ConfigError(
                f"the evaluator {self.name} needs data of media alone (@media_rows()), not "
                f"{type(context.data).__name__}."
            )
        return context.data

    def __call__(self, model: Any, context: EvaluationContext) -> list[Row]:
        """Returns a row an instance.

        Returns:
          Rows with "instance"; "psnr" of a picture or "si_sdr" of a sound, in dB; "code_bits" where
          there are codes, the mean surprise of its codes among all that were made here, whose mean
          is their entropy (of K codes that are used alike log2 K, and two to its power the
          perplexity); with `verified`
          "exact_match", whether all is read off rightly; and of the first pictures
          "made" and "reference", as data URIs.

        Raises:
          ConfigError: if the data are no rows of media, or their source verifies nothing.
        """
        rows = self._rows_of(context)
        records = rows.task.instances(self.num_examples, context.seed, "heldout")
        if not records:
            raise DataError(f"task {rows.name} has no example in its heldout split.")
        values = np.stack([rows.values(record) for record in records])
        made, codes = in_batches(_made_and_codes, model, (values,), context.batch_size)
        is_image = values.ndim > 2
        name, fidelity = ("psnr", psnr) if is_image else ("si_sdr", si_sdr)
        originals = values / np.float32(255) if is_image else values
        decibels = np.asarray(fidelity(jnp.asarray(originals), jnp.asarray(made)))
        bits = None if codes is None else _surprise(codes)
        finished = (np.clip(made, 0, 1) * 255 + 0.5).astype(np.uint8) if is_image else made
        return [
            {
                "instance": instance_of(record, place),
                name: float(decibels[place]),
                **({} if bits is None else {"code_bits": float(bits[place])}),
                **self._read_off(rows, record, finished[place]),
                **(
                    _shown(values[place], finished[place])
                    if is_image & (place < self.shown)
                    else {}
                ),
            }
            for place, record in enumerate(records)
        ]

    def _read_off(self, rows: MediaRows, record: dict[str, Any], made: np.ndarray) -> Row:
        if not self.verified:
            return {}
        verify = self._verifier(rows, made.ndim == 3)
        options = {} if self.text is None else {"text": self.text}
        return {"exact_match": int(verify(record, made, **options)["all"])}

    def _verifier(self, rows: MediaRows, is_image: bool) -> Callable[..., dict[str, Any]]:
        verifier = VERIFIERS["image" if is_image else "audio"]
        verify = getattr(rows.task.source, verifier, None)
        if verify is None:
            raise ConfigError(
                f"reconstructions.verified=True needs a source that verifies what was made, and "
                f"{type(rows.task.source).__name__} has no method {verifier}; set it to False."
            )
        return verify


def _surprise(codes: np.ndarray) -> np.ndarray:
    """Returns the mean surprise in bits of each row's codes among those of all rows."""
    _, places, counts = np.unique(codes, return_inverse=True, return_counts=True)
    bits = -np.log2(counts / codes.size)
    return bits[places.reshape(codes.shape)].mean(axis=1)


def _shown(original: np.ndarray, made: np.ndarray) -> Row:
    pictures = {"made": made, "reference": original}
    return {name: data_uri(Media("image", values)) for name, values in pictures.items()}


@jax.jit
def _made_and_codes(model: Any, values: jax.Array) -> tuple[jax.Array, jax.Array | None]:
    output = model(MediaBatch(values))
    return output.made, output.codes

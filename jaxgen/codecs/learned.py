"""Codecs of pictures and sounds by an autoencoder that was trained as a run.

    jaxgen codec export RUN pictures.safetensors

The file has the parameters, and a text of the autoencoder that they are of. Encoding computes on a
CPU, a row at a time, so that the codes of a row depend on nothing beside it: not on a batch, nor on
the devices of the run. Other processors may round otherwise, and then give a row that lies between
two codes the other one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import multiprocessing
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Protocol, runtime_checkable

import jax
import numpy as np

from jaxgen.codecs.kept_file import KeptFile
from jaxgen.codecs.media import Grid, Modality, check_sound
from jaxgen.domains import PositiveFloat, check_domains
from jaxgen.errors import ConfigError, DataError

KEPT_CODES = 2**22
"""Codes of rows that a codec remembers, as the same ones often come again."""


@runtime_checkable
class AutoencoderLike(Protocol):
    """The configuration of an autoencoder, such as `models.autoencoder_config` has them.

    Attributes:
      modality: "image" or "audio".
      shape: of a row: height, width and channels, or samples.
      grid: how many codes of a row lie along time, height and width.
      num_codes: different codes.
      identity: a text that is equal for equal autoencoders.
    """

    @property
    def modality(self) -> Modality: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def grid(self) -> Grid: ...

    @property
    def num_codes(self) -> int: ...

    @property
    def identity(self) -> str: ...

    def restored(self, arrays: Mapping[str, np.ndarray]) -> Any:
        """Returns the model of parameters by name, with `encode(values)` and `decode(codes)`.

        Raises:
          ConfigError: if they are not its parameters.
        """
        ...


class LearnedCodec(KeptFile):
    """The base of codecs of one modality by an autoencoder."""

    WHAT: ClassVar[str] = "codec"
    MADE_BY: ClassVar[str] = "jaxgen codec export"
    NAME: ClassVar[str]
    MODALITY: ClassVar[Modality]
    autoencoder: AutoencoderLike

    def __post_init__(self):
        check_domains(self, self.NAME)
        if self.autoencoder.modality != self.MODALITY:
            raise ConfigError(
                f"{self.NAME}.autoencoder is one of {self.autoencoder.modality}, not of "
                f"{self.MODALITY}; name one that is."
            )
        self.read_digest()

    @property
    def modality(self) -> Modality:
        """Returns what the codes are of."""
        return self.MODALITY

    @property
    def num_codes(self) -> int:
        """Returns the different codes."""
        return self.autoencoder.num_codes

    @functools.cached_property
    def _model(self) -> Any:
        """Returns the autoencoder on a CPU.

        Raises:
          DataError: if the file is no codec, or that of another autoencoder.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path, "numpy") as file:
                found = (file.metadata() or {}).get("autoencoder")
                # An open file of safetensors has names, but is not iterated over.
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise DataError(
                f"{self.path} is not a codec; `jaxgen codec export` makes one: {error}."
            ) from error
        if found is None:
            raise DataError(
                f"{self.path} is a file of arrays and not a codec, which names its autoencoder; "
                "`jaxgen codec export` makes one. A palette is of @image_palette()."
            )
        if found != self.autoencoder.identity:
            raise DataError(
                f"the codec {self.path} is of {found}, and {self.NAME}.autoencoder is "
                f"{self.autoencoder.identity}: include the gin file that it was trained with."
            )
        if not all(np.isfinite(one).all() for one in arrays.values()):
            raise DataError(f"the codec {self.path} has parameters that are not finite.")
        with on_cpu():
            return self.autoencoder.restored(arrays)

    @property
    def text_digest(self) -> str:
        """Returns the digest of the codec of texts that the file notes, or "".

        Raises:
          DataError: if the file is no codec.
        """
        self._model  # noqa: B018  (It says what is wrong with a file.)
        from safetensors import safe_open

        with safe_open(self.path, "numpy") as file:
            return (file.metadata() or {}).get("codec", "")

    @functools.cached_property
    def _kept(self) -> dict[bytes, np.ndarray]:
        """The codes of rows by a digest of the row."""
        return {}

    def __getstate__(self) -> dict[str, Any]:
        fields: Any = dataclasses.fields(self)  # pyright: ignore[reportArgumentType]
        return {field.name: getattr(self, field.name) for field in fields}

    def _codes(self, row: np.ndarray) -> np.ndarray:
        """Returns the codes [n] int32 of a row of the autoencoder's shape."""
        key = hashlib.blake2b(np.ascontiguousarray(row).tobytes(), digest_size=16).digest()
        codes = self._kept.get(key)
        if codes is None:
            model = self._model
            with on_cpu():
                codes = np.asarray(_encode(model, row[None]))[0]
            if len(self._kept) * len(codes) >= KEPT_CODES:
                self._kept.clear()
            self._kept[key] = codes
        return codes.copy()

    def _row(self, codes: np.ndarray) -> np.ndarray:
        """Returns the row, float32, that codes [n] stand for."""
        model = self._model
        with on_cpu():
            return np.asarray(_decode(model, np.asarray(codes, np.int32)[None]))[0]


class PictureCodec(LearnedCodec):
    """The base of codecs of pictures of one size."""

    MODALITY: ClassVar[Modality] = "image"

    @property
    def varies(self) -> bool:
        """Returns that pictures are of one size."""
        return False

    @property
    def size(self) -> tuple[int, int]:
        """Returns the height and width of a picture."""
        height, width, _ = self.autoencoder.shape
        return height, width

    @property
    def grid(self) -> Grid:
        """Returns the autoencoder's."""
        return self.autoencoder.grid


@dataclasses.dataclass(frozen=True)
class ImageCodec(PictureCodec):
    """Pictures of one size as the codes of an autoencoder.

    Attributes:
      path: of the file.
      autoencoder: that the file's parameters are of.
      digest: its sha256, checked when it is read; None takes the file's own.
    """

    path: str = dataclasses.field(compare=False)
    autoencoder: AutoencoderLike
    digest: str = None  # pyright: ignore[reportAssignmentType]

    NAME: ClassVar[str] = "image_codec"
    KEPT_FILES: ClassVar[dict[str, str]] = {"path": "image_codec.safetensors"}

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Returns the codes of a picture; see `MediaCodec.encode`."""
        shape = self.autoencoder.shape
        if values.shape != shape or values.dtype != np.uint8:
            raise DataError(
                f"a picture is {values.dtype} of {'x'.join(map(str, values.shape))}, and its codec "
                f"is for uint8 of {'x'.join(map(str, shape))}: resize it (decode_media.height, "
                "width), or use a codec of its size."
            )
        return self._codes(values)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Returns the picture of codes; see `MediaCodec.decode`."""
        return (np.clip(self._row(codes), 0, 1) * 255 + 0.5).astype(np.uint8)


@dataclasses.dataclass(frozen=True)
class SoundCodec(LearnedCodec):
    """Sounds as the codes of an autoencoder of waveforms.

    Attributes:
      path: of the file.
      autoencoder: that the file's parameters are of; it has a `rate` and the samples of a `frame`.
      digest: its sha256, checked when it is read; None takes the file's own.
      seconds: of the longest sound.
    """

    path: str = dataclasses.field(compare=False)
    autoencoder: AutoencoderLike
    digest: str = None  # pyright: ignore[reportAssignmentType]
    seconds: PositiveFloat = 1.0

    NAME: ClassVar[str] = "sound_codec"
    MODALITY: ClassVar[Modality] = "audio"
    KEPT_FILES: ClassVar[dict[str, str]] = {"path": "sound_codec.safetensors"}

    @property
    def varies(self) -> bool:
        """Returns that sounds may be shorter."""
        return True

    @property
    def rate(self) -> int:
        """Returns the samples a second."""
        return self._sound.rate

    @property
    def grid(self) -> Grid:
        """Returns the frames of the longest sound, and the codes of each."""
        frames = -(-round(self.seconds * self.rate) // self._sound.frame)
        return frames, *self.autoencoder.grid[1:]

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Returns the codes of the frames of a sound, the last filled up with silence."""
        check_sound(values, "sound_codec", self.seconds, self.rate)
        frames, height, width = self.grid
        row = np.zeros(frames * self._sound.frame, np.float32)
        row[: len(values)] = values
        return self._codes(row)[: -(-len(values) // self._sound.frame) * height * width]

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Returns the samples of codes of whole frames."""
        return np.clip(self._row(codes), -1, 1).astype(np.float32)

    @property
    def _sound(self) -> Any:
        return self.autoencoder


@jax.jit
def _encode(model: Any, rows: jax.Array) -> jax.Array:
    return model.encode(rows)


@jax.jit
def _decode(model: Any, codes: jax.Array) -> jax.Array:
    return model.decode(codes)


@contextlib.contextmanager
def on_cpu() -> Iterator[None]:
    """Computes on a CPU, outside of any mesh."""
    if multiprocessing.parent_process() is not None:
        # A data worker must not take the accelerator that its parent holds.
        jax.config.update("jax_platforms", "cpu")
    nowhere = jax.sharding.AbstractMesh((), ())
    with (
        jax.default_device(jax.local_devices(backend="cpu")[0]),
        jax.sharding.use_abstract_mesh(nowhere),
    ):
        yield
